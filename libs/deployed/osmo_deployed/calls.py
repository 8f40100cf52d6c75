"""The calls of deployed listeners: each the owner of a `Feed`, from which it gets its answers."""

import asyncio
import logging
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TypeAlias

import grpc
from grpc import aio

from osmo_deployed.feed import Feed, FeedOwner, TokenT
from osmo_deployed.protobuf import (
    encode_acknowledgement,
    encode_heartbeat,
    encode_rules,
)
from osmo_reports.conditions import DEFAULT_RULES
from osmo_reports.directory import RULES_KIND, decode_rules
from osmo_transport.errors import PeerError, UnsendableError
from osmo_transport.frames import Goodbye, GoodbyeCode, Push
from osmo_transport.message import Message
from osmo_transport.transports.abc import CLOSE_TIMEOUT

logger = logging.getLogger(__name__)

END_TIMEOUT = 10.0
"""Seconds that it may take to store what a listener sent before it said that this was all."""

BROKEN = (grpc.RpcError, asyncio.InvalidStateError, aio.BaseError)
"""What grpc.aio raises when a stream is used that has ended."""

Context: TypeAlias = "aio.ServicerContext[bytes, bytes]"


class StatusError(Exception):
    """How a call ends that does not end well."""

    def __init__(
        self, code: grpc.StatusCode, details: str, retry_after: float | None = None
    ) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.retry_after = retry_after
        """Seconds after which it may go better here; None: it will not, or only elsewhere."""


def status_of(goodbye: Goodbye) -> StatusError:
    """How a call ends whose connection ended with `goodbye`."""
    codes = {
        GoodbyeCode.DENIED: grpc.StatusCode.PERMISSION_DENIED,
        GoodbyeCode.EXPIRED: grpc.StatusCode.UNAUTHENTICATED,
        GoodbyeCode.REFUSED: grpc.StatusCode.FAILED_PRECONDITION,
        GoodbyeCode.PROTOCOL: grpc.StatusCode.INTERNAL,
    }
    # All others are over when the listener has connected again.
    code = codes.get(goodbye.code, grpc.StatusCode.UNAVAILABLE)
    later = goodbye.retry_after if goodbye.code is GoodbyeCode.UNAVAILABLE else None
    return StatusError(code, goodbye.reason, later)


