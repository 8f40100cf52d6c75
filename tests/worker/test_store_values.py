"""Values as every database takes them."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osmo_worker.store.values import json_text, moment, moment_at, shortened

texts = st.text(st.sampled_from('a\0\\u"\né'), max_size=8)
documents = st.recursive(
    texts | st.booleans() | st.integers(-5, 5) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def replaced(value: Any) -> Any:
    """The value with U+0000 replaced in every text."""
    match value:
        case str():
            return value.replace("\0", "\ufffd")
        case dict():
            return {replaced(key): replaced(item) for key, item in value.items()}
        case list():
            return [replaced(item) for item in value]
        case _:
            return value


@given(documents)
def test_json_holds_no_nul(value: Any) -> None:
    """And else all that the value holds, a backslash before digits included."""
    assert json.loads(json_text(value)) == replaced(value)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z"),
        ("2026-01-02T03:04:05.678901+01:00", "2026-01-02T02:04:05.678901Z"),
        ("2026-01-02T03:04:05.678000Z", "2026-01-02T03:04:05.678Z"),
        ("2026-01-02T03:04:05.5", "2026-01-02T03:04:05.500Z"),
        ("0001-01-01T00:00:00+23:00", None),
        ("", None),
        ("soon", None),
    ],
)
def test_a_timestamp_is_read_as_it_may_be_written(text: str, written: str | None) -> None:
    """With a zone or without one, which is UTC then."""
    assert moment(text) == written


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1e15, 1e20])
def test_a_time_of_no_calendar_is_none(seconds: float) -> None:
    """It is not an error: a listener may send any number."""
    assert moment_at(seconds) is None


def test_a_time_is_written_in_utc() -> None:
    """To the millisecond."""
    at = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
    assert moment_at(at.timestamp()) == "2026-01-02T03:04:05.678Z"


@pytest.mark.parametrize(("text", "short"), [("abc", "abc"), ("abcd", "ab…"), ("", "")])
def test_a_long_text_is_shortened(text: str, short: str) -> None:
    """To the limit, ellipsis included."""
    assert shortened(text, 3) == short
