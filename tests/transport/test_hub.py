"""The hub by itself, over connections whose buffers a test fills and empties."""

import asyncio
import gc
import time
from contextlib import suppress

from osmo_transport import ConnectionLostError, Limits, ProducerState, QuotaConfig, SessionConfig
from osmo_transport._hub import Hub, HubConfig
from osmo_transport._peer import Incoming, Peer
from osmo_transport.frames import PROTOCOL, Goodbye, GoodbyeCode, Hello, Welcome
from osmo_transport.session import Greeting
from osmo_transport.testing import make_message
from tests.helpers import eventually
from tests.transport.builders import PRODUCER, batch
from tests.transport.line import Line


def new_hub() -> Hub:
    """A hub that lets everybody in."""

    async def admit(greeting: Greeting) -> ProducerState:
        return ProducerState("q", int(time.time() * 1000), 0)

    config = HubConfig(
        session=SessionConfig(busy_poll=0.0),
        open_timeout=10.0,
        inbox_bytes=10_000_000,
        inbox_backend_bytes=5_000,
        retry_after=1.0,
        admit_timeout=10.0,
        lease=12.0,
        lease_grace=2.0,
        quota=QuotaConfig(),
        address_connections=3,
        backend_connections=3,
    )
    return Hub(config, admit)


async def welcomed(
    hub: Hub, at: str = "nobody", backend: str = PRODUCER.backend
) -> tuple[Peer, Line]:
    """A client that was let in, and its line."""
    line = Line()
    line.peer = at
    peer = hub.accept(line)
    assert isinstance(peer, Peer)
    peer.frame_received(Hello(PROTOCOL, backend, PRODUCER.source, "one", "", 0, 0, Limits()))
    await eventually(lambda: line.sent)
    assert isinstance(line.sent[0], Welcome)
    return peer, line


async def with_batches(hub: Hub, peer: Peer, count: int) -> list[Incoming]:
    """So many batches of one message each, which have arrived."""
    for number in range(1, count + 1):
        peer.frame_received(batch(number, make_message(str(number))))
    return await hub.receive()


async def test_what_is_answered_is_acknowledged_and_no_more() -> None:
    """Of several batches that have arrived those up to the one that was stored."""
    hub = new_hub()
    peer, line = await welcomed(hub)
    first, second, third = await with_batches(hub, peer, 3)
    assert line.stored() == []
    second.acknowledge()
    assert line.stored() == [2]
    first.acknowledge()
    assert line.stored() == [2]
    third.acknowledge()
    assert line.stored() == [2, 3]
    await hub.aclose()


async def test_what_was_stored_while_nothing_could_be_written_is_said_later() -> None:
    """All of it at once, in whatever order it was answered, and again no more than that."""
    hub = new_hub()
    peer, line = await welcomed(hub)
    first, second, third = await with_batches(hub, peer, 3)
    line.writable = False
    second.acknowledge()
    first.acknowledge()
    assert line.stored() == []
    line.writable = True
    peer.writing_resumed()
    assert line.stored() == [2]
    peer.writing_resumed()
    assert line.stored() == [2]
    third.acknowledge()
    assert line.stored() == [2, 3]
    await hub.aclose()


async def test_the_time_for_a_hello_begins_when_a_connection_is_accepted() -> None:
    """By its transport, which may have taken some of it."""
    hub = new_hub()
    late, early = Line(), Line()
    late.since = hub.now() - hub.config.open_timeout
    for line in (late, early):
        hub.accept(line)
    hub.tick()
    (goodbye,) = late.sent
    assert isinstance(goodbye, Goodbye)
    assert goodbye.reason == "no hello in time"
    assert not early.sent
    await hub.aclose()


async def test_a_backend_has_its_share_of_the_inbox() -> None:
    """One that fills its own is asked to come later, and others are not concerned; what is answered
    makes room again, wherever it waited."""
    hub = new_hub()
    (one, line), (two, other) = await welcomed(hub), await welcomed(hub, backend="another")
    for number in range(1, 5):
        one.frame_received(batch(number, make_message(payload=b"x" * 2000)))
    goodbye = line.sent[-1]
    assert isinstance(goodbye, Goodbye)
    assert goodbye.code is GoodbyeCode.UNAVAILABLE
    two.frame_received(batch(1, make_message(payload=b"x" * 2000)))
    assert other.alone()
    taken = await hub.receive()
    assert [each.producer.backend for each in taken] == ["backend"] * 2 + ["another"]
    two.frame_received(batch(2, make_message(payload=b"x" * 2000)))
    taken[-1].acknowledge()
    two.frame_received(batch(3, make_message(payload=b"x" * 2000)))
    assert other.stored() == [1]
    assert len(other.sent) == 2
    two.frame_received(batch(4, make_message(payload=b"x" * 2000)))
    assert isinstance(other.sent[-1], Goodbye), "taken, and not answered"
    two.connection_lost(ConnectionLostError("gone"))
    three, again = await welcomed(hub, backend="another")
    three.frame_received(batch(1, make_message(payload=b"x" * 2000)))
    assert isinstance(again.sent[-1], Goodbye), "what its predecessor sent is held still"
    for each in [taken[-1], *await hub.receive()]:
        each.fence()
    four, last = await welcomed(hub, backend="another")
    four.frame_received(batch(1, make_message(payload=b"x" * 2000)))
    assert last.alone()
    await hub.aclose()


async def test_what_was_held_for_a_backend_is_forgotten_with_its_last_connection() -> None:
    """Names that come and go do not pile up."""
    hub = new_hub()
    peer, _ = await welcomed(hub)
    (incoming,) = await with_batches(hub, peer, 1)
    assert hub.holding(PRODUCER.backend).bytes == incoming.size
    incoming.acknowledge()
    assert hub.holding(PRODUCER.backend).bytes == 0
    await hub.aclose()
    del peer, incoming
    gc.collect()
    assert not hub._holdings


async def test_who_has_received_waits_no_more() -> None:
    """Nothing is left of him, be it that he gave up."""
    hub = new_hub()
    peer, _ = await welcomed(hub)
    for number in range(1, 4):
        receiving = asyncio.create_task(hub.receive())
        await asyncio.sleep(0)
        peer.frame_received(batch(number, make_message()))
        assert len(await receiving) == 1
    receiving = asyncio.create_task(hub.receive())
    await asyncio.sleep(0)
    receiving.cancel()
    with suppress(asyncio.CancelledError):
        await receiving
    assert not hub._receivers
    await hub.aclose()
