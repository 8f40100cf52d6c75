"""Who is let in by a server, and who has to make way."""

import asyncio
import time

import pytest

from osmo_transport import ClientConfig, Greeting, ProducerState, ServerConfig, connect, listen
from osmo_transport.frames import Goodbye, GoodbyeCode, Occupied, Welcome
from osmo_transport.testing import make_message
from tests.helpers import eventually
from tests.transport.bare import BareClient
from tests.transport.builders import PRODUCER, batch


async def test_the_same_client_takes_its_own_place() -> None:
    """The older connection is replaced, not fenced: its process is the same."""
    async with listen("memory://") as server:
        older = await BareClient().connect(server)
        await older.welcome()
        newer = await BareClient().connect(server)
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
        older = await BareClient().connect(server)
        await eventually(lambda: calls == 1)
        newer = await BareClient().connect(server)
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
        older, newer = BareClient(), BareClient()
        await older.dial(server)
        await newer.connect(server)
        await newer.welcome()
        older.say_hello()
        assert await older.goodbye() is GoodbyeCode.REPLACED
        await asyncio.sleep(0.01)
        assert (admitted, newer.end) == (1, None)


async def test_an_older_client_does_not_come_back() -> None:
    """Its epoch is below the one in use."""
    async with listen("memory://") as server:
        older = await BareClient("one").connect(server)
        first = await older.welcome()
        newer = await BareClient("two").connect(server)
        assert await older.goodbye() is GoodbyeCode.FENCED
        assert (await newer.welcome()).epoch > first.epoch
        state = ProducerState(first.queue_epoch, first.epoch, 0)
        zombie = await BareClient("one", state).connect(server)
        assert await zombie.goodbye() is GoodbyeCode.FENCED
        assert newer.end is None


async def test_who_is_fenced_is_told_by_whom() -> None:
    """One that stands by is to come back for that; the other one is to stop."""
    for name, takes_over, code in (
        ("one", False, GoodbyeCode.OVERTAKEN),
        ("two", True, GoodbyeCode.FENCED),
    ):
        async with listen("memory://") as server:
            older = await BareClient(name, takes_over=takes_over).connect(server)
            await older.welcome()
            newer = await BareClient("newer").connect(server)
            await newer.welcome()
            assert await older.goodbye() is code
            goodbye = older.frames[-1]
            assert isinstance(goodbye, Goodbye)
            assert "newer at " in goodbye.reason


async def test_a_broken_connection_keeps_the_place_for_a_moment() -> None:
    """Its process comes back to it; when it does not, the one that waits is let in soon."""
    for grace, comes_back in ((60.0, True), (0.05, False)):
        config = ServerConfig(lease=60.0, lease_grace=grace)
        async with listen("memory://", config=config) as server:
            older = await BareClient("older", takes_over=False).connect(server)
            first = await older.welcome()
            newer = await BareClient("newer", takes_over=False).connect(server)
            await eventually(lambda: newer.frames)  # noqa: B023
            occupied = newer.frames[0]
            assert isinstance(occupied, Occupied)
            assert occupied.instance == "older"
            older.connection.close()
            if comes_back:
                back = await BareClient("older", takes_over=False).connect(server)
                assert (await back.welcome()).epoch == first.epoch
                assert len(newer.frames) == 1
                continue
            await eventually(lambda: len(newer.frames) == 2)  # noqa: B023
            welcome = newer.frames[1]
            assert isinstance(welcome, Welcome)
            assert welcome.epoch > first.epoch


async def test_a_broken_connection_keeps_the_place_no_longer_than_a_silent_one() -> None:
    """However long it is given, and so no longer than a lease can last."""
    config = ServerConfig(lease=60.0, lease_grace=1000.0)
    async with listen("memory://", config=config) as server:
        older = await BareClient("older", takes_over=False).connect(server)
        await older.welcome()
        newer = await BareClient("newer", takes_over=False).connect(server)
        await eventually(lambda: newer.frames)
        older.connection.close()
        await eventually(lambda: not server.backends)
        late = await BareClient("late", takes_over=False).connect(server)
        await eventually(lambda: late.frames)
        assert isinstance(late.frames[0], Occupied)
        assert len(newer.frames) == 1


