"""What reads the replies of Redis, over a transport that is no socket."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import InvalidResponse

from osmo_transport.queues.redis.replies import ErrorReply, Replies

PATIENCE = 60.0


class Wire(asyncio.Transport):
    """Keeps what is written, and whether it was given up."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.protocol: Any = None
        self.aborted = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Who gets what comes."""
        self.protocol = protocol

    def write(self, data: Any) -> None:
        """Keep it."""
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        """Whether it was given up."""
        return self.aborted

    def abort(self) -> None:
        """Give it up."""
        self.aborted = True
        self.protocol.connection_lost(None)


async def asked(wire: Wire, count: int, timeout: float = PATIENCE) -> "asyncio.Task[list[Any]]":
    """An exchange of so many commands, which are written."""
    exchanging = asyncio.create_task(wire.protocol.exchange(b"asked", count, timeout))
    await asyncio.sleep(0)
    return exchanging


@pytest.fixture
async def wire() -> Wire:
    """One that is taken over."""
    wire = Wire()
    Replies(wire)
    return wire


@pytest.mark.parametrize("size", [1, 2, 7, 100])
async def test_replies_come_in_whatever_pieces(wire: Wire, size: int) -> None:
    """Errors are replies among others, those within a reply too; ERR is no code worth telling."""
    for _ in range(2):
        exchanging = await asked(wire, 3)
        data = b":7\r\n*2\r\n$2\r\n\r\n\r\n-NOPERM no\r\n-ERR what\r\n"
        for start in range(0, len(data), size):
            wire.protocol.data_received(data[start : start + size])
        refused = [b"\r\n", ErrorReply("NOPERM no")]
        assert await exchanging == [7, refused, ErrorReply("what")]
    assert wire.written == [b"asked"] * 2


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b":1\r\n:2\r\n"])
async def test_what_is_not_an_answer_is_told(wire: Wire, data: bytes) -> None:
    """It is not of Redis, or more than was asked for."""
    exchanging = await asked(wire, 1)
    wire.protocol.data_received(data)
    with pytest.raises(InvalidResponse):
        await exchanging


@pytest.mark.parametrize("given_up", [False, True])
async def test_what_nobody_waits_for_ends_the_connection(wire: Wire, given_up: bool) -> None:
    """It would be taken for the next reply, and be kept without end until then."""
    if given_up:
        exchanging = await asked(wire, 1)
        exchanging.cancel()
        wire.protocol.data_received(b":1\r\n")
        with pytest.raises(asyncio.CancelledError):
            await exchanging
    else:
        wire.protocol.data_received(b"$100\r\n")
    assert wire.aborted
    with pytest.raises(ConnectionResetError):
        await wire.protocol.exchange(b"asked", 1, PATIENCE)


@pytest.mark.parametrize("cause", [None, BrokenPipeError("gone")])
async def test_an_end_is_told(wire: Wire, cause: OSError | None) -> None:
    """To who waits, with its cause where there is one."""
    exchanging = await asked(wire, 1)
    wire.protocol.connection_lost(cause)
    with pytest.raises(type(cause) if cause else ConnectionResetError):
        await exchanging


async def test_nothing_is_asked_and_nothing_comes(wire: Wire) -> None:
    """An empty group of commands has no reply to wait for."""
    assert await wire.protocol.exchange(b"", 0, PATIENCE) == []


class Time:
    """A loop as far as an exchange asks for one; its time passes when it is told to."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.create_future = self._loop.create_future
        self._now = 0.0
        self._timers: list[asyncio.TimerHandle] = []

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        self._timers.append(asyncio.TimerHandle(when, callback, (), self._loop))
        return self._timers[-1]

    def passes_until(self, now: float) -> None:
        self._now = now
        due = [timer for timer in self.waiting if timer.when() <= now]
        self._timers = [timer for timer in self._timers if timer not in due]
        for timer in due:
            timer._run()

    @property
    def waiting(self) -> list[asyncio.TimerHandle]:
        return [timer for timer in self._timers if not timer.cancelled()]


@pytest.fixture
async def timed(wire: Wire) -> Time:
    """The time of the wire."""
    wire.protocol._loop = time = Time()
    return time


async def test_the_time_of_one_exchange_does_not_end_the_next(wire: Wire, timed: Time) -> None:
    """The moment passes at which the first one would have been out of time, and nothing happens;
    the second one has its own, and at the end no timer is left."""
    exchanging = await asked(wire, 1, 5.0)
    wire.protocol.data_received(b":1\r\n")
    assert await exchanging == [1]
    timed.passes_until(1.0)
    exchanging = await asked(wire, 1, 5.0)
    timed.passes_until(5.0)
    await asyncio.sleep(0)
    assert not exchanging.done()
    assert [timer.when() for timer in timed.waiting] == [6.0]
    timed.passes_until(6.0)
    with pytest.raises(TimeoutError):
        await exchanging
    assert timed.waiting == []


async def test_an_end_leaves_no_timer(wire: Wire, timed: Time) -> None:
    """What watches over a connection goes with it."""
    exchanging = await asked(wire, 1)
    assert len(timed.waiting) == 1
    wire.abort()
    with pytest.raises(ConnectionResetError):
        await exchanging
    assert timed.waiting == []


async def test_who_has_less_time_than_the_one_before_is_told_in_time(
    wire: Wire, timed: Time
) -> None:
    """One timer is left, and it is the earlier one."""
    exchanging = await asked(wire, 1, 50.0)
    wire.protocol.data_received(b":1\r\n")
    assert await exchanging == [1]
    exchanging = await asked(wire, 1, 5.0)
    assert [timer.when() for timer in timed.waiting] == [5.0]
    timed.passes_until(5.0)
    with pytest.raises(TimeoutError):
        await exchanging
