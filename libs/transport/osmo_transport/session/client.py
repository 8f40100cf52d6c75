"""The client's side of a session."""

from collections import deque
from itertools import islice
from typing import NamedTuple

from osmo_transport._text import shown
from osmo_transport.errors import (
    ConnectionLostError,
    CredentialExpiredError,
    CredentialRefusedError,
    FencedError,
    MessageTooLargeError,
    PeerError,
    TransportError,
    UsageError,
)
from osmo_transport.frames import (
    PROTOCOL,
    Batch,
    Frame,
    Goodbye,
    GoodbyeCode,
    Hello,
    Occupied,
    Ping,
    Pong,
    Push,
    Refused,
    Stored,
    Welcome,
)
from osmo_transport.message import Message, Version, read_message
from osmo_transport.queues.delivery import Producer
from osmo_transport.queues.leases import Holder
from osmo_transport.session.config import LONGEST_TICK, SessionConfig
from osmo_transport.session.encoding import encoded
from osmo_transport.session.heartbeat import Heartbeat
from osmo_transport.session.outbox import Outbox

MAX_PUSHED_KINDS = 16
"""Kinds of pushes that a client remembers: there is a handful."""

MAX_REASON = 1000
"""Characters of a refusal's reason that are kept."""

KEPT_REFUSALS = 1000
"""Refusals that a client remembers: with names and reasons of the largest size some 4 MB."""

MAX_RETRY_AFTER = 60.0
"""Seconds for which a server can keep a client away: more is a mistake of the server's."""

MAX_TIME = 253_402_300_799.0
"""Seconds since the Unix epoch at the end of the year 9999: a later time is none."""

_NOTHING = b""
"""Goes out in the place of a message that is over the server's limit: it takes up its number."""


class Refusal(NamedTuple):
    """A message that will never be stored, and why."""

    id: str
    kind: str
    key: str
    reason: str
    version: Version


