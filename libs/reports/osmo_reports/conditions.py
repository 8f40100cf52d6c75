"""The rules by which a node counts as available: which conditions have to have which status.

A rule maps a pattern of a condition's type to a pattern of its status, as `Ready` to `True` or
`^Gpu.*Problem$` to `False|Unknown`. What they mean is what the listeners already deployed make of
them:

- A type pattern is searched for from the beginning of the type, and need not reach its end: the
  empty one is about every type. Only its first alternative is bound to the beginning: `A|B` finds
  an `A` in front, or any `B`.
- A status pattern has to match the whole status: the empty one matches none that a node has.
- A pattern that is none is left out with its rule, the others hold.
- Of a condition for which there are rules, at least one has to be content with the status. A
  condition without a rule says nothing, and neither does one that a node does not have.
- Unless some rule is about the type `Ready`, one is added: it has to be `True`.

The patterns are RE2's, which takes linear time whatever they are. This is the only module that
imports it.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from osmo_reports.errors import RulesError
from osmo_transport.errors import MissingExtraError

if TYPE_CHECKING:
    import re2

MAX_RULES = 100
"""Rules of one backend: each is tried on every condition of every node."""

MAX_PATTERN = 500
"""Characters of a pattern."""

READY = "Ready"
DEFAULT_RULES: Mapping[str, str] = {READY: "True"}
"""What a backend begins with."""


class _Rule(NamedTuple):
    type: "re2._Regexp[str]"
    status: "re2._Regexp[str]"


class ConditionRules:
    """Compiled rules; made by `compile`."""

    def __init__(self, rules: tuple[_Rule, ...]) -> None:
        self._rules = rules

    @classmethod
    def compile(cls, rules: Mapping[str, str]) -> tuple["ConditionRules", list[str]]:
        """The rules, and what is wrong with those of them that cannot be used and are left out.

        Raises:
            MissingExtraError: RE2 is not installed.
        """
        problems: list[str] = []
        compiled: list[_Rule] = []
        for number, (type_pattern, status_pattern) in enumerate(rules.items()):
            if number == MAX_RULES:
                problems.append(f"there are {len(rules)} rules, and {MAX_RULES} may be used")
                break
            try:
                rule = _Rule(_compile(type_pattern, "^{}"), _compile(status_pattern, "^(?:{})$"))
            except ValueError as exc:
                problems.append(f"the rule {_shown(type_pattern, status_pattern)}: {exc}")
            else:
                compiled.append(rule)
        if not any(rule.type.search(READY) for rule in compiled):
            compiled.append(_Rule(_compile(READY, "^{}$"), _compile("True", "^(?:{})$")))
        return cls(tuple(compiled)), problems

    def allow(self, conditions: Iterable[tuple[str, str]]) -> bool:
        """Whether a node with these conditions, each a type and a status, may be available."""
        return all(self._content(type_, status) for type_, status in conditions)

    def _content(self, type_: str, status: str) -> bool:
        about = [rule for rule in self._rules if rule.type.search(type_)]
        return not about or any(rule.status.search(status) for rule in about)


def check_rules(rules: Mapping[str, str]) -> None:
    """Refuse rules that could not all be used.

    Raises:
        RulesError: with every rule that is wrong, and why.
        MissingExtraError: RE2 is not installed.
    """
    _, problems = ConditionRules.compile(rules)
    if problems:
        raise RulesError(problems)


def _compile(pattern: str, anchors: str) -> "re2._Regexp[str]":
    """The pattern between its anchors. Only this whole has to be one, as with the deployed
    listeners."""
    try:
        import re2  # noqa: PLC0415  (optional, and only wanted here)
    except ModuleNotFoundError as exc:
        raise MissingExtraError(
            "condition rules need google-re2, which is not installed:"
            " pip install 'osmo-pipeline[rules]'"
        ) from exc
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"a pattern has {len(pattern)} characters, and {MAX_PATTERN} may be used")
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(anchors.format(pattern), options)
    except (re2.error, UnicodeEncodeError) as exc:
        text = exc.args[0] if exc.args else exc
        reason = text.decode(errors="replace") if isinstance(text, bytes) else str(exc)
        raise ValueError(f"{pattern!r} is no regular expression of RE2: {reason}") from exc


def _shown(type_pattern: str, status_pattern: str) -> str:
    return f"{type_pattern[:MAX_PATTERN]}={status_pattern[:MAX_PATTERN]}"
