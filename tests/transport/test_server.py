"""What only the server's own code decides: who is let in, who has to go, what is recorded."""

import asyncio

import pytest

from osmo_transport import (
    ConnectionLostError,
    FencedError,
    Greeting,
    Limits,
    ProducerState,
    Server,
    ServerConfig,
    TlsConfig,
    TransportError,
    connect,
    listen,
)
from osmo_transport.delivery import Producer
from osmo_transport.frames import PROTOCOL, Ack, Batch, Frame, Goodbye, GoodbyeCode, Hello, Welcome
from osmo_transport.testing import make_message, pair
from osmo_transport.transports.abc import Connection, FrameSink, LinkConfig
from osmo_transport.transports.memory import MemoryTransport
from tests.helpers import eventually

PRODUCER = Producer("backend", "listener")


class Listener(FrameSink):
    """A client made of bare frames."""

    def __init__(self, name: str = "one", known: ProducerState | None = None) -> None:
        self.name = name
        self.known = known or ProducerState("", 0, 0)
        self.frames: list[Frame] = []
        self.end: TransportError | None = None
        self.connection: Connection

    async def dial(self, server: Server) -> None:
        """Connect and say nothing."""
        config = LinkConfig(limits=Limits(), tls=TlsConfig(), open_timeout=1.0, max_connections=1)
        self.connection = await MemoryTransport().dial(server.url, self, config)

    def say_hello(self) -> None:
        """Introduce oneself."""
        queue_epoch, epoch, sequence = self.known
        hello = Hello(PROTOCOL, *PRODUCER, self.name, queue_epoch, epoch, sequence, limits=Limits())
        self.connection.send(hello)

    async def connect(self, server: Server) -> "Listener":
        """Dial and say hello."""
        await self.dial(server)
        self.say_hello()
        return self

    async def welcome(self) -> Welcome:
        """The server's answer."""
        await eventually(lambda: self.frames)
        (frame,) = self.frames
        assert isinstance(frame, Welcome)
        return frame

    async def goodbye(self) -> GoodbyeCode:
        """Why the server ended it."""
        await eventually(lambda: self.end)
        frame = self.frames[-1]
        assert isinstance(frame, Goodbye)
        return frame.code

    def frame_received(self, frame: Frame) -> None:
        self.frames.append(frame)

    def writing_resumed(self) -> None: ...

    def connection_lost(self, error: TransportError) -> None:
        self.end = error


async def test_the_same_listener_takes_its_own_place() -> None:
    """The older connection is replaced, not fenced: its process is the same."""
    async with listen("memory://") as server:
        older = await Listener().connect(server)
        await older.welcome()
        newer = await Listener().connect(server)
        assert await older.goodbye() is GoodbyeCode.REPLACED
        await newer.welcome()
        assert server.connections == 1


async def test_a_connection_that_is_let_in_late_does_not_fence_its_successor() -> None:
    """The store answers the older of two connections of one process last: the newer one stays."""
    gates = [asyncio.Event(), asyncio.Event()]
    calls = 0

    async def admit(greeting: Greeting) -> ProducerState:
        nonlocal calls
        number = calls
        calls += 1
        await gates[number].wait()
        return ProducerState("q", 10 - number, 0)

    async with listen("memory://", admit=admit) as server:
        older = await Listener().connect(server)
        await eventually(lambda: calls == 1)
        newer = await Listener().connect(server)
        await eventually(lambda: calls == 2)
        gates[1].set()
        assert (await newer.welcome()).epoch == 9
        gates[0].set()
        assert await older.goodbye() is GoodbyeCode.REPLACED
        await asyncio.sleep(0.01)
        assert newer.end is None


async def test_a_hello_that_comes_late_changes_nothing() -> None:
    """Of two connections of one process the one that was made last counts, whichever hello is read
    first: nobody listens on the other any more, and a new epoch would fence its own successor."""
    admitted = 0

    async def admit(greeting: Greeting) -> ProducerState:
        nonlocal admitted
        admitted += 1
        return ProducerState("q", admitted, 0)

    async with listen("memory://", admit=admit) as server:
        older, newer = Listener(), Listener()
        await older.dial(server)
        await newer.connect(server)
        await newer.welcome()
        older.say_hello()
        assert await older.goodbye() is GoodbyeCode.REPLACED
        await asyncio.sleep(0.01)
        assert (admitted, newer.end) == (1, None)


async def test_an_older_listener_does_not_come_back() -> None:
    """Its epoch is below the one in use."""
    async with listen("memory://") as server:
        older = await Listener("one").connect(server)
        first = await older.welcome()
        newer = await Listener("two").connect(server)
        assert await older.goodbye() is GoodbyeCode.FENCED
        assert (await newer.welcome()).epoch > first.epoch
        state = ProducerState(first.queue_epoch, first.epoch, 0)
        zombie = await Listener("one", state).connect(server)
        assert await zombie.goodbye() is GoodbyeCode.FENCED
        assert newer.end is None


