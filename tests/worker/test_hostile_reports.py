"""Reports that can be read and hold whatever their types allow, in every store."""

from osmo_reports import BodyError
from osmo_reports.bodies import BODY_TYPES, decode_body
from osmo_transport import Ack, Delivery, Message, Reject, Retry, Version, new_message
from osmo_worker.store import StateStore
from tests.fuzz.draw import Draw, Typed
from tests.worker.harness import delivery, node_report, report

BATCHES, HOSTILE = 10, 30
KINDS = {kind: Typed(body) for kind, body in BODY_TYPES.items()}


def hostile(draw: Draw) -> Message:
    """A report of any kind that a worker can read, with a key that need not be its own."""
    while True:
        kind = draw.choice(sorted(KINDS))
        payload = KINDS[kind].packed(draw)
        try:
            decode_body(kind, payload)
        except BodyError:
            continue
        key = draw.choice(("k", "\0", "\x1b[2J\u202e", "'; DROP TABLE tasks; --", "💥" * 1024))
        revision = draw.choice((0, 1, 2**63 - 1))
        return new_message(
            kind, key, payload, version=Version(draw.choice((0, 1, 2**40)), revision)
        )


def deliveries(draw: Draw, number: int) -> list[Delivery]:
    """A batch of them, and two reports of somebody else between them."""
    backend = draw.choice(("east", "a\0b", "\x1b[2J\u202e", "'; DROP TABLE nodes; --", "x" * 1024))
    made = [
        delivery(hostile(draw), backend=backend, attempt=draw.choice((1, 3, 9)))
        for _ in range(HOSTILE)
    ]
    good = [report(f"task-{number}"), node_report(f"node-{number}")]
    return [*made[:10], *map(delivery, good), *made[10:]]


async def test_hostile_reports_harm_no_others(store: StateStore) -> None:
    """Each is stored, waits or is buried with a reason; those of others in its batch are stored."""
    draw = Draw("store")
    for number in range(BATCHES):
        outcomes = await store.handle_batch(deliveries(draw, number))
        assert outcomes[10:12] == [Ack(), Ack()]
        assert all(isinstance(each, Ack | Retry | Reject) for each in outcomes)
    tasks, nodes = await store.tasks("backend-1"), await store.nodes("backend-1")
    assert len(tasks) == len(nodes) == BATCHES
