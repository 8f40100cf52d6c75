"""The rules by which a node is available, against what deployed listeners make of them."""

import re

import hypothesis.strategies as st
import pytest
from hypothesis import given

from osmo_reports.conditions import (
    MAX_PATTERN,
    MAX_RULES,
    ConditionRules,
    check_rules,
)
from osmo_reports.errors import RulesError

Conditions = list[tuple[str, str]]


def allow(rules: dict[str, str], conditions: Conditions) -> bool:
    """What the rules say, none of which is wrong."""
    compiled, problems = ConditionRules.compile(rules)
    assert not problems
    return compiled.allow(conditions)


@pytest.mark.parametrize(
    ("rules", "conditions", "allowed"),
    [
        # 3.3: `^Ready$` -> `True` unless some pattern matches "Ready"
        ({}, [("Ready", "True")], True),
        ({}, [("Ready", "False")], False),
        ({}, [("Ready", "Unknown")], False),
        ({"Ready": "True|False"}, [("Ready", "False")], True),
        ({"Rea": "False"}, [("Ready", "False")], True),
        ({"R": "Unknown"}, [("Ready", "True")], False),
        ({"Disk": "False"}, [("Ready", "False")], False),
        # 3.3: no Ready condition at all is still available
        ({}, [], True),
        ({"Disk": "False"}, [("Other", "True")], True),
        # 3.3: searched from the beginning, no end anchor, no group
        ({"Gpu": "False"}, [("GpuBroken", "True")], False),
        ({"Gpu": "False"}, [("MyGpu", "True")], True),
        ({"^Gpu$": "False"}, [("GpuBroken", "True")], True),
        ({"Disk|Gpu": "False"}, [("MyGpu", "True")], False),
        ({"Disk|Gpu": "False"}, [("MyDisk", "True")], True),
        # 3.3: the status matches as a whole
        ({"Disk": "Fal"}, [("Disk", "False")], False),
        ({"Disk": "True|False"}, [("Disk", "False")], True),
        ({"Disk": "F.*"}, [("Disk", "False")], True),
        # 3.3: at least one of the rules about a condition
        ({"Disk": "True", "DiskP": "False"}, [("DiskPressure", "False")], True),
        ({"Disk": "True", "DiskP": "False"}, [("DiskPressure", "Unknown")], False),
        # 3.3: every condition that has rules
        ({"A": "True", "B": "True"}, [("A", "True"), ("B", "False")], False),
        ({"A": "True", "B": "True"}, [("A", "True"), ("B", "True")], True),
        # 3.3: `^` and nothing more is found in every type, and in "Ready" too
        ({"": "True"}, [("Ready", "True"), ("Disk", "True")], True),
        ({"": "True"}, [("Ready", "True"), ("Disk", "False")], False),
        ({"": "True"}, [], True),
        ({"": "False"}, [("Ready", "False")], True),
        ({"": "False"}, [("Ready", "True")], False),
        ({"": "True", "Disk": "False"}, [("Ready", "True"), ("Disk", "False")], True),
        ({"": ".*"}, [("Ready", "False")], True),
        ({"|Disk": "True"}, [("Other", "False")], False),
        ({"Disk|": "True"}, [("Other", "False")], False),
        # 3.3: `^(?:)$` matches no status but the empty one
        ({"Disk": ""}, [("Disk", "False")], False),
        ({"Disk": ""}, [("Disk", "")], True),
        ({"Disk": "|False"}, [("Disk", "False")], True),
        ({"Disk": "", "Dis": "False"}, [("Disk", "False")], True),
        ({"": ""}, [("Ready", "True")], False),
        # 3.3: what has to be a regular expression is the whole, with what is put around it
        ({"*": "True"}, [("Disk", "False")], False),
        ({"Disk": "True)|(?:False"}, [("Disk", "NotFalse")], True),
    ],
)
def test_the_rule(rules: dict[str, str], conditions: Conditions, allowed: bool) -> None:
    """Rule 3.3, clause by clause."""
    assert allow(rules, conditions) is allowed


@pytest.mark.parametrize(
    ("rules", "conditions", "allowed"),
    [
        ({"(": "True", "Disk": "False"}, [("Disk", "True")], False),
        ({"(": "True"}, [("Disk", "False")], True),
        ({"Disk": "["}, [("Disk", "False")], True),
        ({"Ready": "["}, [("Ready", "False")], False),
    ],
)
def test_an_invalid_rule_is_skipped(
    rules: dict[str, str], conditions: Conditions, allowed: bool
) -> None:
    """3.3: and the others hold, the one for Ready included."""
    compiled, problems = ConditionRules.compile(rules)
    assert len(problems) == 1
    assert compiled.allow(conditions) is allowed


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ({"(": "True"}, "the rule (=True: '(' is no regular expression of RE2: missing )"),
        ({"A": "["}, "the rule A=["),
        ({"A)|(B": "True"}, "is no regular expression"),
        ({"A": "*"}, "is no regular expression"),
        ({"(?=A)": "True"}, "invalid perl operator"),
        ({"A" * (MAX_PATTERN + 1): "True"}, f"{MAX_PATTERN} may be used"),
        ({"A": "\ud800"}, "is no regular expression"),
        ({"(?:A{1000}){1000}": "True"}, "invalid repetition"),
        ({f"A{n}": "True" for n in range(MAX_RULES + 1)}, f"{MAX_RULES} may be used"),
    ],
)
def test_a_wrong_rule_is_named_and_left_out(rules: dict[str, str], problem: str) -> None:
    """`check_rules` refuses all of them, `compile` goes on with the others."""
    with pytest.raises(RulesError, match=re.escape(problem)) as refused:
        check_rules(rules)
    assert len(refused.value.problems) == 1
    compiled, problems = ConditionRules.compile({"Disk": "False"} | rules)
    assert len(problems) == 1
    assert not compiled.allow([("DiskPressure", "True")])


def test_a_pattern_that_others_would_try_for_ever_takes_no_time() -> None:
    """RE2 does not backtrack: `re` would take longer than the universe for this one."""
    compiled, _ = ConditionRules.compile({"(a+)+b": "(a+)+b"})
    assert compiled.allow([("a" * 100_000, "x")])
    assert not compiled.allow([("aab", "a" * 100_000)])


NAMES = ["Ready", "Disk", "DiskPressure", "Gpu", "MyGpu"]
PATTERNS = st.sampled_from([*NAMES, "", "|", "D", ".*", "Disk|Gpu", "^Ready$", "[RG]", "e", "Gpu$"])
STATUSES = st.sampled_from(["True", "False", "Unknown"])


def naive(rules: dict[str, str], conditions: Conditions) -> bool:
    """Section 3.3 in the words of `re`, which agrees with RE2 on these patterns."""
    rules = {"^" + pattern: status for pattern, status in rules.items()}
    if not any(re.search(pattern, "Ready") for pattern in rules):
        rules["^Ready$"] = "True"
    for type_, status in conditions:
        wanted = [regex for pattern, regex in rules.items() if re.search(pattern, type_)]
        if wanted and not any(re.search(f"^(?:{regex})$", status) for regex in wanted):
            return False
    return True


@given(
    st.dictionaries(
        PATTERNS, st.sampled_from(["True", "False", "True|False", "Un.*", "T", "", "|True"])
    ),
    st.lists(st.tuples(st.sampled_from(NAMES), STATUSES), max_size=6),
)
def test_it_is_what_a_naive_reading_says(rules: dict[str, str], conditions: Conditions) -> None:
    """Any rules, any conditions."""
    assert allow(rules, conditions) is naive(rules, conditions)
