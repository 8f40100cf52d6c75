"""Keeping a connection up, where time and turns of the event loop matter."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from osmo_transport import (
    BackoffConfig,
    CertificateError,
    Client,
    ClientConfig,
    ConnectionLostError,
    HandshakeError,
    OutboxConfig,
    Server,
    SessionConfig,
    Transport,
    TransportError,
    WrongServerError,
    connect,
    listen,
    transport_for,
)
from osmo_transport._uplink import MAX_REASONS
from osmo_transport.testing import make_message
from osmo_transport.transports.abc import Accept, Connection, ConnectionConfig, Endpoint, FrameSink
from tests.helpers import eventually

MANY = 100_000


class SlowlyRefusing(Transport):
    """Each try takes longer than a connection has to live to count as healthy, and fails."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.tries = 0

    async def dial(self, url: str, sink: FrameSink, config: ConnectionConfig) -> Connection:
        self.tries += 1
        await asyncio.sleep(self._seconds)
        raise ConnectionLostError("nobody there, found out late")

    async def listen(self, url: str, accept: Accept, config: ConnectionConfig) -> Endpoint:
        raise NotImplementedError


async def test_a_try_that_fails_slowly_is_no_healthy_connection() -> None:
    """Delays go on to grow: it is the time since the welcome that counts, and there was none."""
    backoff = BackoffConfig(base=0.001, maximum=60.0, healthy_after=0.001)
    refusing = SlowlyRefusing(2 * backoff.healthy_after)
    config = ClientConfig(backoff=backoff, drain_timeout=0.0)
    async with connect("memory://nobody", backend="b", config=config, transport=refusing) as client:
        await eventually(lambda: refusing.tries >= 6)
        assert client._uplink._backoff._tries >= 6 - 1


async def test_many_messages_before_the_first_welcome_leave_others_their_turn() -> None:
    """Who sends without a pause still gives the event loop turns, connected or not."""
    outbox = OutboxConfig(max_every_entries=2 * MANY)
    config = ClientConfig(drain_timeout=0.0, session=SessionConfig(outbox=outbox))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with connect("memory://nobody", backend="b", config=config) as client:
        counting = asyncio.create_task(count())
        for number in range(MANY):
            await client.send(make_message(f"key-{number}"))
        assert turns > MANY // 1000
        counting.cancel()
        await asyncio.wait([counting])
        assert client.stats.waiting == MANY


async def test_what_was_sent_before_the_first_welcome_arrives() -> None:
    """In order, once somebody listens."""
    quick = ClientConfig(backoff=BackoffConfig(base=0.001, maximum=0.01))
    async with connect("memory://later", backend="b", config=quick) as client:
        for number in range(100):
            await client.send(make_message(f"key-{number}"))
        async with listen("memory://later") as server:
            keys: list[str] = []
            while len(keys) < 100:
                for incoming in await server.receive():
                    keys += [message.key for message in incoming.messages]
                    incoming.acknowledge()
            await client.flush()
    assert keys == [f"key-{number}" for number in range(100)]


class Failing(Transport):
    """Tries fail for one reason after the other, the last for ever; None stands for a server."""

    def __init__(self, *reasons: TransportError | None) -> None:
        self._reasons = list(reasons)
        self.tries = 0
        self.asked: list[int] = []
        """After which tries it was asked who answers."""

    async def why(
        self, url: str, error: HandshakeError, config: ConnectionConfig
    ) -> TransportError:
        self.asked.append(self.tries)
        return ConnectionLostError(f"a proxy answers {url}")

    async def dial(self, url: str, sink: FrameSink, config: ConnectionConfig) -> Connection:
        self.tries += 1
        reason = self._reasons.pop(0) if len(self._reasons) > 1 else self._reasons[0]
        if reason is not None:
            raise reason
        return await transport_for(url).dial(url, sink, config)

    async def listen(self, url: str, accept: Accept, config: ConnectionConfig) -> Endpoint:
        raise NotImplementedError