class ClientSession:
    """The client's side. It outlives connections: `connect` begins one, `disconnect` ends it."""

    def __init__(
        self,
        producer: Producer,
        instance: str,
        config: SessionConfig,
        introduction: bytes = b"",
        *,
        takes_over: bool = False,
    ) -> None:
        self.producer = producer
        """What it reports as."""
        self.instance = instance
        """As which process it is known to others that wait for its place."""
        self._config = config
        self._introduction = introduction
        self._takes_over = takes_over
        self.holder: Holder | None = None
        """The process that reports meanwhile, while this one waits until it has gone."""
        self._queue_epoch = ""
        self.epoch = 0
        """The fencing number in force; 0 before the first welcome."""
        self.sequence = 0
        """The last acknowledged sequence number of the epoch."""
        self.outbox = Outbox(config.outbox)
        self._window: deque[bytes] = deque()
        self._limits = config.limits
        self._sent = 0
        self._unanswered_bytes = 0
        self._refused: set[int] = set()
        """Sequence numbers in the window that will never be stored."""
        self._greeted = False
        self._waits = False
        """Whether the present connection waits for its turn."""
        self._heartbeat: Heartbeat | None = None
        self._ticked = 0.0
        self._seen_acknowledged = 0
        self._without_ack = 0.0
        """Seconds of running, not of being suspended, for which nothing was acknowledged though
        messages were in flight."""
        self.pushes: dict[str, Push] = {}
        """The newest of each kind that the server has pushed."""
        self.refusals: deque[Refusal] = deque(maxlen=KEPT_REFUSALS)
        """The last messages that were refused."""
        self.refused = 0
        """How many were refused."""
        self.settled = 0
        """Messages that have left for good: acknowledged, refused, coalesced or dropped."""
        self.acknowledged = 0
        """Messages that the server acknowledged, refused ones included."""
        self.resent = 0
        """Messages that were sent more than once."""

    @property
    def in_flight(self) -> int:
        """Messages in the window."""
        return len(self._window)

    @property
    def welcomed(self) -> bool:
        """Whether the present connection may carry batches."""
        return self._greeted

    @property
    def placed(self) -> bool:
        """Whether the server has said of the present connection that it reports, or that it waits
        for its turn."""
        return self._greeted or self._waits

    def silence(self, now: float) -> float:
        """Seconds since the server was last heard of over the present connection; 0 without one."""
        return 0.0 if self._heartbeat is None else now - self._heartbeat.heard

    @property
    def unsettled(self) -> int:
        """Messages in the window and the outbox."""
        return len(self._window) + len(self.outbox)

    def put(self, message: Message, at_once: bool = False) -> Batch | None:
        """Take a message to be sent; it is encoded here, once. If it may leave `at_once`, and there
        is nothing that it has to wait for, the batch to send: it goes past the outbox.

        Raises:
            MessageTooLargeError: it is over the limit; nothing else is affected.
            UnsendableError: a field does not hold what it may; as before.
        """
        kind, key, data = encoded(message, self._limits.message_bytes)
        if at_once and self._greeted and not self._window and not self.outbox:
            self._window.append(data)
            self._sent += 1
            self._unanswered_bytes += len(data)
            return Batch(self._sent, (data,))
        self.settled += self.outbox.put(kind, key, data)
        return None

    def take_back(self) -> None:
        """The batch that `put` returned last was not sent: its message waits like any other."""
        data = self._window.pop()
        self._sent -= 1
        self._unanswered_bytes -= len(data)
        self.settled += self.outbox.put_back([data])

    def renew_epoch(self) -> None:
        """Ask for a new epoch with the next connection, as if the queue's memory had changed."""
        self._queue_epoch = ""

    def connect(self, now: float) -> Hello:
        """Begin a connection; its first frame."""
        self._greeted = self._waits = False
        self._heartbeat = Heartbeat(self._config, now)
        self._ticked = now
        self._without_ack = 0.0
        return Hello(
            PROTOCOL,
            self.producer.backend,
            self.producer.source,
            self.instance,
            self._queue_epoch,
            self.epoch,
            self.sequence,
            self._config.limits,
            self._introduction,
            self._takes_over,
        )

    def disconnect(self) -> None:
        """End the connection; the window waits for the next one."""
        self._greeted = self._waits = False
        self._heartbeat = None

    def receive(self, frame: Frame, now: float) -> Frame | None:
        """Take a frame of the server; returns the one to answer with, if any.

        Raises:
            PeerError: the server broke the protocol.
            FencedError: a newer client took over.
            UsageError: the two sides cannot work together.
            ConnectionLostError: the server said goodbye; connect again.
        """
        if self._heartbeat is None:
            return None
        self._heartbeat.heard = now
        if type(frame) is Stored:
            self._stored(frame.sequence)
        elif type(frame) is Welcome:
            self._welcome(frame)
        elif type(frame) is Occupied:
            self._occupied(frame)
        elif type(frame) is Refused:
            self._refuse(frame)
        elif type(frame) is Push:
            self._pushed(frame)
        elif type(frame) is Ping:
            return Pong()
        elif type(frame) is Goodbye:
            raise parting_error(frame)
        elif type(frame) is not Pong:
            raise PeerError(f"a server does not send {type(frame).__name__}")
        return None

    def _occupied(self, frame: Occupied) -> None:
        if self._greeted:
            raise PeerError("the place is occupied after the welcome")
        self._waits = True
        since = frame.since if 0.0 <= frame.since <= MAX_TIME else 0.0
        self.holder = Holder(shown(frame.instance), shown(frame.address), since)

    def _pushed(self, push: Push) -> None:
        known = self.pushes.get(push.kind)
        if known is None and len(self.pushes) >= MAX_PUSHED_KINDS:
            raise PeerError(f"a server pushes no more than {MAX_PUSHED_KINDS} kinds")
        # A server that was connected to before may have been behind the one of now.
        if known is None or known.version < push.version:
            self.pushes[push.kind] = push

    def next_batch(self) -> Batch | None:
        """The next batch to send on this connection, or None while there is nothing to send or the
        window is full."""
        if not self._greeted:
            return None
        unanswered = self._sent - self.sequence
        again = unanswered < len(self._window)
        if not (again or self.outbox):
            return None
        limits = self._limits
        count = limits.window_messages - unanswered
        room = min(limits.batch_bytes, limits.window_bytes - self._unanswered_bytes)
        if again:
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
            ConnectionLostError: the server has been silent, or has acknowledged nothing, for too
                long.
        """
        heartbeat = self._heartbeat
        if heartbeat is None:
            return None
        patience = self._config.heartbeat_interval + self._config.heartbeat_timeout
        if not self.placed and now - heartbeat.started >= patience:
            raise ConnectionLostError("the server did not welcome this client in time")
        self._expect_acknowledgement(now)
        return Ping() if heartbeat.due(now) else None

    def _expect_acknowledgement(self, now: float) -> None:
        # The time between two ticks is longer than a second only if this process was suspended:
        # what came meanwhile has still to be read.
        elapsed = min(now - self._ticked, LONGEST_TICK)
        self._ticked = now
        idle = not self._greeted or self._sent == self.sequence
        if idle or self._seen_acknowledged != self.acknowledged:
            self._seen_acknowledged = self.acknowledged
            self._without_ack = 0.0
            return
        self._without_ack += elapsed
        if self._without_ack >= self._config.ack_timeout:
            raise ConnectionLostError(
                f"the server has acknowledged nothing for {self._config.ack_timeout:g} s"
            )

    # A message may overshoot the room by itself: otherwise one larger than what is left would wait
    # for a window that is never empty enough.

    def _take_again(self, offset: int, count: int, room: int) -> list[bytes]:
        messages: list[bytes] = []
        size = 0
        for data in islice(self._window, offset, None):
            if size >= room or len(messages) >= count:
                break
            size += len(data)
            messages.append(data)
        self._unanswered_bytes += size
        return messages

    def _take_new(self, count: int, room: int) -> list[bytes]:
        messages, size = self.outbox.take(count, room)
        self._window.extend(messages)
        self._unanswered_bytes += size
        return messages

    def _withdraw_too_large(self, first: int, messages: list[bytes]) -> list[bytes]:
        """What was taken under this side's own limit may be over the server's, even over what its
        connection takes: the number goes out without the message, and is refused."""
        limit = self._limits.message_bytes
        kept = messages.copy()
        for index, data in enumerate(messages):
            if len(data) > limit:
                kept[index] = _NOTHING
                self._refused_as(first + index, str(MessageTooLargeError(len(data), limit)))
        return kept

    def _welcome(self, welcome: Welcome) -> None:
        if self._greeted:
            raise PeerError("a second welcome")
        if not welcome.limits.usable:
            raise PeerError(f"a welcome with limits below 1: {welcome.limits}")
        self._limits = self._config.limits.agreed(welcome.limits)
        same_memory = welcome.queue_epoch == self._queue_epoch
        if same_memory and welcome.epoch == self.epoch:
            if not self.sequence <= welcome.sequence <= self.sequence + len(self._window):
                raise PeerError(f"welcomed at {welcome.sequence}, which was never sent")
            self._settle(welcome.sequence)
        elif welcome.epoch == self.epoch or (
            # A store that lost its memory, and a server that does not believe what this side knows,
            # begin lower: better than never to report again.
            welcome.epoch < self.epoch and same_memory
        ):
            # Whoever does not believe what this side knows will not tomorrow either: what is said
            # next time is that nothing is known.
            self.renew_epoch()
            raise PeerError(f"epoch {welcome.epoch} after {self.epoch}: a new epoch is higher")
        else:
            self._number_anew()
            self._queue_epoch = welcome.queue_epoch
            self.epoch = welcome.epoch
            self.sequence = welcome.sequence
        self._sent = self.sequence
        self._unanswered_bytes = 0
        self._greeted = True
        self.holder = None

    def _number_anew(self) -> None:
        first = self.sequence + 1
        window = [m for n, m in enumerate(self._window, first) if n not in self._refused]
        self.settled += len(self._refused) + self.outbox.put_back(window)
        self._window.clear()
        self._refused.clear()

    def _stored(self, sequence: int) -> None:
        if sequence > self._sent or not self._greeted:
            raise PeerError(f"acknowledged {sequence}, which was not sent")
        self._settle(sequence)

    def _settle(self, sequence: int) -> None:
        count = sequence - self.sequence
        if count <= 0:
            return
        freed = 0
        pop = self._window.popleft
        for _ in range(count):
            freed += len(pop())
        self._unanswered_bytes -= freed
        self.sequence = sequence
        self.settled += count
        self.acknowledged += count
        if self._refused:
            self._refused = {number for number in self._refused if number > sequence}

    def _refuse(self, frame: Refused) -> None:
        number = frame.sequence
        if not self.sequence < number <= self._sent or not self._greeted:
            raise PeerError(f"refused {number}, which is not in flight")
        self._refused_as(number, frame.reason)

    def _refused_as(self, number: int, reason: str) -> None:
        if number not in self._refused:
            self._refused.add(number)
            self.refused += 1
            message = read_message(self._window[number - self.sequence - 1])
            kept = shown(reason, MAX_REASON)
            self.refusals.append(
                Refusal(message.id, message.kind, message.key, kept, message.version)
            )


def parting_error(goodbye: Goodbye) -> TransportError:
    """What a server's goodbye means to the client that got it."""
    reason = shown(goodbye.reason, MAX_REASON)
    match goodbye.code:
        case GoodbyeCode.FENCED:
            return FencedError(reason)
        case GoodbyeCode.REFUSED:
            return UsageError(reason)
        case GoodbyeCode.DENIED:
            return CredentialRefusedError(reason)
        case GoodbyeCode.EXPIRED:
            return CredentialExpiredError(reason)
        case GoodbyeCode.PROTOCOL:
            return PeerError(reason)
        case _:
            return PartedError(goodbye)


class PartedError(ConnectionLostError):
    """The other side said goodbye and may be tried again after `retry_after` seconds."""

    def __init__(self, goodbye: Goodbye) -> None:
        super().__init__(f"{goodbye.code.value}: {shown(goodbye.reason)}")
        self.code = goodbye.code
        self.retry_after = min(goodbye.retry_after, MAX_RETRY_AFTER)
