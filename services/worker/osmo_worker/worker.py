"""The worker: read, handle, settle, each overlapping with the others.

```
queue ──receive──▶ inbox ──take──▶ handler calls ──outcomes──▶ settle ──▶ queue
        one at     compacted,      bounded                     one at
        a time     ordered                                     a time
```

The middle is a lane. The handler has one, and each handler of a kind of others has one of its own,
so that a slow or broken one keeps nobody waiting but itself.

- *Nothing is settled before its handler has answered*, and what a delivery supersedes is settled
  with that delivery's outcome.
- *Bounded*: at most `max_in_flight` deliveries are in hand, and in each lane at most `concurrency`
  calls (or `batch_concurrency` batches) run.
- *Nobody is woken up on a report's way*: the task that has read handles what came first, and
  another reads on; the one whose call has ended settles it, and what ends with it or meanwhile.
- *Batches form by themselves*: what arrives while the handler is busy makes the next batch, and
  what it finishes while the queue is being told makes the next settlement.
- *An outage uses up no attempts*: while the queue is away, or the handler says that what it needs
  is away, the worker keeps what it has on lease, reads no more, and tries again with backoff. Where
  a handler of others says so, only its lane waits, until `max_in_flight` is reached.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from osmo_runtime import operations
from osmo_runtime.texts import counted
from osmo_transport import Ack, Consumer, Delivery, Outcome, QueueUnavailableError, Retry
from osmo_transport.backoff import Backoff
from osmo_worker.config import WorkerConfig
from osmo_worker.errors import HandlerUnavailableError
from osmo_worker.handler import BatchHandler, GuardedHandler, Handler
from osmo_worker.inbox import Inbox, Work
from osmo_worker.metrics import WorkerMetrics

if TYPE_CHECKING:
    from osmo_runtime.operations.tracing import Tracer

logger = logging.getLogger(__name__)

T = TypeVar("T")


SNAPSHOT_END = "snapshot_end"
"""The kind that every kind with snapshots shares; its key says which of them has ended."""


class _Lane:
    """What one handler has before it."""

    def __init__(self, name: str, handler: Handler | BatchHandler, config: WorkerConfig) -> None:
        self.name = name
        self.handler = GuardedHandler(handler, config.handler_timeout)
        if self.handler.takes_batches:
            self._limit, self._slots = config.batch_limit, config.batch_concurrency
        else:
            self._limit, self._slots = 1, config.concurrency
        self._inbox = Inbox()

    def work(self) -> operations.Work:
        """How far it has come. While a call has time left, that it is not answered is no work that
        waits for us."""
        may_take = self._inbox.ready and self._slots > 0
        return operations.Work(waits=may_take or self.handler.overdue, done=self.handler.calls)

    def add(self, deliveries: Sequence[Delivery]) -> None:
        self._inbox.add(deliveries)

    def take(self) -> Sequence[Work]:
        """What the next call handles; nothing where none may begin."""
        if not self._slots:
            return ()
        works = self._inbox.take(self._limit)
        self._slots -= bool(works)
        return works

    def done(self, works: Sequence[Work]) -> None:
        """A call has ended."""
        self._slots += 1
        self._inbox.done(works)


CANCEL_AGAIN = 0.1
"""Seconds after which a call that did not end is cancelled once more: a handler of others may have
made something else of it."""


class _Calls:
    """The tasks of a worker, in which it reads, calls handlers and settles. A group of anyio takes
    three times the CPU to begin one: 17 instead of 5 µs in a loop, 170 instead of 55 where nothing
    happened for a while."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []
        self._failed = asyncio.Event()
        self.over = False
        self._context = copy_context()

    def begin(self, call: Coroutine[Any, Any, None]) -> "asyncio.Task[None] | None":
        if self.over:
            call.close()
            return None
        # One call begins the next: what it has set is not for that one.
        task = asyncio.create_task(call, context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def own(self) -> None:
        """Raise what any of them raises, which ends the others, and let none outlive this."""
        try:
            await self._failed.wait()
        finally:
            self.over = True
            with anyio.CancelScope(shield=True):
                while self._tasks:
                    for task in self._tasks:
                        task.cancel()
                    await asyncio.wait(self._tasks, timeout=CANCEL_AGAIN)
            if self._failures:
                raise BaseExceptionGroup("a worker cannot go on", self._failures)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._failures.append(failure)
            self._failed.set()


class Worker:
    """One consumer's deliveries, handled.

    Args:
        consumer: whose deliveries.
        handler: what handles them.
        config: how.
        others: by kind, what handles the reports of this kind, and the ends of its snapshots.
        metrics: filled while it runs.
        tracer: makes a span of each delivery that is handled; None: nobody does.
        clock: seconds since the Unix epoch.
    """

    def __init__(
        self,
        consumer: Consumer,
        handler: Handler | BatchHandler,
        config: WorkerConfig,
        *,
        others: Mapping[str, Handler | BatchHandler] = MappingProxyType({}),
        metrics: WorkerMetrics | None = None,
        tracer: "Tracer | None" = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._consumer = consumer
        self._config = config
        self._main = _Lane("", handler, config)
        self._others = {kind: _Lane(kind, each, config) for kind, each in others.items()}
        self._lanes = (self._main, *self._others.values())
        self._tracer = tracer
        self._clock = clock
        self.metrics = metrics or WorkerMetrics()
        self.metrics.consumer = consumer
        self._calls = _Calls()
        self._finished: list[tuple[Sequence[Work], Sequence[Outcome]]] = []
        self._settling = False
        """Whether a call sees to what has finished."""
        self._telling = False
        """Whether the queue has a settlement and has not answered yet."""
        self._settlements = 0
        self._holds: dict[object, str] = {}
        self._room = asyncio.Event()
        self._idle = asyncio.Event()
        self._stopping = False
        self._reader: asyncio.Task[None] | None = None

    def check(self) -> operations.Check:
        """Whether it handles what comes, and does not hold."""
        reason = self.metrics.holding
        return operations.Check(ok=reason is None, reason=reason or "")

    def work(self) -> Iterator[tuple[str, Callable[[], operations.Work]]]:
        """By name, how far each lane has come."""
        yield "handler", self._main.work
        for kind, lane in self._others.items():
            yield f"handler of {kind}", lane.work

    def settling(self, *, queue_answers: bool) -> operations.Work:
        """How far the settling has come. A settlement that is not answered is no work that waits
        for us, unless the queue answers everybody else: then the answer was lost on our side."""
        waits = queue_answers if self._telling else bool(self._finished) and not self._holds
        return operations.Work(waits=waits, done=self._settlements)

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then finish what is in hand within `drain_timeout` and give
        back the rest. Cancelling gives back everything in hand at once.

        Raises:
            ExceptionGroup: of a `QueueError` or `WorkerError` that trying again does not mend.
        """
        async with self._consumer, anyio.create_task_group() as handling:
            handling.start_soon(self._calls.own)
            self._read_on()
            await stop.wait()
            self._stopping = True
            if self._reader is not None:
                self._reader.cancel()
            with anyio.move_on_after(self._config.drain_timeout):
                while self.metrics.in_hand:
                    self._idle.clear()
                    await self._idle.wait()
            if left := self.metrics.in_hand:
                logger.warning("gives back %s that it could not finish", counted(left, "delivery"))
            handling.cancel_scope.cancel()

    def _read_on(self) -> None:
        if not self._stopping:
            self._reader = self._calls.begin(self._read())

    async def _read(self) -> None:
        """Read until there is something to handle, and handle it; another task reads on."""
        first: tuple[_Lane, Sequence[Work]] | None = None
        while first is None:
            while not self._may_read:
                self._room.clear()
                await self._room.wait()
            try:
                deliveries = await self._consumer.receive(self._config.read_limit)
            except QueueUnavailableError as exc:
                receive = partial(self._consumer.receive, self._config.read_limit)
                deliveries = await self._again(exc, receive)
            self.metrics.received += len(deliveries)
            self.metrics.in_hand += len(deliveries)
            self._sort(deliveries)
            for lane in self._lanes:
                if first is None and (works := lane.take()):
                    first = lane, works
                self._dispatch(lane)
            if first is None:
                await asyncio.sleep(0)
        self._reader = None
        asyncio.get_running_loop().call_soon(self._read_on)
        await self._handle(*first)

    def _sort(self, deliveries: Sequence[Delivery]) -> None:
        lanes: dict[str, list[Delivery]] = {}
        if self._others:
            ours: list[Delivery] = []
            for delivery in deliveries:
                message = delivery.message
                kind = message.key if message.kind == SNAPSHOT_END else message.kind
                if kind in self._others:
                    lanes.setdefault(kind, []).append(delivery)
                else:
                    ours.append(delivery)
            deliveries = ours
        self._main.add(deliveries)
        for kind, theirs in lanes.items():
            self._others[kind].add(theirs)

    def _dispatch(self, lane: _Lane) -> None:
        while works := lane.take():
            self._calls.begin(self._handle(lane, works))

    async def _handle(self, lane: _Lane, works: Sequence[Work]) -> None:
        if self._tracer is None:
            outcomes = await self._outcomes(lane, works)
        else:
            needed = [(work.delivery, *(work.superseded or ())) for work in works]
            with self._tracer.handle(needed) as settle:
                outcomes = await self._outcomes(lane, works)
                settle(outcomes)
        self._finished.append((works, outcomes))
        # In the next turn: what is alone is written first, as somebody waits for that.
        asyncio.get_running_loop().call_soon(self._make_room, lane, works)
        await self._settle()

    def _make_room(self, lane: _Lane, works: Sequence[Work]) -> None:
        """A call has ended: others may begin."""
        lane.done(works)
        self._dispatch(lane)

    async def _outcomes(self, lane: _Lane, works: Sequence[Work]) -> Sequence[Outcome]:
        deliveries = [work.delivery for work in works]
        try:
            return await lane.handler.outcomes(deliveries)
        except HandlerUnavailableError as exc:
            return await self._again(exc, partial(lane.handler.outcomes, deliveries), lane)

    async def _settle(self) -> None:
        """Tell the queue what has finished, until nothing is left, unless another call is at it."""
        if self._settling or self._calls.over or not self._finished:
            return
        self._settling = True
        finished: list[tuple[Sequence[Work], Sequence[Outcome]]] = []
        try:
            if self.metrics.in_hand > len(self._finished[0][0]):
                # Reports that came together end together, and are not to wait for each other.
                await asyncio.sleep(0)
            while self._finished:
                finished, self._finished = self._finished, []
                settled: list[tuple[Delivery, Outcome]] = []
                for works, outcomes in finished:
                    for work, outcome in zip(works, outcomes, strict=True):
                        settled.append((work.delivery, outcome))
                        if work.superseded:
                            settled += [(delivery, outcome) for delivery in work.superseded]
                try:
                    await self._tell(settled)
                except QueueUnavailableError as exc:
                    await self._again(exc, partial(self._tell, settled))
                for works, outcomes in finished:
                    self._record(works, outcomes)
                self._let_go(len(settled))
        except asyncio.CancelledError:
            # It may be the doing of the handler whose task this is: what others finished goes on.
            self._finished = finished + self._finished
            self._calls.begin(self._settle())
            raise
        finally:
            self._settling = False

    async def _tell(self, settled: Sequence[tuple[Delivery, Outcome]]) -> None:
        self._telling = True
        try:
            await self._consumer.settle(settled)
        finally:
            self._telling = False
            self._settlements += 1

    async def _again(
        self, failure: Exception, call: Callable[[], Awaitable[T]], lane: _Lane | None = None
    ) -> T:
        """The answer of `call`, which has failed because the queue or a handler is not available,
        repeated with backoff while that is so; a lane of others then holds nobody else. The first
        try is its caller's: what goes well, as nearly always, is then a call less deep."""
        holds = lane is None or lane is self._main
        backoff = Backoff(self._config.backoff)
        hold, reason = object(), ""
        try:
            while True:
                if holds:
                    self._hold(hold, str(failure))
                elif lane is not None and str(failure) != reason:
                    reason = str(failure)
                    logger.warning("reports of %s wait until this is over: %s", lane.name, reason)
                await anyio.sleep(backoff.next_delay())
                try:
                    answer = await call()
                except (QueueUnavailableError, HandlerUnavailableError) as exc:
                    failure = exc
                else:
                    if self._holds.keys() == {hold}:
                        logger.info("goes on")
                    return answer
        finally:
            if holds:
                self._release(hold)

    def _hold(self, hold: object, reason: str) -> None:
        """Hold for a reason, which may be another one than before."""
        if reason not in self._holds.values():
            held = self.metrics.in_hand
            what = f"holds {counted(held, 'delivery')}" if held else "waits"
            logger.warning("%s until this is over: %s", what, reason)
        self._holds[hold] = self.metrics.holding = reason

    def _release(self, hold: object) -> None:
        del self._holds[hold]
        self.metrics.holding = next(reversed(self._holds.values()), None)
        self._signal_room()

    def _let_go(self, count: int) -> None:
        self.metrics.in_hand -= count
        if not self.metrics.in_hand:
            self._idle.set()
        self._signal_room()

    @property
    def _may_read(self) -> bool:
        room = self._config.max_in_flight - self.metrics.in_hand
        return room >= self._config.read_limit and not self._holds

    def _signal_room(self) -> None:
        if self._may_read:
            self._room.set()

    def _record(self, works: Sequence[Work], outcomes: Sequence[Outcome]) -> None:
        metrics, now = self.metrics, self._clock()
        times: dict[str, list[float]] = {}
        for work, outcome in zip(works, outcomes, strict=True):
            message = work.delivery.message
            superseded: Sequence[Delivery] = work.superseded or ()
            if isinstance(outcome, Ack):
                times.setdefault(message.kind, []).append(now - message.timestamp)
                if superseded:
                    kind = metrics.of(message.kind)
                    kind.compacted += len(superseded)
                    kind.processing_time.record_all(
                        [now - delivery.message.timestamp for delivery in superseded]
                    )
            elif isinstance(outcome, Retry):
                metrics.of(message.kind).retried += 1 + len(superseded)
            else:
                metrics.of(message.kind).rejected += 1 + len(superseded)
        for name, handled in times.items():
            kind = metrics.of(name)
            kind.handled += len(handled)
            kind.processing_time.record_all(handled)