async def test_who_stands_by_leaves_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """With what it was given: nobody will acknowledge it. How much that is, is logged."""
    async with listen("memory://") as server:
        await (await BareClient("older", takes_over=False).connect(server)).welcome()
        config = ClientConfig(drain_timeout=600.0)
        async with connect(
            server.url, backend=PRODUCER.backend, source=PRODUCER.source, config=config
        ) as client:
            await client.placed()
            await client.send(make_message())
        assert "1 message was not acknowledged" in caplog.text


async def test_a_lost_welcome_does_not_fence_its_own_client() -> None:
    """It asks again with what it knows, once or often, also late, and gets the epoch that it never
    heard of, until somebody else has been let in."""
    async with listen("memory://") as server:
        first = await (await BareClient().connect(server)).welcome()
        renewing = ProducerState("", first.epoch, 0)
        unheard = await (await BareClient("one", renewing).connect(server)).welcome()
        assert unheard.epoch > first.epoch
        again = await BareClient("one", renewing).connect(server)
        assert (await again.welcome()).epoch == unheard.epoch
        again.connection.send(batch(1, make_message()))
        (incoming,) = await server.receive()
        incoming.acknowledge()
        late = await (await BareClient("one").connect(server)).welcome()
        assert (late.epoch, late.sequence) == (unheard.epoch, 1)
        await (await BareClient("two").connect(server)).welcome()
        zombie = await BareClient("one", renewing).connect(server)
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
        older = await BareClient("one", ProducerState("q", 1, 0)).connect(server)
        newer = await BareClient("two").connect(server)
        await newer.welcome()
        release.set()
        assert await older.goodbye() is GoodbyeCode.FENCED
        assert newer.end is None


async def test_a_defect_of_who_lets_in_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its traceback; the client is asked to come back, and others are let in."""

    async def admit(greeting: Greeting) -> ProducerState:
        if greeting.instance == "one":
            raise ZeroDivisionError("a defect")
        return ProducerState("q", 1, 0)

    async with listen("memory://", admit=admit) as server:
        unlucky = await BareClient("one").connect(server)
        assert await unlucky.goodbye() is GoodbyeCode.UNAVAILABLE
        goodbye = unlucky.frames[-1]
        assert isinstance(goodbye, Goodbye)
        assert goodbye.retry_after == ServerConfig().retry_after
        assert "ZeroDivisionError" not in goodbye.reason
        assert (await (await BareClient("two").connect(server)).welcome()).epoch == 1
    (logged,) = (r for r in caplog.records if r.name == "osmo_transport.server" and r.exc_info)
    assert logged.exc_info is not None
    assert isinstance(logged.exc_info[1], ZeroDivisionError)
    assert "a defect of this program" in caplog.text


async def test_who_cannot_be_let_in_in_time_is_asked_to_come_back() -> None:
    """Nobody waits for a store without an end; whoever is let in late is not welcomed any more."""
    release = asyncio.Event()
    cancelled = 0

    async def admit(greeting: Greeting) -> ProducerState:
        nonlocal cancelled
        try:
            await release.wait()
        except asyncio.CancelledError:
            cancelled += 1
            raise
        return ProducerState("q", 1, 0)

    config = ServerConfig(admit_timeout=0.05)
    async with listen("memory://", admit=admit, config=config) as server:
        client = await BareClient().connect(server)
        assert await client.goodbye() is GoodbyeCode.UNAVAILABLE
        goodbye = client.frames[-1]
        assert isinstance(goodbye, Goodbye)
        assert "within 0.05 s" in goodbye.reason
        assert len(client.frames) == cancelled == 1


async def test_who_leaves_is_not_asked_for_any_more() -> None:
    """The question ends with its connection."""
    asked, ended = asyncio.Event(), asyncio.Event()

    async def admit(greeting: Greeting) -> ProducerState:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError("unreachable")

    async with listen("memory://", admit=admit) as server:
        client = await BareClient().connect(server)
        await asked.wait()
        client.connection.close()
        async with asyncio.timeout(10):
            await ended.wait()
        await eventually(lambda: server.connections == 0)


async def test_a_server_without_a_queue_counts_epochs_from_the_clock() -> None:
    """So that a client which another one let in, on any machine, is given a higher epoch by the
    next: the two have the same name for their memory."""
    now = int(time.time() * 1000)
    async with listen("memory://") as server:
        known = ProducerState("own", now - 1000, 7)
        welcome = await (await BareClient("one", known).connect(server)).welcome()
        assert welcome.epoch > known.epoch