QUICK = ClientConfig(backoff=BackoffConfig(base=0.001, maximum=0.001), drain_timeout=0.0)
AWAY, SLOW = ConnectionLostError("nobody is there"), ConnectionLostError("nobody answers")
WRONG = WrongServerError("Redis answers there")


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the client warned of, without the delays."""
    return [
        record.getMessage().partition(";")[0]
        for record in caplog.records
        if record.levelno == logging.WARNING
    ]


async def test_each_reason_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """However often it is tried in vain."""
    transport = Failing(AWAY, AWAY, SLOW, AWAY, SLOW, AWAY)
    async with connect("memory://once", backend="b", config=QUICK, transport=transport):
        await eventually(lambda: transport.tries > 8)
    assert warnings(caplog) == [
        "memory://once: nobody is there",
        "memory://once: nobody answers",
    ]


async def test_after_a_welcome_a_reason_is_logged_again(caplog: pytest.LogCaptureFixture) -> None:
    """It is another outage."""
    async with listen("memory://again") as server:
        transport = Failing(AWAY, None, AWAY, None)
        async with connect("memory://again", backend="b", config=QUICK, transport=transport) as it:
            await it.epoch_after(0)
            server.resync("another")
            await eventually(lambda: it.stats.connects == 2)
    assert warnings(caplog).count("memory://again: nobody is there") == 2


async def test_reasons_that_differ_each_time_are_bounded() -> None:
    """As those that tell a number."""
    reasons = [ConnectionLostError(f"{number} times") for number in range(3 * MAX_REASONS)]
    transport = Failing(*reasons)
    async with connect("memory://many", backend="b", config=QUICK, transport=transport) as client:
        await eventually(lambda: transport.tries > len(reasons))
        assert len(client._uplink._reasons) <= MAX_REASONS


STRANGE = HandshakeError("no handshake")


async def test_it_is_asked_who_answers_ever_more_rarely(caplog: pytest.LogCaptureFixture) -> None:
    """At the first try too, where this client was never welcomed; other losses do not count."""
    transport = Failing(AWAY, STRANGE)
    async with connect("memory://odd", backend="b", config=QUICK, transport=transport):
        await eventually(lambda: transport.tries > 40)
    assert transport.asked[:6] == [1 + n for n in (1, 2, 4, 8, 16, 32)]
    assert warnings(caplog)[:3] == [
        "memory://odd: nobody is there",
        "a proxy answers memory://odd",
        "memory://odd: no handshake",
    ]


async def test_where_it_was_welcomed_a_client_tries_once_more_before_it_asks() -> None:
    """A balancer with a server that does not answer gives it another one then."""
    async with listen("memory://known") as server:
        transport = Failing(None, STRANGE, None, STRANGE, STRANGE, None)
        async with connect("memory://known", backend="b", config=QUICK, transport=transport) as it:
            for welcomes in (1, 2, 3):
                await eventually(partial(lambda times: it.stats.connects == times, welcomes))
                server.resync("another")
    assert transport.asked == [5]


async def test_a_server_of_another_kind_ends_a_client_that_begins() -> None:
    """No waiting mends the URL: whoever waits is told."""
    transport = Failing(AWAY, WRONG)
    async with connect("memory://wrong", backend="b", config=QUICK, transport=transport) as client:
        with pytest.raises(WrongServerError, match="Redis"):
            await client.epoch_after(0)
        with pytest.raises(WrongServerError):
            await client.send(make_message("a"))
    assert transport.tries == 2


@pytest.mark.parametrize("wrong", [WRONG, CertificateError("it is not trusted")])
async def test_what_was_right_once_is_waited_for(wrong: TransportError) -> None:
    """By a client that was welcomed: somebody else has the port for now, or a wrong certificate was
    put in the place of the right one."""
    async with listen("memory://taken") as server:
        transport = Failing(None, wrong, wrong, None)
        async with connect("memory://taken", backend="b", config=QUICK, transport=transport) as it:
            await it.epoch_after(0)
            server.resync("another")
            await eventually(lambda: it.stats.connects == 2)


@asynccontextmanager
async def standing_by(url: str, *reasons: TransportError) -> AsyncIterator[tuple[Client, Failing]]:
    """A client that waits while another one reports. Its next tries fail for these reasons."""
    quick = BackoffConfig(base=0.001, maximum=0.001, healthy_after=0.0)
    config = ClientConfig(backoff=quick, drain_timeout=0.0)
    transport = Failing(None, *reasons, None)
    async with listen(url), connect(url, backend="b", config=config) as holder:
        await holder.placed()
        async with connect(url, backend="b", config=config, transport=transport) as standby:
            await eventually(lambda: standby.holder is not None)
            yield standby, transport


async def test_a_server_of_another_kind_is_waited_out_by_a_standby() -> None:
    """Its URL was right as well: a server of ours told it to wait."""
    async with standing_by("memory://stood", STRANGE, WRONG) as (standby, transport):
        standby._uplink.part(AWAY)
        await eventually(lambda: transport.tries == 4)
        await eventually(lambda: standby._session.placed)
        assert standby._uplink.failure is None
    assert transport.asked == []


async def test_a_standby_that_had_its_place_again_begins_a_new_outage(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It comes back as soon as at first, warns of each outage, and says when one is over."""
    caplog.set_level(logging.INFO)
    async with standing_by("memory://back") as (standby, transport):
        for tries in (2, 3, 4):
            standby._uplink.part(SLOW)
            await eventually(partial(lambda count: transport.tries == count, tries))
            await eventually(lambda: standby._session.placed)
            assert standby._uplink._backoff._tries == 1
    assert warnings(caplog).count("memory://back: nobody answers") == 3
    assert caplog.text.count("waits as a standby") == 4


@pytest.mark.parametrize(("url", "yields"), [("ws://127.0.0.1:0", 2), ("memory://", 0)])
async def test_who_receives_gets_a_core(
    url: str, yields: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time that several were sent, unless it is this process that receives."""
    yielded: list[None] = []
    monkeypatch.setattr("osmo_transport._uplink.let_others_run", lambda: yielded.append(None))

    async def acknowledge(server: Server) -> None:
        async for incoming in server:
            incoming.acknowledge()

    async with listen(url) as server, connect(server.url, backend="b") as client:
        acknowledging = asyncio.create_task(acknowledge(server))
        await client.epoch_after(0)
        for group in range(2):
            for number in range(3):
                await client.send(make_message(f"{group}-{number}"), more=True)
            await client.flush()
        server.stop()
        await acknowledging
    assert len(yielded) == yields
