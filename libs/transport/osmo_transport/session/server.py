"""The operator's side of a session."""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from osmo_transport.bodies import Registration
from osmo_transport.delivery import Producer, ProducerBatch, ProducerState
from osmo_transport.errors import (
    ConnectionLostError,
    MessageTooLargeError,
    PeerError,
    UsageError,
)
from osmo_transport.frames import (
    PROTOCOL,
    Ack,
    Batch,
    Frame,
    Goodbye,
    Hello,
    Ping,
    Pong,
    Reject,
    Welcome,
)
from osmo_transport.message import FIXED_SIZE, MAX_NAME, Message
from osmo_transport.session.config import BAD_NAMES, NOTHING_KNOWN, SessionConfig
from osmo_transport.session.heartbeat import Heartbeat

MAX_NUMBER = 2**53
"""The largest epoch or sequence number that a client may claim: what every encoding and store can
hold and count on from."""


class Greeting(NamedTuple):
    """Who asks to be let in."""

    producer: Producer
    listener: str
    known: ProducerState
    registration: Registration | None = None


class ServerSession:
    """The operator's side of one connection."""

    def __init__(self, config: SessionConfig, now: float) -> None:
        self._config = config
        self._limits = config.limits
        self._heartbeat = Heartbeat(config, now)
        self._greeting: Greeting | None = None
        self._state: ProducerState | None = None
        self._received = 0
        self._acknowledged = 0
        self._unacknowledged: deque[tuple[int, int]] = deque()
        self._unacknowledged_bytes = 0

    @property
    def state(self) -> ProducerState:
        """What it was welcomed with; nothing known before."""
        return self._state or NOTHING_KNOWN

    @property
    def greeting(self) -> Greeting | None:
        """Who is at the other end, once it has said so."""
        return self._greeting

    def receive(
        self, frame: Frame, now: float, send: Callable[[Frame], None]
    ) -> Greeting | ProducerBatch | None:
        """Take a frame of the client: a greeting to be answered with `welcome`, a batch to be
        stored and acknowledged, or nothing for the application. Answers go to `send`.

        Raises:
            PeerError: the client broke the protocol.
            UsageError: the two sides cannot work together.
            ConnectionLostError: the client said goodbye.
        """
        self._heartbeat.heard = now
        if type(frame) is Batch:
            return self._batch(frame, send)
        if type(frame) is Hello:
            return self._hello(frame)
        if type(frame) is Ping:
            send(Pong())
        elif type(frame) is Goodbye:
            raise ConnectionLostError(f"the client left: {frame.reason}")
        elif type(frame) is not Pong:
            raise PeerError(f"a client does not send {type(frame).__name__}")
        return None

    def welcome(self, state: ProducerState) -> Welcome:
        """Let the client in where `state` says that it stands."""
        self._state = state
        self._received = self._acknowledged = state.sequence
        return Welcome(*state, self._limits)

    def acknowledge(self, sequence: int) -> Ack | None:
        """Everything up to `sequence` is stored; None when that has been said before."""
        if sequence <= self._acknowledged:
            return None
        self._acknowledged = sequence
        batches = self._unacknowledged
        while batches and batches[0][0] <= sequence:
            self._unacknowledged_bytes -= batches.popleft()[1]
        return Ack(sequence)

    def tick(self, now: float) -> Ping | None:
        """Call at least once a second; a ping to send, if it is time.

        Raises:
            ConnectionLostError: the client has been silent for too long.
        """
        if (
            self._greeting is None
            and now - self._heartbeat.started >= self._config.heartbeat_timeout
        ):
            raise PeerError("no hello in time")
        return Ping() if self._heartbeat.due(now) else None

    def _hello(self, hello: Hello) -> Greeting:
        if self._greeting is not None:
            raise PeerError("a second hello")
        if hello.protocol != PROTOCOL:
            raise UsageError(
                f"the listener speaks protocol {hello.protocol} and this operator {PROTOCOL}:"
                " upgrade the older one"
            )
        registration = hello.registration
        if registration is not None and any(
            len(text) > MAX_NAME for text in msgspec.structs.astuple(registration)
        ):
            raise UsageError(f"a registration's fields have up to {MAX_NAME} characters each")
        names = (hello.backend, hello.source, hello.listener)
        if not all(0 < len(name) <= MAX_NAME for name in names):
            raise UsageError(
                "a hello needs a backend, a source and a listener id, each of up to"
                f" {MAX_NAME} characters"
            )
        if not (0 <= hello.epoch <= MAX_NUMBER and 0 <= hello.sequence <= MAX_NUMBER):
            raise PeerError(f"epoch {hello.epoch} or sequence {hello.sequence} is out of range")
        if not hello.limits.usable:
            raise UsageError(f"the listener's limits must all be at least 1: {hello.limits}")
        self._limits = self._config.limits.agreed(hello.limits)
        self._greeting = Greeting(
            Producer(hello.backend, hello.source),
            hello.listener,
            ProducerState(hello.queue_epoch, hello.epoch, hello.sequence),
            hello.registration,
        )
        return self._greeting

    def _batch(self, batch: Batch, send: Callable[[Frame], None]) -> ProducerBatch:
        state, greeting = self._state, self._greeting
        if state is None or greeting is None:
            raise PeerError("a batch before the welcome")
        if batch.first != self._received + 1 or not batch.messages:
            raise PeerError(f"expected sequence {self._received + 1}, got {batch.first}")
        messages: tuple[Message | None, ...] = batch.messages
        limit = self._limits.message_bytes
        total = 0
        fit = True
        for message in batch.messages:
            key, kind = message.key, message.kind
            size = FIXED_SIZE + len(key) + len(message.payload)
            total += size
            if (
                size > limit
                or not key
                or not kind
                or len(key) + len(kind) + len(message.id) > MAX_NAME
            ):
                fit = False
        self._hold(batch.first + len(messages) - 1, total)
        if not fit:
            messages = self._without_refused(batch, send)
        return ProducerBatch(greeting.producer, state, batch.first, messages)

    def _hold(self, last: int, size: int) -> None:
        self._received = last
        self._unacknowledged.append((last, size))
        self._unacknowledged_bytes += size
        limits = self._limits
        if last - self._acknowledged > limits.window_messages:
            raise PeerError(f"more than {limits.window_messages} messages in flight")
        # A client may overshoot the bytes of its window by the batch that fills it.
        if self._unacknowledged_bytes > limits.window_bytes + limits.frame_bytes:
            raise PeerError(f"more than {limits.window_bytes} bytes in flight")

    def _without_refused(
        self, batch: Batch, send: Callable[[Frame], None]
    ) -> tuple[Message | None, ...]:
        kept: list[Message | None] = []
        for sequence, message in enumerate(batch.messages, batch.first):
            reason = _why_refused(message, self._limits.message_bytes)
            if reason is not None:
                send(Reject(sequence, reason))
            kept.append(message if reason is None else None)
        return tuple(kept)


def _why_refused(message: Message, limit: int) -> str | None:
    if message.size > limit:
        return str(MessageTooLargeError(message.size, limit))
    key, kind = message.key, message.kind
    if not key or not kind or len(key) + len(kind) + len(message.id) > MAX_NAME:
        return BAD_NAMES
    return None
