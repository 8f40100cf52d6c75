"""The promises of the client and the server, over one transport."""

import asyncio
from collections.abc import Sequence

import pytest

from osmo_transport.client import Client
from osmo_transport.delivery import Producer, ProducerState
from osmo_transport.errors import (
    ClosedError,
    FencedError,
    MessageTooLargeError,
    QueueUnavailableError,
    UsageError,
)
from osmo_transport.frames import Limits
from osmo_transport.message import FIXED_SIZE, Message
from osmo_transport.outbox import OutboxConfig
from osmo_transport.server import Incoming, Server, ServerConfig
from osmo_transport.session import SessionConfig
from osmo_transport.testing._transport_suite import (
    PATIENCE,
    TransportSuite,
    event,
    report,
    until,
)
from osmo_transport.testing.cancellation import cancel_at
from osmo_transport.testing.faults import Way


class Desk:
    """An operator with a queue in memory: it stores what comes, once, and acknowledges it."""

    def __init__(self, store: "Desk | None" = None) -> None:
        self.states: dict[Producer, ProducerState] = store.states if store else {}
        self.messages: list[Message] = store.messages if store else []
        self.available = True
        self.queue_epoch = "one"

    async def admit(self, producer: Producer, known: ProducerState) -> ProducerState:
        """As `Queue.open_producer`."""
        if not self.available:
            raise QueueUnavailableError("the store is away")
        state = self.states.get(producer, ProducerState(self.queue_epoch, 0, 0))
        if known.epoch and state.epoch > known.epoch:
            raise FencedError("a newer listener reports")
        if (known.queue_epoch, known.epoch) != (self.queue_epoch, state.epoch):
            state = ProducerState(self.queue_epoch, max(state.epoch, known.epoch) + 1, 0)
            self.states[producer] = state
        return state

    def store(self, incoming: Incoming) -> None:
        """Store what is new, then acknowledge."""
        batch = incoming.batch
        state = self.states[batch.producer]
        if state.queue_epoch != batch.state.queue_epoch:
            incoming.resync()
        elif state.epoch != batch.state.epoch:
            incoming.fence()
        else:
            assert batch.first <= state.sequence + 1, "a gap"
            fresh = batch.messages[state.sequence + 1 - batch.first :]
            self.messages += [message for message in fresh if message is not None]
            last = max(state.sequence, batch.last)
            self.states[batch.producer] = state._replace(sequence=last)
            incoming.acknowledge()

    async def serve(self, server: Server) -> None:
        """Until the server stops."""
        while taken := await server.receive():
            for incoming in taken:
                self.store(incoming)

    def keys(self) -> list[str]:
        """Of the stored messages, in order."""
        return [message.key for message in self.messages]


async def send_all(client: Client, messages: Sequence[Message]) -> None:
    """Send them and wait until they are acknowledged."""
    for message in messages:
        await client.send(message)
    await client.flush()


def events(count: int, size: int = 10) -> list[Message]:
    """Numbered reports, none of which is coalesced."""
    return [event(str(number), size) for number in range(count)]


