"""What only the server's own code decides: what is recorded, who is told what, and its end."""

import asyncio

import pytest

from osmo_transport import (
    ConnectionLostError,
    FencedError,
    Greeting,
    ProducerState,
    ServerConfig,
    connect,
    listen,
)
from osmo_transport.frames import Batch, GoodbyeCode, Stored
from osmo_transport.testing import make_message, pair
from tests.helpers import eventually
from tests.transport.bare import BareClient
from tests.transport.builders import batch


async def test_the_record_never_goes_back() -> None:
    """Batches that are answered out of order leave the record where the last one put it."""
    async with pair() as (client, server):
        await client.epoch_after(0)
        for key in "ab":
            await client.send(make_message(key))
        taken = await server.receive()
        while sum(len(incoming.messages) for incoming in taken) < 2:
            taken += await server.receive()
        for incoming in reversed(taken):
            incoming.acknowledge()
        await client.flush()
        session = client._session
        known = ProducerState("own", session.epoch, session.sequence)
        asking = Greeting(session.producer, session.instance, known)
        state = await server._hub._admit(asking)
        assert state.sequence == 2


async def test_answering_twice_or_late_does_no_harm() -> None:
    """To a connection that has ended nothing is said, and the record is kept."""
    async with listen("memory://") as server:
        client = await BareClient().connect(server)
        welcome = await client.welcome()
        client.connection.send(batch(1, make_message()))
        (incoming,) = await server.receive()
        incoming.acknowledge()
        incoming.acknowledge()
        await eventually(lambda: Stored(1) in client.frames)
        client.connection.send(batch(2, make_message()))
        (incoming,) = await server.receive()
        client.connection.close()
        await eventually(lambda: server.connections == 0)
        incoming.acknowledge()
        incoming.fence()
        incoming.resync()
        assert client.frames.count(Stored(1)) == 1
        state = ProducerState(welcome.queue_epoch, welcome.epoch, 1)
        again = await BareClient("one", state).connect(server)
        assert (await again.welcome()).sequence == 2


@pytest.mark.parametrize(
    ("answer", "code"), [("fence", GoodbyeCode.FENCED), ("resync", GoodbyeCode.RESYNC)]
)
async def test_a_batch_may_be_answered_with_the_end(answer: str, code: GoodbyeCode) -> None:
    """The client is told what the queue said."""
    async with listen("memory://") as server:
        client = await BareClient().connect(server)
        await client.welcome()
        client.connection.send(batch(1, make_message()))
        (incoming,) = await server.receive()
        getattr(incoming, answer)()
        assert await client.goodbye() is code
        assert isinstance(client.end, ConnectionLostError)


async def test_a_stopping_server_turns_newcomers_away() -> None:
    """With a goodbye, so that they look elsewhere."""
    async with listen("memory://") as server:
        server.stop()
        client = await BareClient().connect(server)
        assert await client.goodbye() is GoodbyeCode.CLOSING
        assert await server.receive() == []


async def test_leaving_says_goodbye_to_everybody() -> None:
    """And waits for nobody's decision."""
    never = asyncio.Event()

    async def admit(greeting: Greeting) -> ProducerState:
        await never.wait()
        raise FencedError("unreachable")

    async with asyncio.timeout(2):
        async with listen("memory://", admit=admit) as server:
            client = await BareClient().connect(server)
            await eventually(lambda: server.connections == 1)
        assert await client.goodbye() is GoodbyeCode.CLOSING


async def test_one_server_listens_at_several_addresses() -> None:
    """Over different transports, with one inbox."""
    async with listen("memory://", "ws://127.0.0.1:0", "grpc://127.0.0.1:0") as server:
        assert [url.split(":")[0] for url in server.urls] == ["memory", "ws", "grpc"]
        for number, url in enumerate(server.urls):
            async with connect(url, backend=str(number)) as client:
                await client.send(make_message())
                (incoming,) = await server.receive()
                assert incoming.producer.backend == str(number)
                incoming.acknowledge()


