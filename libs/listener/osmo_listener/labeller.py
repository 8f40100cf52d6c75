"""Writes on each node, as a label, whether it is available.

What has to be written is found by comparing the verdict with the label that the node shows, at each
evaluation, and not by remembering what was written. So a label that somebody else changed is put
right, and the event that our own patch causes brings the two together and ends there.

Promises:
- *Nothing is dropped.* A label is tried until it is written, the verdict agrees with what the node
  shows, or the node is gone.
- *Bounded.* At most one label waits for each live node, the newest, and `concurrency` are being
  written. A node is never written twice at once.
- *The right node.* A patch names the node's uid: one that was created again under the same name is
  not labelled by what was found about the other.
"""

import asyncio
import logging
import random
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import field
from typing import TYPE_CHECKING, NamedTuple, NoReturn
from urllib.parse import quote

from osmo_listener.errors import (
    ForbiddenError,
    ListenerError,
    NotFoundError,
    Reaction,
    StatusError,
    reaction,
)
from osmo_listener.listeners.objects import Node
from osmo_transport.backoff import Backoff, BackoffConfig
from osmo_transport.bounds import Count, Seconds, SecondsOrZero
from osmo_transport.lean import dataclass

if TYPE_CHECKING:
    from osmo_listener.kubernetes.patching import Patcher

logger = logging.getLogger(__name__)

LABEL = "verified"
"""The name of the label, after the prefix."""


@dataclass(frozen=True, kw_only=True)
class LabellerConfig:
    """How labels are written; times in seconds."""

    concurrency: Count = 4
    """Patches at once: as many as a healthy API server does in parallel without being slowed down
    for others; one that failed counts until its delay is over."""
    backoff: BackoffConfig = field(
        default_factory=lambda: BackoffConfig(base=0.5, maximum=30.0, healthy_after=0.0)
    )
    """Delays after errors; the next label that is written starts the count anew."""
    forbidden_delay: Seconds = 60.0
    """On top of it, when the right to patch nodes is missing: somebody has to grant it first."""
    longest_retry_after: SecondsOrZero = 60.0
    """Bound of the delay that a server may ask for."""


class _Label(NamedTuple):
    uid: str
    """Of the node."""
    value: str


class NodeLabeller:
    """Give its `on_verdict` and `on_gone` to a `NodeListener`, and let `run` write.

    Args:
        patcher: how to reach the nodes.
        prefix: what comes before `verified` in the label's name.
        config: how.
        decides: whether verdicts of this process count: while they do not, none is taken, and those
            that wait are dropped.
        sleep: waits for seconds.
        draw: a source of numbers in [0, 1).
    """

    def __init__(
        self,
        patcher: "Patcher",
        prefix: str,
        config: LabellerConfig | None = None,
        *,
        decides: Callable[[], bool] = lambda: True,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._patcher = patcher
        self._name = prefix + LABEL
        self._config = config or LabellerConfig()
        self._decides = decides
        self._sleep = sleep
        self._draw = draw
        self._waiting: OrderedDict[str, _Label] = OrderedDict()
        self._held: dict[str, _Label] = {}
        """What is being written, or waits for its delay to be over."""
        self._changed = asyncio.Event()
        self._forbidden = False
        self.written = 0
        """Labels that were written."""
        self.failures: Counter[str] = Counter()
        """Errors by the name of their class."""

    @property
    def pending(self) -> int:
        """Labels that wait or are being written."""
        return len(self._waiting) + len(self._held)

    def on_verdict(self, node: Node, available: bool) -> None:
        """A node was evaluated: write its label if it does not show this verdict."""
        if not self._decides():
            return
        name = node.metadata.name
        label = _Label(node.metadata.uid, str(available))
        held = self._held.get(name)
        # While another value may be on its way, what the node shows is not what it will show.
        shown = held is None and node.metadata.labels.get(self._name) == label.value
        if shown or held == label:
            self._waiting.pop(name, None)
        else:
            self._waiting[name] = label
            self._changed.set()

    def on_gone(self, name: str) -> None:
        """Forget a node."""
        self._waiting.pop(name, None)
        self._held.pop(name, None)

    async def run(self) -> NoReturn:
        """Write for ever; cancel to stop. What waits then is kept for the next run."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._config.concurrency - 1):
                tasks.create_task(self._write_all())
            await self._write_all()

    async def _write_all(self) -> NoReturn:
        backoff = Backoff(self._config.backoff, self._draw)
        while True:
            name, label = await self._take()
            settled = False
            try:
                delay = await self._write(name, label, backoff) if self._decides() else None
                if delay is None:
                    settled = True
                else:
                    await self._sleep(delay)
            finally:
                self._release(name, label, settled=settled)

    async def _take(self) -> tuple[str, _Label]:
        while True:
            for name, label in self._waiting.items():
                if name not in self._held:
                    del self._waiting[name]
                    self._held[name] = label
                    return name, label
            self._changed.clear()
            await self._changed.wait()

    def _release(self, name: str, label: _Label, *, settled: bool) -> None:
        if self._held.get(name) is label:
            del self._held[name]
            if not settled:
                # Behind the others: one node that cannot be written holds up none of them.
                self._waiting.setdefault(name, label)

    async def _write(self, name: str, label: _Label, backoff: Backoff) -> float | None:
        """Write one label. Returns the delay in seconds before it is tried again; None: never."""
        labels = {self._name: label.value}
        patch = {"metadata": {"uid": label.uid, "labels": labels}}
        try:
            await self._patcher.merge_patch(f"/api/v1/nodes/{quote(name, safe='')}", patch)
        except NotFoundError:
            return None
        except ListenerError as exc:
            return self._delay(name, exc, backoff)
        backoff.healthy(0.0)
        self._forbidden = False
        self.written += 1
        return None

    def _delay(self, name: str, error: ListenerError, backoff: Backoff) -> float:
        self.failures[type(error).__name__] += 1
        if reaction(error, synced=True) is Reaction.REAUTHENTICATE:
            self._patcher.forget_credentials()
        delay = backoff.next_delay()
        if isinstance(error, ForbiddenError):
            if not self._forbidden:
                logger.error(
                    'nodes are not labelled: the permission "patch nodes" is missing: %s', error
                )
            self._forbidden = True
            return delay + self._config.forbidden_delay
        if isinstance(error, StatusError) and error.retry_after:
            # On top of what the server asks for, or all its clients come back in one moment.
            delay += min(error.retry_after, self._config.longest_retry_after)
        logger.warning("node %s is not labelled yet: %s; again in %.1f s", name, error, delay)
        return delay
