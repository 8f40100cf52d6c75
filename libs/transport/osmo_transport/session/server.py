"""The server's side of a session."""

from collections import deque
from collections.abc import Callable
from math import inf
from typing import NamedTuple

import msgspec

from osmo_transport._bucket import IdleFrames
from osmo_transport._text import shown
from osmo_transport.credentials import Identity
from osmo_transport.errors import (
    ConnectionLostError,
    MessageTooLargeError,
    PeerError,
    UnreadableError,
    UsageError,
)
from osmo_transport.frames import (
    MAX_INTRODUCTION,
    PROTOCOL,
    Batch,
    Credential,
    Frame,
    Goodbye,
    GoodbyeCode,
    Hello,
    Limits,
    Ping,
    Pong,
    Refused,
    Stored,
    Welcome,
)
from osmo_transport.message import MAX_EPOCH, Unreadable, check_name, read_heads
from osmo_transport.queues.delivery import NEW, Producer, ProducerState
from osmo_transport.queues.leases import AT_ONCE, Claim
from osmo_transport.session.config import SessionConfig
from osmo_transport.session.heartbeat import Heartbeat


class Greeting(NamedTuple):
    """Who asks to be let in."""

    producer: Producer
    instance: str
    """Of the process: tells a reconnect from a second client."""
    known: ProducerState
    introduction: bytes = b""
    """What it says of itself; opaque here."""
    identity: Identity | None = None
    """Whose credential it presented, where the server asks for one."""
    claim: Claim = AT_ONCE
    """How it means to come to its place; of a server without leases, at once."""


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """Messages that arrived, to be stored and then acknowledged."""

    first: int
    """The sequence number of the first one; the others follow without a gap."""
    kinds: tuple[str, ...]
    """Of each; empty for one that was refused."""
    encoded: tuple[bytes, ...]
    """Each as its sender encoded it; empty for one that was refused."""
    size: int
    """Bytes of all that arrived."""


