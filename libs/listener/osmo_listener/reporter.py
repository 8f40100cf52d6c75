"""Between one informer and the client: changes become messages, and a new epoch a full snapshot.

The informer's changes, the new epochs and the rules that depend on time come from three tasks; a
lock lets one of them work at a time, so a listener's messages go to the outbox in the order in
which they were made. Only the very first change waits for the operator. Otherwise `send` puts into
an outbox that coalesces, and the informer keeps up with the cluster whatever the connection does.

What cannot count is not sent: while another process reports as this producer, and from the restore
of a cluster until there is an epoch that outranks what was reported before. The listener is shown
everything all the same, so that it is warm; both times end with a new epoch, and a snapshot.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar

import msgspec

from osmo_listener.informer.source import KubernetesObject
from osmo_listener.informer.store import Change
from osmo_listener.listeners.registry import Listener
from osmo_reports.bodies import decode_body
from osmo_reports.errors import BodyError
from osmo_reports.fitting import encode_report
from osmo_transport import Client, Message, MessageTooLargeError, Refusal, UnsendableError, Version

if TYPE_CHECKING:
    from osmo_runtime.operations.tracing import Tracer

logger = logging.getLogger(__name__)

T = TypeVar("T", bound=KubernetesObject)

TICK = 1.0
"""Seconds between two looks at the deadlines: the rules that depend on time count in minutes."""


class Reporter(Generic[T]):
    """The handler of an informer.

    Args:
        listener: makes the messages.
        client: takes them.
        name: of the listener, for the log.
        instead: what to send in the place of a report that will never be stored, by the listener.
        tracer: makes a span of each report; None: nobody does.
        clock: seconds since the Unix epoch.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        listener: Listener[T],
        client: Client,
        *,
        name: str = "listener",
        instead: Callable[[Refusal, float], Iterable[Message]] = lambda _refusal, _now: (),
        tracer: "Tracer | None" = None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._listener = listener
        self._client = client
        self._name = name
        self._instead = instead
        self._tracer = tracer
        self._objects: Callable[[], Iterable[T]] = tuple
        self._clock = clock
        self._sleep = sleep
        self._turn = asyncio.Lock()
        self._epoch = 0
        self._begun = asyncio.Event()
        self._outranked = True
        """Whether only a new epoch makes what is reported count."""
        self._version = 0
        self._synced = False
        self._snapshot_due = True
        self._answered = 0
        """Refusals of the client's that were looked at."""
        self.refused = 0
        """Messages that cannot be sent: their names are too long, or even what is left of them when
        they are cut is too large."""

    def read_from(self, objects: Callable[[], Iterable[T]]) -> None:
        """Where every object that the informer knows can be read; before it runs."""
        self._objects = objects

    async def changed(self, changes: Sequence[Change[T]]) -> None:
        """See `informer.Handler`."""
        told = self._clock()
        await self._placed()
        async with self._turn:
            now = self._clock()
            more = len(changes) > 1
            for change in changes:
                version = change.resource_version
                self._version = max(self._version, version)
                messages = self._listener.on_change(change.old, change.new, version, now)
                await self._send(messages, more=more, since=told)

    async def synced(self, resource_version: int, count: int) -> None:
        """See `informer.Handler`."""
        await self._placed()
        async with self._turn:
            self._version = max(self._version, resource_version)
            self._synced = True
            logger.info("%s: knows all %d objects, version %d", self._name, count, resource_version)
            if not self._snapshot_due:
                objects = self._objects()
                await self._send(self._listener.listed(objects, self._version, self._clock()))
            elif not self._outranked:
                await self._snapshot()

    async def regressed(self, resource_version: int) -> None:
        """See `informer.Handler`."""
        await self._placed()
        async with self._turn:
            self._client.renew_epoch()
            self._version = resource_version
            self._outranked = True

    async def follow_epochs(self) -> NoReturn:
        """Start over with every new epoch.

        Raises:
            FencedError, UsageError: the operator refuses this listener for good.
        """
        while True:
            epoch = await self._client.epoch_after(self._epoch)
            async with self._turn:
                if epoch != self._epoch:
                    self._take(epoch)
                    if self._synced:
                        await self._snapshot()

    async def keep_time(self) -> NoReturn:
        """Report what time alone made due, and what follows from refusals. A clock that was set
        back makes every deadline doubtful: the listener looks at them once more."""
        before = self._clock()
        while True:
            await self._sleep(TICK)
            await self._answer_refusals()
            now = self._clock()
            set_back, before = now < before, now
            deadline = self._listener.next_deadline()
            if deadline is not None and (set_back or deadline <= now):
                async with self._turn:
                    await self._send(self._listener.due(self._clock()))

    async def report(self, make: Callable[[float], Iterable[Message]]) -> None:
        """Send what `make` gets from the listener, in turn with its changes; `make` is given the
        time, and called before the next change is."""
        async with self._turn:
            await self._send(make(self._clock()))

    async def vouch(self, message: Message) -> bool:
        """Send a message that is only true behind all that was to be reported, with the epoch of
        that; false, and nothing is sent, while a snapshot is due, or another process reports."""
        async with self._turn:
            stale = self._outranked or self._epoch != self._client.epoch
            if stale or self._snapshot_due or self._client.holder is not None:
                return False
            version = Version(self._epoch, message.version.revision)
            await self._send([msgspec.structs.replace(message, version=version)])
            return True

    def _take(self, epoch: int) -> None:
        self._epoch = epoch
        self._listener.restart(epoch)
        self._snapshot_due = True
        self._outranked = False
        self._begun.set()

    async def _placed(self) -> None:
        """Wait until the operator has let this process in, or let it stand by."""
        if not self._begun.is_set():
            await self._client.placed()
            if self._client.holder is None:
                await self._begun.wait()

    async def _snapshot(self) -> None:
        self._snapshot_due = False
        objects = self._objects()
        messages = self._listener.snapshot(objects, self._version, self._clock())
        await self._send(messages, more=True)

    async def _send(
        self, messages: Iterable[Message], *, more: bool = False, since: float | None = None
    ) -> None:
        """`since`: when this process was told what they say; None: now."""
        for message in messages:
            # Asked for each: this process may be overtaken in the middle of a snapshot.
            if self._outranked or self._client.holder is not None:
                continue
            try:
                if self._tracer is None:
                    await self._client.send(message, more=more)
                else:
                    await self._trace(self._tracer, message, since, more=more)
            except UnsendableError as exc:
                await self._send_instead(message, exc, more=more)

    async def _trace(
        self, tracer: "Tracer", message: Message, since: float | None, *, more: bool
    ) -> None:
        """Send a message, with its trace if it is sampled and that leaves it small enough."""
        with tracer.report(message, self._clock() if since is None else since) as traced:
            try:
                await self._client.send(traced, more=more)
            except MessageTooLargeError:
                if traced is message:
                    raise
                await self._client.send(message, more=more)

    async def _send_instead(
        self, message: Message, error: UnsendableError, *, more: bool = False
    ) -> None:
        """Send what can be sent of a message, or else what the listener wants to say at least."""
        if isinstance(error, MessageTooLargeError):
            try:
                await self._client.send(_cut(message, error), more=more)
                return
            except BodyError:
                pass  # of a kind of somebody else's
            except UnsendableError as exc:
                error = exc
        self.refused += 1
        logger.error("%.200s is not reported: %s", message.key, error)
        refusal = Refusal(message.id, message.kind, message.key, str(error), message.version)
        await self._send(self._instead(refusal, self._clock()), more=more)

    async def _answer_refusals(self) -> None:
        """What a server refuses is known later, and logged by the client."""
        if self._client.stats.refused == self._answered:
            return
        async with self._turn:
            # Counted in turn: more may have come while another one had it.
            new = self._client.stats.refused - self._answered
            self._answered += new
            for refusal in self._client.refusals[-new:]:
                await self._send(self._instead(refusal, self._clock()))


def _cut(message: Message, error: MessageTooLargeError) -> Message:
    """The same report, with as much of it as fits."""
    room = error.limit - (error.size - len(message.payload))
    payload = encode_report(decode_body(message.kind, message.payload), room).payload
    return msgspec.structs.replace(message, payload=payload)
