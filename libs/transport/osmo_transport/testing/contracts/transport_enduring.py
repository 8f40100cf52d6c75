"""The promises of the client and the server, over one transport: when things break."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from osmo_transport._quota import QuotaConfig
from osmo_transport.client import Client
from osmo_transport.errors import (
    FencedError,
    UsageError,
)
from osmo_transport.frames import Limits
from osmo_transport.queues.delivery import ProducerState
from osmo_transport.server import ServerConfig
from osmo_transport.session import Greeting, SessionConfig
from osmo_transport.testing.contracts.desk import Desk, events, send_all
from osmo_transport.testing.contracts.transport_suite import (
    TransportSuite,
    event,
    report,
    until,
)
from osmo_transport.testing.faults import Way

TEN_AT_ONCE = SessionConfig(limits=Limits(window_messages=10))


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

    async def test_a_restarted_server_is_found_again(self) -> None:
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

    async def test_a_server_without_memory_gives_a_new_epoch(self) -> None:
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
            assert [m.key for m in incoming.messages] == ["a"]
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

    async def test_a_second_client_stands_by(self) -> None:
        """It is told who reports, and takes over when that one has said goodbye, or when it has
        been silent for as long as its lease lasts; what it was given meanwhile is delivered
        then."""
        desk = Desk()
        async with self.server(admit=desk.admit, renew=desk.renew) as server:
            serving = asyncio.create_task(desk.serve(server))
            async with self.client(server) as second, self.client(server) as third:
                async with self.client(server, backend="another") as other:
                    assert await other.epoch_after(0)
                first, waiting = await self._who_reports(second, third)
                epoch = first.epoch
                assert waiting.holder is not None
                assert waiting.holder.address
                assert (first.holder, waiting.epoch) == (None, 0)
                await waiting.send(report("a"))
                await first.send(report("b"))
                await first.flush()
                assert desk.keys() == ["b"]
                desk.renews = False
                desk.now += 100.0
                assert await waiting.epoch_after(0) > epoch
                await waiting.flush()
                assert desk.keys() == ["b", "a"]
                assert waiting.holder is None
                await until(lambda: first.holder is not None)
            server.stop()
            await serving

    async def _who_reports(self, one: Client, two: Client) -> tuple[Client, Client]:
        await one.placed()
        await two.placed()
        return (one, two) if one.epoch else (two, one)

    async def test_a_client_that_leaves_is_followed_at_once(self) -> None:
        """By the one that stands by."""
        async with self.server() as server, AsyncExitStack() as stack:
            async with self.client(server) as older:
                epoch = await older.epoch_after(0)
                newer = await stack.enter_async_context(self.client(server))
                await newer.placed()
                assert newer.epoch == 0
            assert await newer.epoch_after(0) > epoch

    async def test_a_newer_client_takes_over(self) -> None:
        """Where it asks for that: the older one is told to stop, in whatever it waits for, and the
        newer one reports."""
        async with self.server() as server, self.client(server, takes_over=True) as older:
            epoch = await older.epoch_after(0)
            await older.send(report("a"))
            await server.receive()
            flushing = asyncio.create_task(older.flush())
            async with self.client(server, takes_over=True) as newer:
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
                assert incoming.state.epoch == newer.epoch
                incoming.acknowledge()

    async def test_clients_of_other_sources_do_not_meet(self) -> None:
        """Two streams of one backend live side by side."""
        async with (
            self.server() as server,
            self.client(server, source="one"),
            self.client(server, source="other"),
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

    async def test_a_client_that_cannot_be_served_stops(self) -> None:
        """What no retry can mend is an error of the caller, with the server's reason."""

        async def admit(greeting: Greeting) -> ProducerState:
            raise UsageError(f"{greeting.producer.backend} is not one of ours")

        async with self.server(admit=admit) as server, self.client(server) as client:
            with pytest.raises(UsageError, match="backend is not one of ours"):
                await client.epoch_after(0)

    async def test_an_overloaded_server_asks_for_patience(self) -> None:
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

    async def test_who_sends_more_than_its_quota_is_slowed_down(self) -> None:
        """And loses nothing, not even its connection: it is not read for a while, again and again,
        and its own window holds back what is left. Another backend is not concerned."""
        desk = Desk()
        config = ServerConfig(quota=QuotaConfig(messages=100, burst=0.1), session=TEN_AT_ONCE)
        messages = events(30)
        async with self.server(admit=desk.admit, config=config) as server:
            serving = asyncio.create_task(desk.serve(server))
            async with self.client(server) as client, self.client(server, backend="b") as other:
                for message in messages:
                    await client.send(message)
                await send_all(other, [event("other")])
                await client.flush()
                assert client.stats.connects == 1
            server.stop()
            await serving
        assert {name for name, seconds in server.stats.slowed.items() if seconds} == {"backend"}
        assert server.stats.slowed.keys() == {"backend", "b"}
        assert desk.slowed == {"backend"}
        assert [m.key for m in desk.messages if m.key != "other"] == [m.key for m in messages]

    async def test_a_silent_server_is_given_up(self) -> None:
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

    async def test_a_silent_client_is_given_up(self) -> None:
        """Its connection is ended by the server, and it may come again."""
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
