"""Delivery without I/O: everything that makes a link reliable, and nothing that moves a byte.

The client's side keeps an ordered window of unacknowledged messages, bounded in count and bytes,
and sends it again, in order, on every new connection. The server's side takes batches that follow
each other without a gap and acknowledges them cumulatively when they are stored. Both sides watch
each other with pings. Neither knows a clock: `now` is any rising number of seconds.

What the client promises: messages are sent in the order of `put` (a coalesced report keeps the
place of the one it replaced); one leaves the window only when it is acknowledged or rejected;
whatever the order of faults, it is sent again until then.

What the server promises: a batch reaches the application once for each connection, in order, with
the sequence numbers under which the queue stores it; nothing is acknowledged that the application
did not tell it to acknowledge.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from math import inf
from typing import NamedTuple

from osmo_transport.delivery import Producer, ProducerBatch, ProducerState
from osmo_transport.errors import (
    ConnectionLostError,
    FencedError,
    MessageTooLargeError,
    PeerError,
    TransportError,
    UsageError,
)
from osmo_transport.frames import (
    PROTOCOL,
    Ack,
    Batch,
    Frame,
    Goodbye,
    GoodbyeCode,
    Hello,
    Limits,
    Ping,
    Pong,
    Reject,
    Welcome,
)
from osmo_transport.message import FIXED_SIZE, MAX_NAME, Message, Version
from osmo_transport.outbox import Outbox, OutboxConfig

NOTHING_KNOWN = ProducerState("", 0, 0)

MAX_NUMBER = 2**53
"""The largest epoch or sequence number that a client may claim: what every encoding and store can
hold and count on from."""

WITHDRAWN = Message("", "", "", Version(0, 0), 0.0, b"")
"""Takes the place of a message that cannot be sent: without a key, every server refuses it."""

BAD_NAMES = f"a message needs a key and a kind, of up to {MAX_NAME} characters with its id"


@dataclass(frozen=True, kw_only=True)
class SessionConfig:
    """Limits and times of one side."""

    limits: Limits = field(default_factory=Limits)
    """What this side can take; the smaller of both sides' holds."""
    heartbeat_interval: float = 15.0
    """Seconds of silence after which a ping is sent: below the idle timeouts of load balancers, of
    which 60 s is common."""
    heartbeat_timeout: float = 10.0
    """Seconds that the answer may take; then the connection counts as dead."""
    outbox: OutboxConfig = field(default_factory=OutboxConfig)
    """Bounds of what waits to be sent (client only)."""

    @property
    def tick(self) -> float:
        """Seconds between two calls of a session's `tick`: at most one, and often enough for the
        times above."""
        return min(1.0, self.heartbeat_interval / 4, self.heartbeat_timeout / 4)


class Rejected(NamedTuple):
    """A message that the server refused for good."""

    message: Message
    reason: str


class _Heartbeat:
    """When to ping, and when to give up. A peer is given up only after it left a ping unanswered:
    silence alone may mean that this process was not running."""

    def __init__(self, config: SessionConfig, now: float) -> None:
        self._interval = config.heartbeat_interval
        self._timeout = config.heartbeat_timeout
        self.started = now
        self.heard = now
        self._pinged = -inf

    def due(self, now: float) -> bool:
        """Whether to send a ping now.

        Raises:
            ConnectionLostError: the other side has been silent for too long.
        """
        silent = now - self.heard
        if silent < self._interval:
            return False
        if self._pinged <= self.heard:
            self._pinged = now
            return True
        if now - self._pinged >= self._timeout:
            raise ConnectionLostError(f"the other side has been silent for {silent:.0f} s")
        return False