class ServerSession:
    """The server's side of one connection."""

    def __init__(
        self,
        config: SessionConfig,
        now: float,
        *,
        hello_by: float = inf,
        vouched: bool = False,
    ) -> None:
        """`hello_by`: until when the client has to say who it is. `vouched`: the other end is part
        of this process and answers for the versions of its messages; any other client's carry no
        epoch that it was not given."""
        self._config = config
        self._limits = config.limits
        self._vouched = vouched
        self._hello_by = hello_by
        self._heartbeat = Heartbeat(config, now)
        self._idle = IdleFrames()
        self.greeting: Greeting | None = None
        """Who is at the other end, once it has said so."""
        self.state = NEW
        """What it was welcomed with; nothing known before."""
        self._welcomed = False
        self._newest_epoch = MAX_EPOCH
        self._received = 0
        self._acknowledged = 0
        self._unacknowledged: deque[tuple[int, int]] = deque()
        self._unacknowledged_bytes = 0
        self._most_messages = 0
        self._most_bytes = 0
        """Unacknowledged ones and their bytes, beyond which the client broke the protocol."""
        self._most_message_bytes = 0
        self.left = False
        """Whether the client has said that it stops."""

    @property
    def heard(self) -> float:
        """When the client was last heard of."""
        return self._heartbeat.heard

    @property
    def limits(self) -> Limits:
        """Agreed with the client, once it has said hello."""
        return self._limits

    def receive(
        self, frame: Frame, now: float, send: Callable[[Frame], None]
    ) -> Greeting | Arrival | Credential | None:
        """Take a frame of the client: a greeting to be answered with `welcome`, messages to be
        stored and acknowledged, a newer credential, or nothing for the application. Answers go to
        `send`.

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
        if self.greeting is None and type(frame) is not Goodbye:
            raise PeerError(f"a {type(frame).__name__} before the hello")
        self._idle.count(now)
        if type(frame) is Ping:
            send(Pong())
        elif type(frame) is Credential:
            return frame
        elif type(frame) is Goodbye:
            self.left = frame.code is GoodbyeCode.CLOSING
            raise ConnectionLostError(f"the client left: {shown(frame.reason)}")
        elif type(frame) is not Pong:
            raise PeerError(f"a client does not send {type(frame).__name__}")
        return None

    def welcome(self, state: ProducerState) -> Welcome:
        """Let the client in where `state` says that it stands."""
        self.state = state
        self._welcomed = True
        if not self._vouched:
            self._newest_epoch = state.epoch
        self._received = self._acknowledged = state.sequence
        limits = self._limits
        self._most_messages = limits.window_messages
        # A client may overshoot the bytes of its window by the batch that fills it.
        self._most_bytes = limits.window_bytes + limits.frame_bytes
        self._most_message_bytes = limits.message_bytes
        return Welcome(*state, limits)

    def acknowledge(self, sequence: int) -> Stored | None:
        """Everything up to `sequence` is stored; None when that has been said before."""
        if sequence <= self._acknowledged:
            return None
        self._acknowledged = sequence
        batches = self._unacknowledged
        while batches and batches[0][0] <= sequence:
            self._unacknowledged_bytes -= batches.popleft()[1]
        return Stored(sequence)

    def tick(self, now: float, *, paused: bool = False) -> Ping | None:
        """Call at least once a second; a ping to send, if it is time. `paused`: the connection is
        not read, and so the client's silence says nothing.

        Raises:
            ConnectionLostError: the client has been silent for too long.
            PeerError: it has not said hello in time.
        """
        if self.greeting is None and now >= self._hello_by:
            raise PeerError("no hello in time")
        pings = self._heartbeat.spare(now) if paused else self._heartbeat.due(now)
        return Ping() if pings else None

    def _hello(self, hello: Hello) -> Greeting:
        if self.greeting is not None:
            raise PeerError("a second hello")
        if hello.protocol != PROTOCOL:
            raise UsageError(
                f"the client speaks protocol {hello.protocol} and this server {PROTOCOL}:"
                " upgrade the older one"
            )
        if len(hello.introduction) > MAX_INTRODUCTION:
            raise UsageError(
                f"the introduction has {len(hello.introduction)} bytes, and {MAX_INTRODUCTION} may"
                " be used"
            )
        for what in ("backend", "source", "instance"):
            check_name(f"the client's {what}", getattr(hello, what))
        if hello.queue_epoch:
            try:
                check_name("the client's queue epoch", hello.queue_epoch)
            except UsageError as exc:
                raise PeerError(str(exc)) from None
        if not hello.limits.usable:
            raise UsageError(f"the client's limits must all be at least 1: {hello.limits}")
        self._limits = self._config.limits.agreed(hello.limits)
        self.greeting = Greeting(
            Producer(hello.backend, hello.source),
            hello.instance,
            ProducerState(hello.queue_epoch, hello.epoch, hello.sequence),
            hello.introduction,
            claim=Claim(waits=not hello.takes_over),
        )
        return self.greeting

    def _batch(self, batch: Batch, send: Callable[[Frame], None]) -> Arrival:
        first, messages = batch.first, batch.messages
        if not self._welcomed:
            raise PeerError("a batch before the welcome")
        if first != self._received + 1 or not messages:
            raise PeerError(f"expected sequence {self._received + 1}, got {first}")
        total = len(messages[0]) if len(messages) == 1 else sum(map(len, messages))
        self._hold(first + len(messages) - 1, total)
        limit, newest_epoch = self._most_message_bytes, self._newest_epoch
        if total > limit and max(map(len, messages)) > limit:
            return self._without_refused(batch, total, send)
        try:
            heads = read_heads(messages)
        except UnreadableError:
            return self._without_refused(batch, total, send)
        kinds: list[str] = []
        for head in heads:
            if head.version.epoch > newest_epoch:
                return self._without_refused(batch, total, send)
            kinds.append(head.kind)
        return Arrival(first, tuple(kinds), messages, total)

    def _hold(self, last: int, size: int) -> None:
        self._received = last
        self._unacknowledged.append((last, size))
        self._unacknowledged_bytes += size
        if last - self._acknowledged > self._most_messages:
            raise PeerError(f"more than {self._most_messages} messages in flight")
        if self._unacknowledged_bytes > self._most_bytes:
            raise PeerError(f"more than {self._limits.window_bytes} bytes in flight")

    def _without_refused(self, batch: Batch, total: int, send: Callable[[Frame], None]) -> Arrival:
        kinds: list[str] = []
        messages: list[bytes] = []
        for sequence, data in enumerate(batch.messages, batch.first):
            try:
                kind = self._kind_of_fit(data)
            except (UnreadableError, UsageError) as exc:
                send(Refused(sequence, str(exc)))
                kinds.append("")
                messages.append(b"")
            else:
                kinds.append(kind)
                messages.append(data)
        return Arrival(batch.first, tuple(kinds), tuple(messages), total)

    def _kind_of_fit(self, data: bytes) -> str:
        limit = self._limits.message_bytes
        if len(data) > limit:
            raise MessageTooLargeError(len(data), limit)
        if type(data) is Unreadable:
            raise UnreadableError(data.decode())
        (head,) = read_heads((data,))
        if head.version.epoch > self._newest_epoch:
            raise UsageError(
                f"the message's version has the epoch {head.version.epoch}, and the newest that its"
                f" sender was given is {self._newest_epoch}"
            )
        return head.kind
