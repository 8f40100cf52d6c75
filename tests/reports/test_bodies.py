"""Bodies, from whatever bytes there are."""

from typing import Any, get_type_hints

import msgspec
import pytest

from osmo_reports.bodies import BODY_TYPES, Number, decode_body
from osmo_reports.errors import BodyError

WHOLE: dict[str, dict[str, Any]] = {
    "update_pod": {"workflow_uuid": "w", "task_uuid": "t", "retry_id": 0, "status": "RUNNING"},
    "pod_exists": {"workflow_uuid": "w", "task_uuid": "t", "retry_id": 0},
    "pod_event": {"pod": "p", "reason": "r"},
    "snapshot_end": {"kind": "update_pod", "count": 0},
}
NUMBERS = [
    ("update_pod", "retry_id"),
    ("update_pod", "exit_code"),
    ("pod_exists", "retry_id"),
    ("pod_event", "count"),
    ("snapshot_end", "count"),
]


def test_every_number_is_tried_here() -> None:
    """And every one of every kind has bounds."""
    hints = {kind: get_type_hints(body, include_extras=True) for kind, body in BODY_TYPES.items()}
    numbers = [
        (kind, name) for kind in hints for name in hints[kind] if hints[kind][name] == Number
    ]
    assert sorted(numbers) == sorted(NUMBERS)
    assert not [kind for kind in hints if int in hints[kind].values()]


@pytest.mark.parametrize(("kind", "field"), NUMBERS)
def test_a_number_that_no_store_holds_is_refused(kind: str, field: str) -> None:
    """With its report alone; the largest and the smallest that are held are taken."""
    for number in (2**63 - 1, -(2**63)):
        body = decode_body(kind, msgspec.msgpack.encode(WHOLE[kind] | {field: number}))
        assert getattr(body, field) == number
    with pytest.raises(BodyError, match=field):
        decode_body(kind, msgspec.msgpack.encode(WHOLE[kind] | {field: 2**63}))


@pytest.mark.parametrize("kind", BODY_TYPES)
@pytest.mark.parametrize("opening", [b"\x91", b"\x81\xa1x", b"\x81\x91"])
def test_what_nests_too_deeply_is_refused(kind: str, opening: bytes) -> None:
    """By itself, and in a field of a later version."""
    for payload in (opening * 200_000, b"\x81\xa1x" + opening * 200_000):
        with pytest.raises(BodyError):
            decode_body(kind, payload)
