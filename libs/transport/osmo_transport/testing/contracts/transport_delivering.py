"""The promises of the client and the server, over one transport: what arrives."""

import asyncio

import pytest

from osmo_transport.errors import (
    ClosedError,
    MessageTooLargeError,
)
from osmo_transport.frames import Limits, Push
from osmo_transport.message import encode_message
from osmo_transport.queues.delivery import ProducerState
from osmo_transport.server import Incoming, Server, ServerConfig
from osmo_transport.session import Greeting, SessionConfig
from osmo_transport.session.config import OutboxConfig
from osmo_transport.testing.cancellation import cancel_at
from osmo_transport.testing.contracts.desk import Desk, events, send_all
from osmo_transport.testing.contracts.transport_suite import (
    PATIENCE,
    TransportSuite,
    event,
    event_of,
    report,
    until,
)
from osmo_transport.testing.patience import patience


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

    async def test_what_is_pushed_reaches_every_client_of_a_backend(self) -> None:
        """Those that are there and those that come, each newest version once, no other backend's;
        a version that is out of date is told to nobody."""
        async with self.server() as server, self.client(server) as first:
            await first.epoch_after(0)
            server.push("backend", Push("rules", 5, b"five"))
            assert (await first.push_after("rules", 0)).payload == b"five"
            server.push("backend", Push("rules", 7, b"seven"))
            server.push("backend", Push("rules", 6, b"six"))
            server.push("another", Push("rules", 8, b"eight"))
            server.push("backend", Push("others", 1, bytes(range(256))))
            assert (await first.push_after("others", 0)).payload == bytes(range(256))
            assert await first.push_after("rules", 5) == Push("rules", 7, b"seven")
            async with self.client(server, source="late") as second:
                assert await second.push_after("rules", 0) == Push("rules", 7, b"seven")
            async with self.client(server, backend="another") as stranger:
                assert (await stranger.push_after("rules", 0)).payload == b"eight"

    async def test_who_was_away_gets_the_newest_push_once(self) -> None:
        """After a reconnect what is known already is not told again."""
        faults = self.faults()
        async with self.server() as server, self.client(server, faults=faults) as client:
            server.push("backend", Push("rules", 1, b"one"))
            await client.push_after("rules", 0)
            again = asyncio.create_task(client.push_after("rules", 1))
            faults.reset()
            await until(lambda: client.stats.connects == 2)
            await asyncio.sleep(0.02)
            assert not again.done()
            server.push("backend", Push("rules", 2, b"two"))
            assert (await again).payload == b"two"

    async def test_a_client_introduces_itself(self) -> None:
        """Whoever lets clients in sees what it says of itself, in every hello."""
        seen: list[bytes] = []
        desk, faults = Desk(), self.faults()

        async def admit(greeting: Greeting) -> ProducerState:
            seen.append(greeting.introduction)
            return await desk.admit(greeting)

        told = bytes(range(256))
        async with (
            self.server(admit=admit) as server,
            self.client(server, introduction=told, faults=faults) as client,
        ):
            await client.epoch_after(0)
            faults.reset()
            await until(lambda: client.stats.connects == 2)
        assert seen == [told, told]

    async def test_messages_of_every_size_up_to_the_limit(self) -> None:
        """The largest is delivered, one byte more is refused to the sender, who goes on."""
        limits = Limits(message_bytes=50_000, batch_bytes=20_000)
        session = SessionConfig(limits=limits)
        desk = Desk()
        async with self.server(admit=desk.admit, config=ServerConfig(session=session)) as server:
            serving = asyncio.create_task(desk.serve(server))
            async with self.client(server, session=session) as client:
                for size in (0, 1, 125, 126, 65_000 // 2):
                    await client.send(event("a", size))
                await client.send(event_of("a", limits.message_bytes))
                with pytest.raises(MessageTooLargeError):
                    await client.send(event_of("a", limits.message_bytes + 1))
                await client.send(event("b"))
                await client.flush()
                assert client.stats.connects == 1
            server.stop()
            await serving
        assert len(encode_message(desk.messages[-2])) == limits.message_bytes
        assert desk.keys()[-1] == "b"

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
                assert (client.stats.refused, client.stats.connects) == (1, 1)
                (refusal,) = client.refusals
                assert refusal.key == "b"
                assert "limit is 1000" in refusal.reason
            server.stop()
            await serving
        assert desk.keys() == ["a", "c"]

    async def test_a_slow_server_holds_the_sender_back(self) -> None:
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
        """A server that stores nothing costs `drain_timeout`, not the client's life."""
        async with self.server() as server:
            async with patience(PATIENCE), self.client(server, drain_timeout=0.05) as client:
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
            for _ in range(2):  # until it waits: some transports hand a report over at once
                await asyncio.sleep(0)
            await client.send(report("a"))
            assert await receiving
            await client.send(report("b"))
            while sum(len(incoming.messages) for incoming in taken) < 2:
                await receive()
            for incoming in taken:
                incoming.acknowledge()

    async def test_a_stopping_server_hands_out_what_has_arrived(self) -> None:
        """Then nothing more, to every receiver; what it leaves is sent to the next one."""
        desk = Desk()
        async with self.server(admit=desk.admit) as server:
            url = server.url
            client_ends = asyncio.Event()

            async def reporting() -> None:
                async with self.client(url) as client:
                    await client.send(event("a"))
                    await client_ends.wait()
                    await client.send(event("b"))
                    await client.flush()

            listening = asyncio.create_task(reporting())
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
