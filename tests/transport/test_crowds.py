"""How many connections come from one address, and report for one backend."""

from contextlib import AsyncExitStack

import pytest

from osmo_transport import QuotaConfig, ServerConfig, connect, listen
from osmo_transport._crowds import Crowd
from osmo_transport._peer import Peer
from osmo_transport.frames import Credential, Goodbye, GoodbyeCode, Occupied, Welcome
from tests.helpers import eventually
from tests.transport.bare import BareClient
from tests.transport.line import Line
from tests.transport.test_hub import new_hub, welcomed


def test_who_leaves_makes_room() -> None:
    """And nothing is remembered of who has gone."""
    crowd = Crowd(2)
    assert not crowd.enter("a")
    assert not crowd.enter("a")
    assert not crowd.enter("b")
    assert crowd.enter("a") == "2 connections, the limit"
    for name in "aaab":
        crowd.leave(name)
    assert not crowd.enter("a")
    crowd.leave("a")
    assert not crowd._inside


async def test_connections_of_an_address_are_bounded() -> None:
    """One more is asked to come later, and told why; those of another address are not concerned."""
    hub = new_hub()
    lines = []
    for number in range(5):
        line = Line()
        line.peer = f"10.0.0.{number // 4}:{number}"
        hub.accept(line)
        lines.append(line)
    (goodbye,) = lines[3].sent
    assert isinstance(goodbye, Goodbye)
    assert goodbye.code is GoodbyeCode.UNAVAILABLE
    assert goodbye.reason == "this address has 3 connections, the limit"
    assert goodbye.retry_after > 0
    assert [line.closed.is_set() for line in lines] == [False, False, False, True, False]
    assert hub.goodbyes == {GoodbyeCode.UNAVAILABLE: 1}
    await hub.aclose()


async def test_a_connection_that_ends_makes_room() -> None:
    """For another one of its address and of its backend."""
    hub = new_hub()
    for _ in range(10):
        peer, _ = await welcomed(hub, "10.0.0.1:1")
        peer.part(GoodbyeCode.CLOSING, "bye")
    assert not hub.goodbyes[GoodbyeCode.UNAVAILABLE]
    await hub.aclose()


async def test_connections_of_a_backend_are_bounded() -> None:
    """Those that wait for their turn count as well; one more is told so, and another backend is
    not concerned."""
    config = ServerConfig(max_backend_connections=2, lease_grace=0.0)
    async with listen("memory://", config=config) as server:
        first = await BareClient("one", takes_over=False).connect(server)
        await first.welcome()
        second = await BareClient("two", takes_over=False).connect(server)
        await eventually(lambda: second.frames)
        third = await BareClient("three", takes_over=False).connect(server)
        assert await third.goodbye() is GoodbyeCode.UNAVAILABLE
        assert "this backend has 2 connections, the limit" in str(third.frames[-1])
        assert server.stats.refused["unavailable"] == 1
        async with connect(server.url, backend="another") as other:
            assert await other.epoch_after(0)
        again = await BareClient("two", takes_over=False).connect(server)
        await eventually(lambda: again.frames)
        assert await second.goodbye() is GoodbyeCode.REPLACED
        first.connection.close()
        await eventually(lambda: isinstance(again.frames[-1], Welcome))


async def test_who_stands_by_pays_for_what_he_says() -> None:
    """As whoever reports: a newer credential, again and again, is work for his backend."""
    quota = QuotaConfig(messages=10, burst=1.0)
    config = ServerConfig(quota=quota, lease_grace=0.0)
    async with listen("memory://", config=config) as server:
        first = await BareClient("one", takes_over=False).connect(server)
        await first.welcome()
        second = await BareClient("two", takes_over=False).connect(server)
        await eventually(lambda: second.frames)
        assert isinstance(second.frames[0], Occupied)
        for _ in range(30):
            second.connection.send(Credential("newer"))

        def slowed() -> list[Peer]:
            return [peer for peer in server._hub.peers if peer._meter and peer._meter.pauses]

        await eventually(slowed)
        assert [peer.waits for peer in slowed()] == [True]


@pytest.mark.parametrize("url", ["ws://127.0.0.1:0", "grpc://127.0.0.1:0"])
async def test_an_address_is_known_over_every_transport(url: str) -> None:
    """The client is told, and let in when there is room."""
    config = ServerConfig(max_address_connections=1)
    async with (
        listen(url, config=config) as server,
        connect(server.url, backend="a") as first,
        AsyncExitStack() as stack,
    ):
        await first.epoch_after(0)
        second = await stack.enter_async_context(connect(server.url, backend="b"))
        await eventually(lambda: server.stats.refused["unavailable"])
        assert not second.epoch
        assert server.connections == 1
