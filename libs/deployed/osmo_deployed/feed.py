"""A connection of our own whose client is this process: what serves a foreign protocol makes one of
each of its streams, so that the server behind it sees nothing new.

There is at most one batch on its way. What comes meanwhile collects into the next one, as it does
in the sessions of our own clients.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from osmo_transport.credentials import Presented
from osmo_transport.errors import ClosedError, ConnectionLostError, TransportError
from osmo_transport.frames import (
    PROTOCOL,
    Batch,
    Frame,
    Goodbye,
    GoodbyeCode,
    Hello,
    Limits,
    Ping,
    Pong,
    Push,
    Refused,
    Stored,
    Welcome,
)
from osmo_transport.message import Message, encode_message, new_id
from osmo_transport.transports.abc import Accept, Connection, FrameSink

TokenT = TypeVar("TokenT")
TokenT_contra = TypeVar("TokenT_contra", contravariant=True)


class FeedOwner(Protocol[TokenT_contra]):
    """Who gets the answers. The calls come from the event loop and must not raise."""

    def welcomed(self) -> None:
        """The server let this feed in; what it pushes to each listener follows at once."""

    def stored(self, tokens: Sequence[TokenT_contra]) -> None:
        """The messages of these tokens are stored, or were rejected; in the order of `put`."""

    def rejected(self, token: TokenT_contra, reason: str) -> None:
        """The message of this token will never be stored; `stored` names it none the less."""

    def pushed(self, push: Push) -> None:
        """The server told something."""

    def ended(self, goodbye: Goodbye, tokens: Sequence[TokenT_contra]) -> None:
        """The server ended the connection: nothing follows, and the messages of `tokens` may be
        stored or not."""


class Feed(Connection, Generic[TokenT]):
    """One producer's connection, without a wire. It bounds nothing by itself: its owner has to put
    no more while too much is `held`."""

    vouched = True
    """The versions of what it sends are made here, of the times that its listeners tell."""

    def __init__(self, presented: Presented, limits: Limits, owner: FeedOwner[TokenT]) -> None:
        self.presented = presented
        self._peer = presented.address
        self._limits = limits
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._sink: FrameSink | None = None
        self._welcomed = False
        self._waiting: deque[bytes] = deque()
        self._tokens: deque[tuple[TokenT, int]] = deque()
        """Of every message that is not acknowledged, those that wait included, with its size."""
        self._sent = 0
        self._acknowledged = 0
        self._scheduled = False
        self._paused = False
        self._error: TransportError | None = None
        self._over = False
        """Whether the owner knows that the connection ended."""
        self._closed = asyncio.Event()
        self.held_bytes = 0
        """The size of the messages that are not acknowledged."""

    @property
    def held(self) -> int:
        """Messages that are not acknowledged."""
        return len(self._tokens)

    def open(self, accept: Accept, backend: str, source: str, introduction: bytes = b"") -> None:
        """Say hello to the server, as a process that knows nothing."""
        self._sink = accept(self)
        name = new_id()
        # Its listener has connected anew: what there was before is of no use to anybody.
        hello = Hello(PROTOCOL, backend, source, name, "", 0, 0, self._limits, introduction, True)
        self._sink.frame_received(hello)

    def put(self, message: Message, token: TokenT) -> None:
        """Send a message; its `token` is named when it is stored, or at the end. It may be put
        before the server has let this feed in; after the end nothing is done with it.

        Raises:
            UnsendableError: no server would take it.
        """
        data = encode_message(message)
        if not self._over:
            self._waiting.append(data)
            self._tokens.append((token, len(data)))
            self.held_bytes += len(data)
            if self._sent == self._acknowledged:
                self._schedule()

    def leave(self) -> None:
        """End the connection from the client's side: the owner is told nothing more."""
        self._over = True
        self._end(ConnectionLostError("the listener left"))

    @property
    def peer(self) -> str:
        return self._peer

    @property
    def writable(self) -> bool:
        return True

    def send(self, frame: Frame) -> None:
        if self._error is not None:
            return
        match frame:
            case Stored(sequence):
                self._acknowledge(sequence)
            case Refused(sequence, reason):
                token, _ = self._tokens[sequence - self._acknowledged - 1]
                self._owner.rejected(token, reason)
            case Welcome(sequence=sequence):
                self._sent = self._acknowledged = sequence
                self._welcomed = True
                self._schedule()
                self._owner.welcomed()
            case Push():
                self._owner.pushed(frame)
            case Ping():
                # Whether the listener is there, the pings of its own transport find out.
                self._loop.call_soon(self._deliver, Pong())
            case Goodbye():
                self._part(frame)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._schedule()

    def close(self) -> None:
        self._part(Goodbye(GoodbyeCode.CLOSING, "the operator closed the connection"))

    async def wait_closed(self) -> None:
        await self._closed.wait()

    def _part(self, goodbye: Goodbye) -> None:
        if self._error is None:
            self._end(ClosedError("closed by this side"))
            # Not from within `open`, before the owner has its feed.
            self._loop.call_soon(self._tell_end, goodbye)

    def _tell_end(self, goodbye: Goodbye) -> None:
        if not self._over:
            self._over = True
            self._owner.ended(goodbye, [token for token, _ in self._tokens])

    def _end(self, error: TransportError) -> None:
        if self._error is None:
            self._error = error
            self._loop.call_soon(self._lose, error)

    def _lose(self, error: TransportError) -> None:
        if self._sink is not None:
            self._sink.connection_lost(error)
        self._closed.set()

    def _acknowledge(self, sequence: int) -> None:
        tokens = []
        for _ in range(sequence - self._acknowledged):
            token, size = self._tokens.popleft()
            tokens.append(token)
            self.held_bytes -= size
        self._acknowledged = sequence
        if self._waiting:
            self._schedule()
        self._owner.stored(tokens)

    def _schedule(self) -> None:
        # In the next turn of the loop: a sink is not called from within its own `send`, and what
        # else arrives in this turn goes along.
        if self._welcomed and not (self._scheduled or self._paused):
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        free = self._sent == self._acknowledged and not self._paused
        if self._waiting and free and self._error is None:
            messages = self._batch()
            first = self._sent + 1
            self._sent += len(messages)
            self._deliver(Batch(first, messages))

    def _batch(self) -> tuple[bytes, ...]:
        waiting, limits = self._waiting, self._limits
        most, room = limits.window_messages, limits.batch_bytes
        messages: list[bytes] = []
        while waiting and len(messages) < most and (room >= len(waiting[0]) or not messages):
            data = waiting.popleft()
            messages.append(data)
            room -= len(data)
        return tuple(messages)

    def _deliver(self, frame: Frame) -> None:
        if self._sink is not None and self._error is None:
            self._sink.frame_received(frame)