class Delivering(TransportSuite):
    """Tests of what arrives."""

    async def test_what_is_sent_arrives_once_and_in_order(self) -> None:
        """Whole messages of several clients at once, each in its order."""
        desk = Desk()
        async with self.server(admit=desk.admit) as server:
            serving = asyncio.create_task(desk.serve(server))
            async with asyncio.TaskGroup() as tasks:
                for source in "abc":
                    tasks.create_task(self._report(server, source, 2000))
            server.stop()
            await serving
        for source in "abc":
            mine = [m for m in desk.messages if m.key.startswith(source)]
            assert [m.key for m in mine] == [f"{source}{n}" for n in range(2000)]
            assert mine[7] == self._sent[source][7]

    async def _report(self, server: Server, source: str, count: int) -> None:
        messages = [event(f"{source}{number}", number % 500) for number in range(count)]
        self._sent = getattr(self, "_sent", {}) | {source: messages}
        async with self.client(server, source=source) as client:
            await send_all(client, messages)

    async def test_flush_waits_for_the_acknowledgement(self) -> None:
        """Not for the arrival."""
        async with self.server() as server, self.client(server) as client:
            await client.send(report("a"))
            (incoming,) = await server.receive()
            flushing = asyncio.create_task(client.flush())
            await asyncio.sleep(0.02)
            assert not flushing.done()
            incoming.acknowledge()
            await flushing
            assert client.stats.acknowledged == 1

    async def test_flush_is_not_deceived_by_later_reports(self) -> None:
        """Reports that are coalesced or dropped meanwhile settle nothing of what came before."""
        outbox = OutboxConfig(max_every_entries=1)
        session = SessionConfig(limits=Limits(window_messages=1), outbox=outbox)
        async with (
            self.server() as server,
            self.client(server, session=session, drain_timeout=0.0) as client,
        ):
            await client.send(report("a"))
            (incoming,) = await server.receive()
            flushing = asyncio.create_task(client.flush())
            await asyncio.sleep(0)
            for rv in range(1, 5):
                await client.send(report("b", rv=rv))
                await client.send(event("c"))
            await asyncio.sleep(0.02)
            assert not flushing.done()
            incoming.acknowledge()
            await flushing

    async def test_messages_of_every_size_up_to_the_limit(self) -> None:
        """The largest is delivered, one byte more is refused to the sender, who goes on."""
        limits = Limits(message_bytes=50_000, batch_bytes=20_000)
        session = SessionConfig(limits=limits)
        desk = Desk()
        largest = limits.message_bytes - FIXED_SIZE - 1
        async with self.server(admit=desk.admit, config=ServerConfig(session=session)) as server:
            serving = asyncio.create_task(desk.serve(server))
            async with self.client(server, session=session) as client:
                for size in (0, 1, 125, 126, 65_000 // 2, largest):
                    await client.send(event("a", size))
                with pytest.raises(MessageTooLargeError):
                    await client.send(event("a", largest + 1))
                await client.send(event("b"))
                await client.flush()
                assert client.stats.connects == 1
            server.stop()
            await serving
        assert [len(m.payload) for m in desk.messages][-2:] == [largest, 10]

    async def test_a_message_over_the_servers_limit_is_refused_alone(self) -> None:
        """The client took it before it knew; the link stays up, the neighbours arrive, and the
        refusal is counted and has its reason."""
        desk = Desk()
        small = SessionConfig(limits=Limits(message_bytes=1000))
        async with self.server(admit=desk.admit, config=ServerConfig(session=small)) as server:
            serving = asyncio.create_task(desk.serve(server))
            async with self.client(server) as client:
                for name, size in (("a", 10), ("b", 900_000), ("c", 10)):
                    await client.send(event(name, size))
                await client.flush()
                assert (client.stats.rejected, client.stats.connects) == (1, 1)
                (rejected,) = client.rejected
                assert rejected.message.key == "b"
                assert "limit is 1000" in rejected.reason
            server.stop()
            await serving
        assert desk.keys() == ["a", "c"]

    async def test_a_slow_operator_holds_the_sender_back(self) -> None:
        """Nobody stores: the window fills, then the outbox, then `send` waits; nothing is lost."""
        limits = Limits(window_messages=10)
        session = SessionConfig(limits=limits, outbox=OutboxConfig(max_entries=20))
        desk = Desk()
        messages = events(100)
        async with self.server(admit=desk.admit, config=ServerConfig(session=session)) as server:
            async with self.client(server, session=session) as client:
                sending = asyncio.create_task(send_all(client, messages))
                await until(lambda: client.stats.in_flight == 10 and client.stats.waiting == 20)
                await asyncio.sleep(0.02)
                assert (client.stats.in_flight, client.stats.waiting) == (10, 20)
                serving = asyncio.create_task(desk.serve(server))
                await sending
            server.stop()
            await serving
        assert desk.keys() == [m.key for m in messages]

    async def test_leaving_waits_for_what_was_sent(self) -> None:
        """Without a flush of the user's own."""
        desk = Desk()
        async with self.server(admit=desk.admit) as server:
            serving = asyncio.create_task(desk.serve(server))
            async with self.client(server) as client:
                for message in events(50):
                    await client.send(message)
            assert len(desk.messages) == 50
            with pytest.raises(ClosedError):
                await client.send(report("a"))
            with pytest.raises(ClosedError):
                await client.flush()
            server.stop()
            await serving

    async def test_leaving_does_not_wait_for_ever(self) -> None:
        """An operator that stores nothing costs `drain_timeout`, not the listener's life."""
        async with self.server() as server:
            async with asyncio.timeout(PATIENCE):
                async with self.client(server, drain_timeout=0.05) as client:
                    await client.send(report("a"))
            assert client.stats.acknowledged == 0

    async def test_sending_and_flushing_are_safe_to_cancel(self) -> None:
        """Wherever it is cancelled, what was taken arrives once, and the client goes on."""
        desk = Desk()
        session = SessionConfig(
            limits=Limits(window_messages=2), outbox=OutboxConfig(max_entries=4)
        )
        async with self.server(admit=desk.admit) as server:
            serving = asyncio.create_task(desk.serve(server))
            async with self.client(server, session=session) as client:
                for k in range(1, 200):
                    if not await cancel_at(k, send_all(client, events(8))):
                        break
                await send_all(client, [event("last")])
                assert k < 199
            server.stop()
            await serving
        stats = client.stats
        assert stats.acknowledged == len(desk.messages) == len({m.id for m in desk.messages})
        assert desk.keys()[-1] == "last"

    async def test_receiving_is_safe_to_cancel(self) -> None:
        """A cancelled `receive` takes nothing with it."""
        async with self.server() as server, self.client(server) as client:
            taken: list[Incoming] = []

            async def receive() -> None:
                taken.extend(await server.receive())

            assert await cancel_at(1, receive())
            receiving = asyncio.create_task(cancel_at(1, receive()))
            await client.send(report("a"))
            assert await receiving
            await client.send(report("b"))
            while sum(len(incoming.batch.messages) for incoming in taken) < 2:
                await receive()
            for incoming in taken:
                incoming.acknowledge()

    async def test_a_stopping_server_hands_out_what_has_arrived(self) -> None:
        """Then nothing more, to every receiver; what it leaves is sent to the next one."""
        desk = Desk()
        async with self.server(admit=desk.admit) as server:
            url = server.url
            client_ends = asyncio.Event()

            async def listener() -> None:
                async with self.client(url) as client:
                    await client.send(event("a"))
                    await client_ends.wait()
                    await client.send(event("b"))
                    await client.flush()

            listening = asyncio.create_task(listener())
            (incoming,) = await server.receive()
            waiting = [asyncio.create_task(server.receive()) for _ in range(2)]
            await asyncio.sleep(0)
            server.stop()
            assert [await task for task in waiting] == [[], []]
            desk.store(incoming)
        async with self.server(url, admit=desk.admit) as server:
            serving = asyncio.create_task(desk.serve(server))
            client_ends.set()
            await listening
            server.stop()
            await serving
        assert desk.keys() == ["a", "b"]


class Enduring(TransportSuite):
    """Tests of what happens when things break."""

    async def test_a_reconnect_resends_in_order(self) -> None:
        """Connections break again and again while reports flow: each arrives once, in order."""
        desk, faults = Desk(), self.faults()
        messages = events(600, size=300)
        async with self.server(admit=desk.admit) as server:
            serving = asyncio.create_task(desk.serve(server))
            async with self.client(server, faults=faults) as client:
                for number, message in enumerate(messages):
                    await client.send(message)
                    if number % 100 == 50:
                        connects = client.stats.connects
                        faults.reset()
                        await until(lambda: client.stats.connects > connects)  # noqa: B023
                await client.flush()
                assert client.stats.connects >= 6
            server.stop()
            await serving
        assert desk.keys() == [m.key for m in messages]

    async def test_a_restarted_operator_is_found_again(self) -> None:
        """The next server at the same address, with the same queue, goes on where it stood."""
        desk = Desk()
        async with self.server(admit=desk.admit) as server:
            url = server.url
            manager = self.client(server)
            client = await manager.__aenter__()
            serving = asyncio.create_task(desk.serve(server))
            await send_all(client, events(3))
            epoch = client.epoch
            server.stop()
            await serving
            for message in events(3):
                await client.send(message)
        async with self.server(url, admit=desk.admit) as server:
            serving = asyncio.create_task(desk.serve(server))
            await client.flush()
            assert client.epoch == epoch
            await manager.__aexit__(None, None, None)
            server.stop()
            await serving
        assert desk.keys() == ["0", "1", "2"] * 2

    async def test_an_operator_without_memory_gives_a_new_epoch(self) -> None:
        """`epoch_after` tells that a snapshot is due; what was in flight is sent again."""
        async with self.server() as server:
            url = server.url
            manager = self.client(server)
            client = await manager.__aenter__()
            first = await client.epoch_after(0)
            await client.send(report("a"))
            await server.receive()
        async with self.server(url) as server:
            assert await client.epoch_after(first) > first
            (incoming,) = await server.receive()
            assert [m and m.key for m in incoming.batch.messages] == ["a"]
            incoming.acknowledge()
            await manager.__aexit__(None, None, None)

    async def test_a_queue_that_lost_its_memory_asks_for_everything(self) -> None:
        """A resync costs a reconnect and a new epoch, and nothing that is still in flight."""
        desk = Desk()
        async with self.server(admit=desk.admit) as server, self.client(server) as client:
            epoch = await client.epoch_after(0)
            await client.send(event("a"))
            await server.receive()
            desk.queue_epoch = "two"
            assert server.resync("two") == 1
            assert await client.epoch_after(epoch) > epoch
            serving = asyncio.create_task(desk.serve(server))
            await client.flush()
            server.stop()
            await serving
        assert desk.keys() == ["a"]

    async def test_a_new_epoch_can_be_asked_for(self) -> None:
        """`renew_epoch` reconnects for a higher one."""
        async with self.server() as server, self.client(server) as client:
            first = await client.epoch_after(0)
            client.renew_epoch()
            assert await client.epoch_after(first) > first

    async def test_a_newer_listener_takes_over(self) -> None:
        """The older one is told to stop, in whatever it waits for; the newer one reports."""
        async with self.server() as server, self.client(server) as older:
            epoch = await older.epoch_after(0)
            await older.send(report("a"))
            await server.receive()
            flushing = asyncio.create_task(older.flush())
            async with self.client(server) as newer:
                assert await newer.epoch_after(0) > epoch
                with pytest.raises(FencedError):
                    await flushing
                with pytest.raises(FencedError):
                    await older.send(report("b"))
                with pytest.raises(FencedError):
                    await older.epoch_after(epoch)
                assert server.connections == 1
                await newer.send(report("b"))
                (incoming,) = await server.receive()
                assert incoming.batch.state.epoch == newer.epoch
                incoming.acknowledge()

    async def test_listeners_of_other_sources_do_not_meet(self) -> None:
        """Two streams of one backend live side by side."""
        async with (
            self.server() as server,
            self.client(server, source="pods"),
            self.client(server, source="nodes"),
        ):
            await until(lambda: server.connections == 2)

    async def test_a_store_that_is_away_is_waited_for(self) -> None:
        """Not let in, the client comes again, for as long as it takes."""
        desk, faults = Desk(), self.faults()
        desk.available = False
        config = ServerConfig(retry_after=0.01)
        async with (
            self.server(admit=desk.admit, config=config) as server,
            self.client(server, faults=faults) as client,
        ):
            await until(lambda: faults.dialled >= 3)
            assert not client.stats.connected
            desk.available = True
            assert await client.epoch_after(0)

    async def test_a_listener_that_cannot_be_served_stops(self) -> None:
        """What no retry can mend is an error of the caller, with the operator's reason."""

        async def admit(producer: Producer, known: ProducerState) -> ProducerState:
            raise UsageError(f"{producer.backend} is not one of ours")

        async with self.server(admit=admit) as server, self.client(server) as client:
            with pytest.raises(UsageError, match="backend is not one of ours"):
                await client.epoch_after(0)

    async def test_an_overloaded_operator_asks_for_patience(self) -> None:
        """A batch that does not fit its inbox costs its sender a pause, not the message."""
        desk = Desk()
        config = ServerConfig(inbox_bytes=2000, retry_after=0.01)
        async with self.server(admit=desk.admit, config=config) as server:
            async with self.client(server) as client:
                await client.epoch_after(0)
                for message in events(10, size=1000):
                    await client.send(message)
                await until(lambda: client.stats.connects >= 2)
                serving = asyncio.create_task(desk.serve(server))
                await client.flush()
            server.stop()
            await serving
        assert desk.keys() == [str(number) for number in range(10)]

    async def test_a_silent_operator_is_given_up(self) -> None:
        """The link is open and nothing comes: the client connects again, and nothing is lost."""
        desk, faults = Desk(), self.faults()
        quick = SessionConfig(heartbeat_interval=0.04, heartbeat_timeout=0.04)
        async with self.server(admit=desk.admit) as server:
            serving = asyncio.create_task(desk.serve(server))
            async with self.client(server, faults=faults, session=quick) as client:
                await send_all(client, events(1))
                faults.hold()
                await client.send(event("held"))
                await until(lambda: not client.stats.connected)
                faults.release()
                await client.flush()
                assert client.stats.connects == 2
            server.stop()
            await serving
        assert desk.keys() == ["0", "held"]

    async def test_a_silent_listener_is_given_up(self) -> None:
        """Its connection is ended by the operator, and it may come again."""
        faults = self.faults()
        quick = SessionConfig(heartbeat_interval=0.04, heartbeat_timeout=0.04)
        async with (
            self.server(config=ServerConfig(session=quick)) as server,
            self.client(server, faults=faults) as client,
        ):
            await until(lambda: client.stats.connected)
            faults.hold(Way.OUT)
            await until(lambda: client.stats.connects == 1 and not client.stats.connected)
            faults.release()
            await until(lambda: client.stats.connects == 2)

    async def test_heartbeats_keep_an_idle_link(self) -> None:
        """Both sides answer, so that nobody is given up."""
        quick = SessionConfig(heartbeat_interval=0.02, heartbeat_timeout=0.5)
        async with (
            self.server(config=ServerConfig(session=quick)) as server,
            self.client(server, session=quick) as client,
        ):
            await until(lambda: client.stats.connected)
            await asyncio.sleep(0.2)
            assert client.stats.connects == 1
            assert client.stats.connected

    async def test_swallowed_frames_cost_a_reconnect(self) -> None:
        """A gap is noticed, the connection ended, and everything sent again in order."""
        desk, faults = Desk(), self.faults()
        async with self.server(admit=desk.admit) as server:
            serving = asyncio.create_task(desk.serve(server))
            async with self.client(server, faults=faults) as client:
                await send_all(client, events(2))
                faults.drop(1, Way.OUT)
                await client.send(event("swallowed"))
                await client.send(event("next"))
                await client.flush()
                assert (client.stats.connects, faults.dropped) == (2, 1)
            server.stop()
            await serving
        assert desk.keys() == ["0", "1", "swallowed", "next"]
