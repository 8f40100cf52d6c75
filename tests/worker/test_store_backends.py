"""The table `backends`: when each was heard of, and what its heartbeats say."""

import itertools
from datetime import UTC, datetime
from itertools import islice
from math import inf, nan

import msgspec
import pytest

from osmo_reports.bodies import Registration, encode_body
from osmo_transport import Ack, Message, Version, new_message
from osmo_worker.store import Backend, StateStore, open_store
from osmo_worker.store.kinds.backends import MOST_AGES
from tests.worker.harness import (
    BACKEND,
    STORE,
    apply,
    apply_in_every_order,
    delivery,
    existence,
    heartbeat,
    inventory,
    node_report,
    pod_event,
    report,
    snapshot_end,
    usage_report,
)


async def _only(store: StateStore) -> Backend:
    (backend,) = await store.backends()
    return backend


async def test_a_heartbeat_becomes_a_row(store_url: str) -> None:
    """Every field is there, in types that a program can use."""
    now = datetime(2026, 3, 4, 5, 6, 7, 891000, tzinfo=UTC)
    async with open_store(store_url, STORE, clock=now.timestamp) as store:
        ages = {"workflow": 1.5, "node": 0.0}
        assert await apply(store, heartbeat(at=1000.5, watch_ages=ages)) == [Ack()]
        sent = datetime.fromtimestamp(1000.5, UTC)
        assert await _only(store) == Backend(
            name=BACKEND,
            first_seen=now,
            last_seen=now,
            last_heartbeat=sent,
            cluster_uid="uid-1",
            namespace="osmo",
            version="1.0",
            node_condition_prefix="osmo.nvidia.com/",
            registered_at=sent,
            pods_current_at=None,
            watch_ages=ages,
        )


@pytest.mark.parametrize(
    "message",
    [
        report(),
        existence(),
        snapshot_end(0, version=(2, 1)),
        node_report(),
        inventory(version=(2, 1)),
        usage_report(),
        pod_event(),
        heartbeat(at=5.0),
    ],
    ids=lambda message: message.kind,
)
async def test_every_report_tells_that_its_backend_was_heard_of(
    store_url: str, message: Message
) -> None:
    """And when last; but only a heartbeat says more."""
    now = 1_000_000.0
    async with open_store(store_url, STORE, clock=lambda: now) as store:
        await apply(store, message)
        now += 30
        await store.handle_batch([delivery(message), delivery(message, backend="another")])
        another, backend = await store.backends()
    assert (backend.first_seen.timestamp(), backend.last_seen.timestamp()) == (now - 30, now)
    assert another.first_seen.timestamp() == now
    assert (backend.last_heartbeat is not None) == (message.kind == "heartbeat")


async def test_the_last_heartbeat_never_goes_back(store: StateStore) -> None:
    """The newest version says who reports, though another listener's clock is ahead of it."""
    beats = [
        heartbeat(version=(1, 8), at=900.0, release="old"),
        heartbeat(version=(2, 1), at=500.0, release="new"),
        report(),
    ]
    orders = await apply_in_every_order(store, beats)
    backends = await store.backends()
    assert [backend.name for backend in backends] == orders
    for backend in backends:
        assert backend.version == "new"
        assert backend.last_heartbeat == datetime.fromtimestamp(900.0, UTC)
        assert backend.registered_at == datetime.fromtimestamp(500.0, UTC)


@pytest.mark.parametrize("late", [False, True])
async def test_among_equal_versions_the_last_one_counts(store: StateStore, late: bool) -> None:
    """For listeners whose heartbeats have no version; in one batch, too."""
    beats = [heartbeat(at=1.0, release="old"), heartbeat(at=2.0, release="new")]
    await apply(store, *(reversed(beats) if late else beats))
    assert (await _only(store)).version == "new"


async def test_odd_values_are_stored(store_url: str) -> None:
    """U+0000 is replaced, and a time that is none is that of the worker, which has one for a batch,
    however long it takes."""
    body = encode_body(Registration("u\0", "osmo", "1\0", ""))
    message = new_message("heartbeat", BACKEND, body, version=Version(1, 1))
    ticks = itertools.count(1_000_000)
    async with open_store(store_url, STORE, clock=lambda: float(next(ticks))) as store:
        await apply(store, msgspec.structs.replace(message, timestamp=float("nan")))
        backend = await _only(store)
    assert (backend.cluster_uid, backend.version) == ("u\ufffd", "1\ufffd")
    assert backend.last_heartbeat == backend.first_seen


async def test_ages_that_are_none_are_left_out(store_url: str) -> None:
    """What no database can hold, and more than there are listeners: the rest counts, and those of
    the newest heartbeat."""
    odd = {"a": inf, "b": nan, "c": -1.0, "d\0": 2.0}
    many = {f"listener-{number:04}": 1.0 for number in range(1000)}
    async with open_store(store_url, STORE) as store:
        assert await apply(store, heartbeat(version=(1, 2), watch_ages=odd)) == [Ack()]
        assert (await _only(store)).watch_ages == {"d\ufffd": 2.0}
        await apply(store, heartbeat(version=(1, 1), watch_ages={"late": 1.0}))
        assert (await _only(store)).watch_ages == {"d\ufffd": 2.0}
        await apply(store, heartbeat(version=(1, 3), watch_ages=many))
        assert (await _only(store)).watch_ages == dict(islice(many.items(), MOST_AGES))
        await apply(store, heartbeat(version=(1, 4)))
        assert (await _only(store)).watch_ages is None


async def test_the_silence_of_each_backend_is_known(store_url: str) -> None:
    """By its last heartbeat; of one that never sent any there is none."""
    now = 2000.0
    async with open_store(store_url, STORE, clock=lambda: now) as store:
        await apply(store, heartbeat(at=1940.0))
        await store.handle_batch([delivery(report(), backend="mute")])
        assert await store.silences() == {BACKEND: 60.0}