class ClientSession:
    """The listener's side. It outlives connections: `connect` begins one, `disconnect` ends it."""

    def __init__(self, producer: Producer, listener: str, config: SessionConfig) -> None:
        self._producer = producer
        self._listener = listener
        self._config = config
        self._state = NOTHING_KNOWN
        self.outbox = Outbox(config.outbox)
        self._window: deque[Message] = deque()
        self._limits = config.limits
        self._sent = 0
        self._unanswered_bytes = 0
        self._refused: set[int] = set()
        self._greeted = False
        self._heartbeat: _Heartbeat | None = None
        self.rejected: deque[Rejected] = deque(maxlen=1000)
        """The last messages that the server refused."""
        self.rejections = 0
        """How many it refused."""
        self.settled = 0
        """Messages that have left for good: acknowledged, rejected, coalesced or dropped."""
        self.acknowledged = 0
        """Messages that the server acknowledged, rejected ones included."""
        self.resent = 0
        """Messages that were sent more than once."""

    @property
    def epoch(self) -> int:
        """The fencing number in force; 0 before the first welcome."""
        return self._state.epoch

    @property
    def sequence(self) -> int:
        """The last acknowledged sequence number of the epoch."""
        return self._state.sequence

    @property
    def in_flight(self) -> int:
        """Messages in the window."""
        return len(self._window)

    @property
    def welcomed(self) -> bool:
        """Whether the present connection may carry batches."""
        return self._greeted

    @property
    def unsettled(self) -> int:
        """Messages in the window and the outbox."""
        return len(self._window) + len(self.outbox)

    def put(self, message: Message) -> None:
        """Take a message to be sent.

        Raises:
            MessageTooLargeError: it is over the limit; nothing else is affected.
            UsageError: its key or kind is empty, or its names are too long.
        """
        key, kind = message.key, message.kind
        size = FIXED_SIZE + len(key) + len(message.payload)
        if size > self._limits.message_bytes:
            raise MessageTooLargeError(size, self._limits.message_bytes)
        if not key or not kind or len(key) + len(kind) + len(message.id) > MAX_NAME:
            raise UsageError(BAD_NAMES)
        self.settled += self.outbox.put(message)

    def renew_epoch(self) -> None:
        """Ask for a new epoch with the next connection, as if the queue's memory had changed."""
        self._state = self._state._replace(queue_epoch="")

    def connect(self, now: float) -> Hello:
        """Begin a connection; its first frame."""
        self._greeted = False
        self._heartbeat = _Heartbeat(self._config, now)
        return Hello(
            PROTOCOL,
            self._producer.backend,
            self._producer.source,
            self._listener,
            *self._state,
            self._config.limits,
        )

    def disconnect(self) -> None:
        """End the connection; the window waits for the next one."""
        self._greeted = False
        self._heartbeat = None

    def receive(self, frame: Frame, now: float) -> Frame | None:
        """Take a frame of the server; returns the one to answer with, if any.

        Raises:
            PeerError: the server broke the protocol.
            FencedError: a newer listener took over.
            UsageError: the two sides cannot work together.
            ConnectionLostError: the server said goodbye; connect again.
        """
        if self._heartbeat is None:
            return None
        self._heartbeat.heard = now
        if type(frame) is Ack:
            self._acknowledge(frame.sequence)
        elif type(frame) is Welcome:
            self._welcome(frame)
        elif type(frame) is Reject:
            self._reject(frame)
        elif type(frame) is Ping:
            return Pong()
        elif type(frame) is Goodbye:
            raise parting_error(frame)
        elif type(frame) is not Pong:
            raise PeerError(f"a server does not send {type(frame).__name__}")
        return None

    def next_batch(self) -> Batch | None:
        """The next batch to send on this connection, or None while there is nothing to send or the
        window is full."""
        if not self._greeted:
            return None
        limits = self._limits
        unanswered = self._sent - self._state.sequence
        count = limits.window_messages - unanswered
        room = min(limits.batch_bytes, limits.window_bytes - self._unanswered_bytes)
        if unanswered < len(self._window):
            messages = self._take_again(unanswered, count, room)
            self.resent += len(messages)
        else:
            messages = self._take_new(count, room)
        if not messages:
            return None
        first = self._sent + 1
        self._sent += len(messages)
        if limits.message_bytes < self._config.limits.message_bytes:
            messages = self._withdraw_too_large(first, messages)
        return Batch(first, tuple(messages))

    def tick(self, now: float) -> Ping | None:
        """Call at least once a second while connected; a ping to send, if it is time.

        Raises:
            ConnectionLostError: the server has been silent for too long.
        """
        heartbeat = self._heartbeat
        if heartbeat is None:
            return None
        if not self._greeted and now - heartbeat.started >= self._config.heartbeat_interval:
            raise ConnectionLostError("the server did not welcome this client in time")
        return Ping() if heartbeat.due(now) else None

    # A message may overshoot the room by itself: otherwise one larger than what is left would wait
    # for a window that is never empty enough.

    def _take_again(self, offset: int, count: int, room: int) -> list[Message]:
        messages: list[Message] = []
        size = 0
        for message in islice(self._window, offset, None):
            if size >= room or len(messages) >= count:
                break
            size += message.size
            messages.append(message)
        self._unanswered_bytes += size
        return messages

    def _take_new(self, count: int, room: int) -> list[Message]:
        messages: list[Message] = []
        outbox = self.outbox
        size = 0
        while len(outbox) and len(messages) < count and size < room:
            message = outbox.pop()
            size += FIXED_SIZE + len(message.key) + len(message.payload)
            messages.append(message)
        self._window.extend(messages)
        self._unanswered_bytes += size
        return messages

    def _withdraw_too_large(self, first: int, messages: list[Message]) -> list[Message]:
        """What was taken under this side's own limit may be over the server's, even over what its
        connection takes: the number goes out without the message, and is refused."""
        limit = self._limits.message_bytes
        kept = messages.copy()
        for index, message in enumerate(messages):
            if message.size > limit:
                kept[index] = WITHDRAWN
                self._refused_as(first + index, str(MessageTooLargeError(message.size, limit)))
        return kept

    def _welcome(self, welcome: Welcome) -> None:
        if self._greeted:
            raise PeerError("a second welcome")
        if not welcome.limits.usable:
            raise PeerError(f"a welcome with limits below 1: {welcome.limits}")
        self._limits = self._config.limits.agreed(welcome.limits)
        known = self._state
        if (welcome.queue_epoch, welcome.epoch) == (known.queue_epoch, known.epoch):
            if not known.sequence <= welcome.sequence <= known.sequence + len(self._window):
                raise PeerError(f"welcomed at {welcome.sequence}, which was never sent")
            self._settle(welcome.sequence)
        elif welcome.epoch <= known.epoch:
            raise PeerError(f"epoch {welcome.epoch} after {known.epoch}: an epoch only rises")
        else:
            self._number_anew()
            self._state = ProducerState(welcome.queue_epoch, welcome.epoch, welcome.sequence)
        self._sent = self._state.sequence
        self._unanswered_bytes = 0
        self._greeted = True

    def _number_anew(self) -> None:
        first = self._state.sequence + 1
        window = [m for n, m in enumerate(self._window, first) if n not in self._refused]
        self.settled += len(self._refused) + self.outbox.put_back(window)
        self._window.clear()
        self._refused.clear()

    def _acknowledge(self, sequence: int) -> None:
        if sequence > self._sent or not self._greeted:
            raise PeerError(f"acknowledged {sequence}, which was not sent")
        self._settle(sequence)

    def _settle(self, sequence: int) -> None:
        known = self._state
        count = sequence - known.sequence
        if count <= 0:
            return
        freed = 0
        pop = self._window.popleft
        for _ in range(count):
            message = pop()
            freed += FIXED_SIZE + len(message.key) + len(message.payload)
        self._unanswered_bytes -= freed
        self._state = ProducerState(known.queue_epoch, known.epoch, sequence)
        self.settled += count
        self.acknowledged += count
        if self._refused:
            self._refused = {number for number in self._refused if number > sequence}

    def _reject(self, frame: Reject) -> None:
        number = frame.sequence
        if not self._state.sequence < number <= self._sent or not self._greeted:
            raise PeerError(f"rejected {number}, which is not in flight")
        self._refused_as(number, frame.reason)

    def _refused_as(self, number: int, reason: str) -> None:
        if number not in self._refused:
            self._refused.add(number)
            self.rejections += 1
            message = self._window[number - self._state.sequence - 1]
            self.rejected.append(Rejected(message, reason))


class Greeting(NamedTuple):
    """Who asks to be let in."""

    producer: Producer
    listener: str
    known: ProducerState


class ServerSession:
    """The operator's side of one connection."""

    def __init__(self, config: SessionConfig, now: float) -> None:
        self._config = config
        self._limits = config.limits
        self._heartbeat = _Heartbeat(config, now)
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


def parting_error(goodbye: Goodbye) -> TransportError:
    """What a server's goodbye means to the client that got it."""
    match goodbye.code:
        case GoodbyeCode.FENCED:
            return FencedError(goodbye.reason)
        case GoodbyeCode.REFUSED:
            return UsageError(goodbye.reason)
        case GoodbyeCode.PROTOCOL:
            return PeerError(goodbye.reason)
        case _:
            return PartedError(goodbye)


class PartedError(ConnectionLostError):
    """The other side said goodbye and may be tried again after `retry_after` seconds."""

    def __init__(self, goodbye: Goodbye) -> None:
        super().__init__(f"{goodbye.code.value}: {goodbye.reason}")
        self.code = goodbye.code
        self.retry_after = goodbye.retry_after
