"""Label and field selectors, as predicates over objects."""

import re
from collections.abc import Callable, Iterator

from osmo_simulator.errors import StatusError, bad_request
from osmo_simulator.resources import Object, Resource

Predicate = Callable[[Object], bool]

_LabelTest = Callable[[dict[str, str]], bool]

_TOKEN = re.compile(r"\s*(==|!=|[=!<>(),]|[A-Za-z0-9_./-]+)\s*")
_WORD = re.compile(r"[A-Za-z0-9_./-]+")


def compile_selectors(
    resource: Resource, *, namespace: str = "", labels: str = "", fields: str = ""
) -> Predicate | None:
    """What an object must be like to be selected; None selects every object.

    Args:
        resource: the kind of the objects, which decides the fields that may be named.
        namespace: the only namespace, or empty for all.
        labels: a label selector, for example `app=x,tier in (a,b),!old`.
        fields: a field selector, for example `status.phase!=Running`.

    Raises:
        StatusError: a selector cannot be parsed, or names a field that is not supported.
    """
    tests: list[Predicate] = []
    if namespace:
        tests.append(lambda obj: obj["metadata"].get("namespace") == namespace)
    label_tests = parse_labels(labels)
    if label_tests:
        tests.append(lambda obj: _labels_match(obj, label_tests))
    tests += parse_fields(resource, fields)
    if not tests:
        return None
    if len(tests) == 1:
        return tests[0]
    return lambda obj: all(test(obj) for test in tests)


def parse_labels(selector: str) -> list[_LabelTest]:
    """The requirements of a label selector, each a test of an object's labels.

    Raises:
        StatusError: the selector cannot be parsed.
    """
    if not selector.strip():
        return []
    tokens = _Tokens(selector)
    tests = [_requirement(tokens)]
    while tokens.peek():
        tokens.expect(",")
        tests.append(_requirement(tokens))
    return tests


def parse_fields(resource: Resource, selector: str) -> list[Predicate]:
    """The requirements of a field selector, each a test of an object.

    Raises:
        StatusError: the selector cannot be parsed, or names a field that is not supported.
    """
    return [_field_test(resource, term) for term in selector.split(",") if term.strip()]


def field_value(obj: Object, path: str) -> str:
    """The text of a field by its dotted path; empty where it is absent."""
    value: object = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if path == "source" and isinstance(value, dict):
        value = value.get("component")
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _labels_match(obj: Object, tests: list[_LabelTest]) -> bool:
    labels = obj["metadata"].get("labels") or {}
    return all(test(labels) for test in tests)


def _field_test(resource: Resource, term: str) -> Predicate:
    match = re.fullmatch(r"\s*([^=!]+?)\s*(!=|==|=)(.*)", term)
    if match is None:
        raise bad_request(f"invalid selector: {term!r}; can't understand")
    path, operator, value = match[1], match[2], match[3].strip()
    if path not in resource.fields:
        raise bad_request(f"field label not supported: {path}")
    # Kubernetes leaves this field out where it is false.
    wanted = {value, ""} if (path, value) == ("spec.unschedulable", "false") else {value}
    if operator == "!=":
        return lambda obj: field_value(obj, path) not in wanted
    return lambda obj: field_value(obj, path) in wanted


class _Tokens:
    def __init__(self, text: str) -> None:
        self._tokens = self._split(text)
        self._next = next(self._tokens, "")

    def peek(self) -> str:
        return self._next

    def take(self) -> str:
        token, self._next = self._next, next(self._tokens, "")
        return token

    def expect(self, wanted: str) -> None:
        token = self.take()
        if token != wanted:
            raise _unparsable(token, wanted)

    @staticmethod
    def _split(text: str) -> Iterator[str]:
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise _unparsable(text[position], "a label, an operator or a value")
            yield match[1]
            position = match.end()


def _unparsable(found: str, expected: str) -> StatusError:
    return bad_request(f"unable to parse requirement: found '{found}', expected: {expected}")


def _word(tokens: _Tokens, expected: str) -> str:
    token = tokens.take()
    if not _WORD.fullmatch(token):
        raise _unparsable(token, expected)
    return token


def _requirement(tokens: _Tokens) -> _LabelTest:
    if tokens.peek() == "!":
        tokens.take()
        absent = _word(tokens, "identifier")
        return lambda labels: absent not in labels
    key = _word(tokens, "identifier")
    if tokens.peek() in {"", ","}:
        return lambda labels: key in labels
    operator = tokens.take()
    match operator:
        case "=" | "==":
            wanted = _value(tokens)
            return lambda labels: labels.get(key) == wanted
        case "!=":
            unwanted = _value(tokens)
            return lambda labels: labels.get(key) != unwanted
        case "in":
            allowed = _values(tokens)
            return lambda labels: labels.get(key) in allowed
        case "notin":
            forbidden = _values(tokens)
            return lambda labels: labels.get(key) not in forbidden
        case "<" | ">":
            limit = _integer(_value(tokens))
            return lambda labels: _compare(labels.get(key), operator, limit)
    raise _unparsable(operator, "in, notin, =, ==, !=, <, >")


def _value(tokens: _Tokens) -> str:
    return "" if tokens.peek() in {"", ","} else _word(tokens, "a value")


def _values(tokens: _Tokens) -> frozenset[str]:
    tokens.expect("(")
    values = set()
    while True:
        values.add("" if tokens.peek() in {",", ")"} else _word(tokens, "a value"))
        if tokens.peek() != ",":
            tokens.expect(")")
            return frozenset(values)
        tokens.take()


def _integer(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]+", text):
        raise bad_request(f"for 'Gt', 'Lt' operators, the value must be an integer: {text!r}")
    return int(text)


def _compare(value: str | None, operator: str, limit: int) -> bool:
    if value is None or not re.fullmatch(r"-?[0-9]+", value):
        return False
    return int(value) < limit if operator == "<" else int(value) > limit