async def test_a_lost_welcome_does_not_fence_its_own_listener() -> None:
    """It asks again with what it knows, once or often, also late, and gets the epoch that it never
    heard of, until somebody else has been let in."""
    async with listen("memory://") as server:
        first = await (await Listener().connect(server)).welcome()
        renewing = ProducerState("", first.epoch, 0)
        unheard = await (await Listener("one", renewing).connect(server)).welcome()
        assert unheard.epoch > first.epoch
        again = await Listener("one", renewing).connect(server)
        assert (await again.welcome()).epoch == unheard.epoch
        again.connection.send(Batch(1, (make_message(),)))
        (incoming,) = await server.receive()
        incoming.acknowledge()
        late = await (await Listener("one").connect(server)).welcome()
        assert (late.epoch, late.sequence) == (unheard.epoch, 1)
        await (await Listener("two").connect(server)).welcome()
        zombie = await Listener("one", renewing).connect(server)
        assert await zombie.goodbye() is GoodbyeCode.FENCED


async def test_a_store_that_lets_in_the_older_last_does_not_win() -> None:
    """Of two processes the one with the higher epoch reports."""
    release = asyncio.Event()

    async def admit(greeting: Greeting) -> ProducerState:
        if greeting.known.epoch == 1:
            await release.wait()
            return ProducerState("q", 1, 0)
        return ProducerState("q", 2, 0)

    async with listen("memory://", admit=admit) as server:
        older = await Listener("one", ProducerState("q", 1, 0)).connect(server)
        newer = await Listener("two").connect(server)
        await newer.welcome()
        release.set()
        assert await older.goodbye() is GoodbyeCode.FENCED
        assert newer.end is None


async def test_the_record_never_goes_back() -> None:
    """Batches that are answered out of order leave the record where the last one put it."""
    async with pair() as (client, server):
        await client.epoch_after(0)
        for key in "ab":
            await client.send(make_message(key))
        taken = await server.receive()
        while sum(len(incoming.batch.messages) for incoming in taken) < 2:
            taken += await server.receive()
        for incoming in reversed(taken):
            incoming.acknowledge()
        await client.flush()
        session = client._session
        asking = Greeting(session._producer, session._listener, session._state)
        state = await server._own.admit(asking)
        assert state.sequence == 2


async def test_answering_twice_or_late_does_no_harm() -> None:
    """To a connection that has ended nothing is said, and the record is kept."""
    async with listen("memory://") as server:
        listener = await Listener().connect(server)
        welcome = await listener.welcome()
        listener.connection.send(Batch(1, (make_message(),)))
        (incoming,) = await server.receive()
        incoming.acknowledge()
        incoming.acknowledge()
        await eventually(lambda: Ack(1) in listener.frames)
        listener.connection.send(Batch(2, (make_message(),)))
        (incoming,) = await server.receive()
        listener.connection.close()
        await eventually(lambda: server.connections == 0)
        incoming.acknowledge()
        incoming.fence()
        incoming.resync()
        assert listener.frames.count(Ack(1)) == 1
        state = ProducerState(welcome.queue_epoch, welcome.epoch, 1)
        again = await Listener("one", state).connect(server)
        assert (await again.welcome()).sequence == 2


@pytest.mark.parametrize(
    ("answer", "code"), [("fence", GoodbyeCode.FENCED), ("resync", GoodbyeCode.RESYNC)]
)
async def test_a_batch_may_be_answered_with_the_end(answer: str, code: GoodbyeCode) -> None:
    """The listener is told what the queue said."""
    async with listen("memory://") as server:
        listener = await Listener().connect(server)
        await listener.welcome()
        listener.connection.send(Batch(1, (make_message(),)))
        (incoming,) = await server.receive()
        getattr(incoming, answer)()
        assert await listener.goodbye() is code
        assert isinstance(listener.end, ConnectionLostError)


async def test_a_stopping_server_turns_newcomers_away() -> None:
    """With a goodbye, so that they look elsewhere."""
    async with listen("memory://") as server:
        server.stop()
        listener = await Listener().connect(server)
        assert await listener.goodbye() is GoodbyeCode.CLOSING
        assert await server.receive() == []


async def test_leaving_says_goodbye_to_everybody() -> None:
    """And waits for nobody's decision."""
    never = asyncio.Event()

    async def admit(greeting: Greeting) -> ProducerState:
        await never.wait()
        raise FencedError("unreachable")

    async with asyncio.timeout(2):
        async with listen("memory://", admit=admit) as server:
            listener = await Listener().connect(server)
            await eventually(lambda: server.connections == 1)
        assert await listener.goodbye() is GoodbyeCode.CLOSING


async def test_one_server_listens_at_several_addresses() -> None:
    """Over different transports, with one inbox."""
    async with listen("memory://", "ws://127.0.0.1:0", "grpc://127.0.0.1:0") as server:
        assert [url.split(":")[0] for url in server.urls] == ["memory", "ws", "grpc"]
        for number, url in enumerate(server.urls):
            async with connect(url, backend=str(number)) as client:
                await client.send(make_message())
                (incoming,) = await server.receive()
                assert incoming.batch.producer.backend == str(number)
                incoming.acknowledge()


async def test_the_inbox_counts_what_waits() -> None:
    """What was taken makes room for more."""
    config = ServerConfig(inbox_bytes=1000)
    async with listen("memory://", config=config) as server:
        listener = await Listener().connect(server)
        await listener.welcome()
        for number in range(1, 10):
            listener.connection.send(Batch(number, (make_message(payload=b"x" * 800),)))
            (incoming,) = await server.receive()
            assert incoming.size > 800
        listener.connection.send(Batch(10, (make_message(payload=b"x" * 800),)))
        listener.connection.send(Batch(11, (make_message(payload=b"x" * 800),)))
        assert await listener.goodbye() is GoodbyeCode.UNAVAILABLE
        (incoming,) = await server.receive()
        assert incoming.batch.first == 10