async def test_the_inbox_counts_what_waits() -> None:
    """What was taken makes room for more."""
    config = ServerConfig(inbox_bytes=1000)
    async with listen("memory://", config=config) as server:
        client = await BareClient().connect(server)
        await client.welcome()
        for number in range(1, 10):
            client.connection.send(batch(number, make_message(payload=b"x" * 800)))
            (incoming,) = await server.receive()
            assert incoming.size > 800
        client.connection.send(batch(10, make_message(payload=b"x" * 800)))
        client.connection.send(batch(11, make_message(payload=b"x" * 800)))
        assert await client.goodbye() is GoodbyeCode.UNAVAILABLE
        (incoming,) = await server.receive()
        assert incoming.first == 10


async def test_a_server_is_ready_while_what_it_receives_can_be_stored() -> None:
    """Until it stops."""
    async with listen("memory://") as server:
        assert server.ready
        server.can_store = lambda: False
        assert not server.ready
        server.can_store = lambda: True
        assert server.ready
        server.stop()
        assert not server.ready


async def test_what_became_of_clients_is_counted() -> None:
    """By where they came, and why they were told to go."""
    async with listen("memory://", "ws://127.0.0.1:0") as server:
        assert server.stats.connections == {"memory": 0, "ws": 0}
        async with connect(server.urls[1], backend="w") as client:
            await client.epoch_after(0)
            bare = await BareClient().connect(server)
            await bare.welcome()
            assert server.stats.connections == {"memory": 1, "ws": 1}
            bare.connection.send(batch(1, make_message(payload=b"x")))
            await eventually(lambda: server.waiting_bytes > 0)
            await server.receive()
            assert server.waiting_bytes == 0
            bare.connection.send(Batch(2, (b"no message",)))
            await eventually(lambda: server.stats.refused["message"] == 1)
            bare.connection.send(batch(7, make_message(payload=b"x")))
            assert await bare.goodbye() is GoodbyeCode.PROTOCOL
            assert server.resync("another") == 1
            await eventually(lambda: server.stats.resynced == 1)
        assert server.stats.refused == {
            **dict.fromkeys(("refused", "denied", "expired", "unavailable"), 0),
            **dict.fromkeys(("protocol", "message"), 1),
        }
        assert server.stats.fenced == 0


async def test_clients_of_a_backend_can_be_dismissed() -> None:
    """They are told why and may come again; those of others go on."""
    async with (
        listen("memory://") as server,
        connect(server.url, backend="one") as one,
        connect(server.url, backend="other") as other,
    ):
        for client in (one, other):
            await client.epoch_after(0)
        server.dismiss("one", "go")
        assert server.backends == {"other"}
        await one.send(make_message())
        for incoming in await server.receive():
            incoming.acknowledge()
        assert server.backends == {"one", "other"}
        assert server.stats.refused["unavailable"] == 1


async def test_what_has_arrived_can_be_had_without_waiting() -> None:
    """Nothing, if nothing has arrived."""
    async with listen("memory://") as server:
        assert server.arrived() == []
        client = await BareClient().connect(server)
        await client.welcome()
        taken: list[int] = []
        for first in (1, 2):
            client.connection.send(batch(first, make_message()))
        while len(taken) < 2:
            await asyncio.sleep(0)
            taken += [incoming.first for incoming in server.arrived()]
        assert taken == [1, 2]
        assert server.arrived() == []


async def test_a_defect_in_one_connection_harms_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its client is told that it is not to blame, and may come again; the traceback is logged."""

    def stumble(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    async with listen("memory://") as server:
        unlucky = await BareClient().connect(server)
        welcome = await unlucky.welcome()
        (peer,) = server._hub.peers
        async with connect(server.url, backend="bystander") as client:
            await client.epoch_after(0)
            monkeypatch.setattr(peer, "frame_received", stumble)
            unlucky.connection.send(batch(1, make_message()))
            assert await unlucky.goodbye() is GoodbyeCode.UNAVAILABLE
            await eventually(lambda: server.connections == 1)
            await client.send(make_message("still here"))
            (incoming,) = await server.receive()
            assert [message.key for message in incoming.messages] == ["still here"]
            incoming.acknowledge()
            await client.flush()
            assert client.stats.connects == 1
        again = await BareClient().connect(server)
        assert (await again.welcome()).epoch == welcome.epoch
    assert any(r.exc_info and r.exc_info[0] is ZeroDivisionError for r in caplog.records)
