"""Selectors against a naive reading of their requirements."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osmo_simulator.errors import StatusError
from osmo_simulator.resources import NODES, PODS
from osmo_simulator.selectors import compile_selectors, parse_labels

KEYS = st.sampled_from(["app", "osmo.task_uuid", "example.com/in", "notin"])
VALUES = st.sampled_from(["", "x", "in", "7", "-3"])
LABELS = st.dictionaries(KEYS, VALUES)
OPERATORS = st.sampled_from(["exists", "absent", "=", "==", "!=", "in", "notin"])
REQUIREMENTS = st.lists(
    st.tuples(KEYS, OPERATORS, st.lists(VALUES, min_size=1, max_size=3)), min_size=1, max_size=4
)
SPACE = st.sampled_from(["", " "])

Requirement = tuple[str, str, list[str]]


def text(requirement: Requirement, space: str) -> str:
    """A requirement as a user writes it."""
    key, operator, values = requirement
    match operator:
        case "exists":
            return key
        case "absent":
            return f"!{space}{key}"
        case "in" | "notin":
            return f"{key} {operator} ({f',{space}'.join(values)})"
    return f"{key}{space}{operator}{space}{values[0]}"


def holds(requirement: Requirement, labels: dict[str, str]) -> bool:
    """Whether labels meet a requirement, by the words of the documentation."""
    key, operator, values = requirement
    present = key in labels
    value = labels.get(key)
    return {
        "exists": present,
        "absent": not present,
        "=": present and value == values[0],
        "==": present and value == values[0],
        "!=": not present or value != values[0],
        "in": present and value in values,
        "notin": not present or value not in values,
    }[operator]


@settings(max_examples=200)
@given(requirements=REQUIREMENTS, labels=LABELS, space=SPACE)
def test_label_selectors(
    requirements: list[Requirement], labels: dict[str, str], space: str
) -> None:
    """A selector selects what meets all of its requirements."""
    selector = f",{space}".join(text(requirement, space) for requirement in requirements)
    selected = compile_selectors(PODS, labels=selector)
    assert selected is not None
    expected = all(holds(requirement, labels) for requirement in requirements)
    assert selected({"metadata": {"name": "a", "labels": labels}}) == expected


@settings(max_examples=200)
@given(st.text(alphabet="ab ,()=!<>in", max_size=12))
def test_any_text_parses_or_is_refused(selector: str) -> None:
    """No selector makes the server fail."""
    try:
        tests = parse_labels(selector)
    except StatusError as exc:
        if exc.code != 400:
            raise
    else:
        assert all(isinstance(test({"a": "b"}), bool) for test in tests)


@pytest.mark.parametrize("selector", ["a<b", "a>1.5", "a>"])
def test_comparisons_need_a_number(selector: str) -> None:
    """A comparison with something else than a whole number is refused."""
    with pytest.raises(StatusError, match="must be an integer"):
        parse_labels(selector)


@pytest.mark.parametrize(("value", "expected"), [("8", True), ("x", False), (None, False)])
def test_comparison_with_labels_that_are_no_numbers(value: str | None, expected: bool) -> None:
    """A label that is no number is neither greater nor less."""
    labels = {} if value is None else {"a": value}
    (greater,) = parse_labels("a > 7")
    assert greater(labels) == expected


def test_no_selector_selects_everything() -> None:
    """Without any selector there is nothing to test."""
    assert compile_selectors(PODS, labels=" ", fields="") is None


@pytest.mark.parametrize(
    ("fields", "obj", "expected"),
    [
        ("spec.nodeName=n", {"spec": {"nodeName": "n"}}, True),
        ("spec.nodeName!=n", {"spec": {}}, True),
        ("spec.nodeName=", {}, True),
        ("status.phase==Running,spec.nodeName=n", {"status": {"phase": "Running"}}, False),
    ],
)
def test_field_selectors(fields: str, obj: dict[str, Any], expected: bool) -> None:
    """A field that is absent is empty; every term must hold."""
    selected = compile_selectors(PODS, fields=fields)
    assert selected is not None
    assert selected({"metadata": {"name": "a"}, **obj}) == expected


def test_fields_depend_on_the_resource() -> None:
    """A field of another resource is not supported."""
    with pytest.raises(StatusError, match=r"field label not supported: status\.phase"):
        compile_selectors(NODES, fields="status.phase=Running")
