"""What a handler is, how it is found, and how every call of it ends in an outcome."""

import asyncio
import importlib
import inspect
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeGuard, runtime_checkable

from osmo_reports.errors import BodyError
from osmo_reports.kinds import KINDS
from osmo_runtime.masking import mask_text
from osmo_transport import (
    Ack,
    Delivery,
    Outcome,
    Reject,
    Retry,
    UsageError,
)
from osmo_transport.registry import Group, named, schemes
from osmo_worker.errors import HandlerNotFoundError, WorkerError

logger = logging.getLogger(__name__)

HANDLERS = Group("osmo_worker.handlers")
"""The handlers of kinds that are not ours, by kind."""

Handler = Callable[[Delivery], Awaitable[Outcome]]
"""Handles one delivery and says what becomes of it.

It may see a delivery more than once (after a crash, a retry, a lease that ended), so its effects
have to bear repetition. An exception counts as `Retry`, a `BodyError` as `Reject`, and
`HandlerUnavailableError` makes the worker wait and call again.
"""


@runtime_checkable
class BatchHandler(Protocol):
    """Handles many deliveries of different keys at once: made for stores."""

    async def handle_batch(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """One outcome for each delivery, in the same order.

        An exception concerns all of them: they are handled again, each by itself, so that a
        delivery that cannot be handled uses up no attempts but its own.
        """
        ...


def load_handler(name: str) -> Handler | BatchHandler:
    """The handler that `module:attribute` names.

    Raises:
        HandlerNotFoundError: there is no such attribute, it is no handler, or its module raised.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise HandlerNotFoundError(f"handler {name!r} must look like 'module:attribute'")
    try:
        handler: object = importlib.import_module(module_name)
        for part in attribute.split("."):
            handler = getattr(handler, part)
    except Exception as exc:  # a module may raise anything while it is imported
        raise HandlerNotFoundError(
            f"handler {name!r} cannot be imported: {type(exc).__name__}: {exc}"
        ) from exc
    return _checked(name, handler)


def load_handlers() -> dict[str, Handler | BatchHandler]:
    """The handlers of kinds that are not ours, by kind: what the entry points of the group
    `osmo_worker.handlers` lead to, whose names are the kinds.

    Raises:
        HandlerNotFoundError: one of them is no handler, cannot be imported, or is for a kind of
            ours.
    """
    handlers = {}
    for kind in schemes(HANDLERS):
        if kind in KINDS:
            raise HandlerNotFoundError(
                f"an entry point of {HANDLERS.name} is named {kind}, which the state store handles:"
                " uninstall its package, or run the worker with --handler"
            )
        try:
            handler: object = named(HANDLERS, kind)
        except UsageError as exc:
            raise HandlerNotFoundError(f"the handler of {exc}") from exc
        handlers[kind] = _checked(kind, handler)
    return handlers


def _checked(name: str, handler: object) -> Handler | BatchHandler:
    if not inspect.isclass(handler) and (
        isinstance(handler, BatchHandler) or _is_async_callable(handler)
    ):
        return handler
    raise HandlerNotFoundError(
        f"handler {name!r} is {type(handler).__name__}: it must be an async callable that takes"
        " one delivery, or an object with an async method handle_batch"
    )


def _is_async_callable(candidate: object) -> TypeGuard[Handler]:
    if inspect.iscoroutinefunction(candidate):
        return True
    return inspect.iscoroutinefunction(getattr(candidate, "__call__", None))  # noqa: B004


class GuardedHandler:
    """A handler whose calls all end in time, in one outcome for each delivery."""

    def __init__(self, handler: Handler | BatchHandler, timeout: float) -> None:
        self._handler: Any = handler  # of either type, which is looked at once
        self._timeout = timeout
        self._name = getattr(handler, "__qualname__", type(handler).__qualname__)
        self.takes_batches = isinstance(handler, BatchHandler)
        """Whether a call may carry more than one delivery."""
        self.calls = 0
        """Calls that have ended, in whatever way."""
        self._under_way: dict[asyncio.Task[Any], float] = {}
        """The calls that have not ended, by their tasks: when each began."""
        self._late: set[asyncio.Task[Any]] = set()
        """Of these, those whose time is over; each was cancelled."""
        self._watched = False

    @property
    def overdue(self) -> bool:
        """Whether a call goes on though its time is over: it does not let itself be cancelled."""
        return bool(self._late)

    async def outcomes(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        """What becomes of each delivery, in the same order.

        Raises:
            WorkerError: the handler raised it: it is unavailable for now, or cannot go on at all.
        """
        task: Any = asyncio.current_task()  # never None in a coroutine that a task runs
        late = False
        self._under_way[task] = time.monotonic()
        if not self._watched:
            self._watch()
        outcomes: Sequence[Outcome]
        try:
            try:
                if self.takes_batches:
                    outcomes = await self._handler.handle_batch(deliveries)
                else:
                    outcomes = (await self._handler(deliveries[0]),)
            finally:
                del self._under_way[task]
                self.calls += 1
                if self._late and task in self._late:
                    late = True
                    self._late.remove(task)
                    task.uncancel()
            if self.takes_batches or type(outcomes[0]) is not Ack:
                _check(outcomes, len(deliveries))
            return outcomes
        except WorkerError:
            raise
        except (Exception, asyncio.CancelledError) as exc:  # what a handler raises ends no worker
            # It may be this task that somebody cancels, and not something that it waited for.
            if isinstance(exc, asyncio.CancelledError) and task.cancelling():
                raise
            return await self._after(exc, deliveries, late=late)

    async def _after(
        self, exc: BaseException, deliveries: Sequence[Delivery], *, late: bool
    ) -> Sequence[Outcome]:
        """What becomes of deliveries after a call that failed."""
        if late:
            reason = f"{self._name} did not answer within {self._timeout} s"
        elif len(deliveries) > 1:
            return [(await self.outcomes((delivery,)))[0] for delivery in deliveries]
        elif isinstance(exc, BodyError):
            return (Reject(str(exc)),)
        else:
            # It is kept, with a dead letter too, and shown to who has no other right.
            reason = mask_text(f"{self._name} raised {type(exc).__name__}: {exc}")
        # Where a hung call was cancelled tells nothing; where one raised, its author asks.
        details = None if late else exc
        logger.warning("%s (%s)", reason, _described(deliveries), exc_info=details)
        return [Retry(reason)] * len(deliveries)

    def _watch(self) -> None:
        """Cancel the calls whose time is over, and look again when that of the next one is: a timer
        for each call costs more than all else that is done for it."""
        now = time.monotonic()
        for task, begun in self._under_way.items():
            if task not in self._late:
                rest = begun + self._timeout - now
                if rest > 0:
                    asyncio.get_running_loop().call_later(rest, self._watch)
                    self._watched = True
                    return
                self._late.add(task)
                task.cancel()
        self._watched = False


def _check(outcomes: Any, count: int) -> None:
    """Handlers are other people's code: what they declare to return is checked all the same."""
    if not isinstance(outcomes, Sequence) or len(outcomes) != count:
        raise TypeError(f"handle_batch must return one outcome for each of {count}")
    if _ACKS.issuperset(map(type, outcomes)):
        return  # as nearly always, which is seen at once
    for outcome in outcomes:
        if not _is_outcome(outcome):
            raise TypeError(
                "it must return Ack(), Retry(reason, seconds or None) or Reject(reason),"
                f" not {outcome!r}"
            )


_ACKS = frozenset({Ack})


def _is_outcome(candidate: object) -> TypeGuard[Outcome]:
    match candidate:
        case Ack():
            return True
        case Retry(reason=str(), after=None) | Reject(reason=str()):
            return True
        case Retry(reason=str(), after=int() | float() as after):
            return 0 <= after < math.inf
    return False


def _described(deliveries: Sequence[Delivery]) -> str:
    first = deliveries[0]
    more = f" and {len(deliveries) - 1} more" if len(deliveries) > 1 else ""
    return f"{first.message.kind} {first.message.key} of {first.backend}{more}"