class _Stream(FeedOwner[TokenT]):
    """A bidirectional call, until either side ends it. What a listener does not read is bounded: it
    is read no more, and cut off `CLOSE_TIMEOUT` after the end."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._end: StatusError | None = None
        self._ending = False
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._deadline: asyncio.Timeout | None = None

    @abstractmethod
    def _take(self, data: bytes, feed: Feed[TokenT]) -> None:
        """A message of the listener.

        Raises:
            PeerError: it is none.
        """

    @abstractmethod
    async def _write(self) -> None:
        """Write what there is to say, until there is no more and the call is `_ending`."""

    def _full(self, feed: Feed[TokenT]) -> bool:
        """Whether to read no more for now; `_room` is set when that may be over."""
        return False

    def ended(self, goodbye: Goodbye, tokens: Sequence[TokenT]) -> None:
        self._finish(status_of(goodbye))

    async def serve(self, feed: Feed[TokenT]) -> None:
        """Serve the call over an open feed.

        Raises:
            StatusError: it does not end well.
        """
        reading = asyncio.create_task(self._read(feed))
        broken = StatusError(grpc.StatusCode.INTERNAL, "the stream broke")
        reading.add_done_callback(lambda _: self._finish(broken))
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT if self._ending else None) as deadline:
                self._deadline = deadline
                try:
                    # By itself: with a first answer that is not read gRPC would send it twice, and
                    # the call could not be ended with a status.
                    await self._context.send_initial_metadata(())
                    await self._write()
                finally:
                    self._deadline = None
        except (TimeoutError, *BROKEN):
            self._finish(broken)
        finally:
            reading.cancel()
            (error,) = await asyncio.gather(reading, return_exceptions=True)
        if isinstance(error, Exception) and not isinstance(error, BROKEN):
            raise error
        if self._end is not None:
            raise self._end

    def _finish(self, end: StatusError | None) -> None:
        """End the call, well if `end` is None, when everything is written."""
        if self._ending:
            return
        self._ending = True
        self._end = end
        self._wake.set()
        if self._deadline is not None:
            self._deadline.reschedule(asyncio.get_running_loop().time() + CLOSE_TIMEOUT)

    async def _read(self, feed: Feed[TokenT]) -> None:
        read = self._context.read
        try:
            while (data := await read()) is not aio.EOF:
                self._take(data, feed)
                while self._full(feed):
                    await self._wait_for_room()
        except PeerError as exc:
            self._finish(StatusError(grpc.StatusCode.INVALID_ARGUMENT, str(exc)))
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(END_TIMEOUT):
                while feed.held:
                    await self._wait_for_room()
        self._finish(
            StatusError(grpc.StatusCode.UNAVAILABLE, "not everything could be stored in time")
            if feed.held
            else None
        )

    async def _wait_for_room(self) -> None:
        self._room.clear()
        await self._room.wait()


Take = Callable[[bytes], tuple[str, Message | None]]
"""The uuid of a report, and its message, if it is to be stored. Raises `PeerError` for what is no
report."""

LeaveOut = Callable[[str, str], None]
"""Accounts for a report that is acknowledged and not kept: its uuid, and the reason."""


class ReportStream(_Stream[str]):
    """Many reports, each acknowledged when it is stored."""

    def __init__(
        self,
        context: Context,
        most: int,
        most_bytes: int,
        take: Take,
        leave_out: LeaveOut,
    ) -> None:
        """At most `most` reports, of `most_bytes`, may wait."""
        super().__init__(context)
        self._most = most
        self._most_bytes = most_bytes
        self._decode = take
        self._leave_out = leave_out
        self._acknowledgements: deque[str] = deque()

    def welcomed(self) -> None:
        pass

    def pushed(self, push: Push) -> None:
        pass

    def stored(self, tokens: Sequence[str]) -> None:
        self._acknowledgements.extend(tokens)
        self._wake.set()
        self._room.set()

    def rejected(self, token: str, reason: str) -> None:
        self._leave_out(token, reason)

    def _take(self, data: bytes, feed: Feed[str]) -> None:
        uuid, message = self._decode(data)
        if message is not None:
            try:
                feed.put(message, uuid)
                return
            except UnsendableError as exc:
                self._leave_out(uuid, str(exc))
        self._acknowledgements.append(uuid)
        self._wake.set()

    def _full(self, feed: Feed[str]) -> bool:
        return (
            feed.held + len(self._acknowledgements) >= self._most
            or feed.held_bytes >= self._most_bytes
        )

    async def _write(self) -> None:
        write, waiting = self._context.write, self._acknowledgements
        while True:
            while waiting:
                await write(encode_acknowledgement(waiting.popleft()))
                self._room.set()
            if self._ending:
                return
            self._wake.clear()
            await self._wake.wait()


class ConditionStream(_Stream[None]):
    """Condition rules and signs of life, both ways."""

    def __init__(
        self,
        context: Context,
        interval: float,
        now: Callable[[], str],
        heartbeat: Callable[[], Message],
    ) -> None:
        """`interval`: seconds between two signs of life, which say that it is `now`; `heartbeat`
        makes the message of one that came."""
        super().__init__(context)
        self._interval = interval
        self._now = now
        self._heartbeat = heartbeat
        self._rules: Mapping[str, str] | None = None
        self._told = False

    def welcomed(self) -> None:
        # The rules of a backend that has some are pushed at once.
        asyncio.get_running_loop().call_soon(self._tell_default)

    def _tell_default(self) -> None:
        if not self._told:
            self._tell(DEFAULT_RULES)

    def _tell(self, rules: Mapping[str, str]) -> None:
        self._told = True
        self._rules = rules
        self._wake.set()

    def pushed(self, push: Push) -> None:
        if push.kind == RULES_KIND:
            try:
                self._tell(decode_rules(push.payload))
            except ValueError as exc:
                logger.warning("condition rules that cannot be read are not told: %s", exc)

    def stored(self, tokens: Sequence[None]) -> None:
        self._room.set()

    def rejected(self, token: None, reason: str) -> None:
        logger.warning("a heartbeat is refused: %s", reason)

    def _take(self, data: bytes, feed: Feed[None]) -> None:
        if not feed.held:
            heartbeat = self._heartbeat()
            feed.put(heartbeat, None)

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        beat: float | None = None
        """When the next sign of life is due; the first thing that is told are rules."""
        while not self._ending:
            if self._rules is not None:
                rules, self._rules = self._rules, None
                beat = beat or loop.time() + self._interval
                await self._context.write(encode_rules(rules))
            elif beat is not None and loop.time() >= beat:
                beat = loop.time() + self._interval
                await self._context.write(encode_heartbeat(self._now()))
            else:
                self._wake.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(beat):
                        await self._wake.wait()


Answer = asyncio.Future[str]
"""Of one stored message: the reason if it was rejected, else nothing."""


class Caller(FeedOwner[Answer]):
    """Stores single messages over one feed, which many calls may share."""

    def __init__(self, on_end: Callable[[], None] = lambda: None) -> None:
        """`on_end` is called when the server has ended the connection."""
        self._on_end = on_end
        self._end: Goodbye | None = None

    async def store(self, message: Message, feed: Feed[Answer]) -> str:
        """Wait until the message is stored; the reason if it was rejected, else nothing.

        Raises:
            StatusError: the connection ended.
        """
        if self._end is not None:
            raise status_of(self._end)
        answer: Answer = asyncio.get_running_loop().create_future()
        try:
            feed.put(message, answer)
        except UnsendableError as exc:
            return str(exc)
        return await answer

    def welcomed(self) -> None:
        pass

    def pushed(self, push: Push) -> None:
        pass

    def stored(self, tokens: Sequence[Answer]) -> None:
        for answer in tokens:
            if not answer.done():
                answer.set_result("")

    def rejected(self, token: Answer, reason: str) -> None:
        if not token.done():
            token.set_result(reason)

    def ended(self, goodbye: Goodbye, tokens: Sequence[Answer]) -> None:
        self._end = goodbye
        for answer in tokens:
            if not answer.done():
                answer.set_exception(status_of(goodbye))
        self._on_end()
