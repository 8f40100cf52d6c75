"""The usage listener behind an informer, without a connection."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Generic

from osmo_listener.informer import Handler, Informer
from osmo_listener.informer.source import Source, T
from osmo_listener.informer.store import Change
from osmo_listener.listeners.registry import Listener
from osmo_listener.listeners.usage import UsageConfig, UsageListener
from osmo_transport.message import Message
from tests.listener.harness import INSTANT
from tests.listener_rules.usage_harness import FLUSH, T0, ZEROS, Totals, shown


class Owner(Generic[T]):
    """Feeds a listener and keeps what it says."""

    def __init__(self, listener: Listener[T]) -> None:
        self.listener = listener
        self.messages: list[Message] = []
        self.known: dict[str, T] = {}
        """What it was told of, by name."""
        self.objects: Callable[[], Iterable[T]] = tuple
        self.now = T0
        self._begun = False
        listener.restart(1)

    async def changed(self, changes: Sequence[Change[T]]) -> None:
        for _, old, new, version in changes:
            if old is not None:
                self.known.pop(old.metadata.name, None)
            if new is not None:
                self.known[new.metadata.name] = new
            self.messages += self.listener.on_change(old, new, version, self.now)

    async def synced(self, resource_version: int, count: int) -> None:
        made = self.listener.listed if self._begun else self.listener.snapshot
        self._begun = True
        self.messages += made(self.objects(), resource_version, self.now)

    async def regressed(self, resource_version: int) -> None:
        raise NotImplementedError

    def totals(self) -> Totals:
        """What a store shows of the nodes that have pods, after a flush."""
        self.now += FLUSH
        self.messages += self.listener.due(self.now)
        rows = {message.key: message for message in self.messages}
        return {
            node: both
            for node, both in shown(list(rows.values())).items()
            if both != (ZEROS, ZEROS)
        }


def usage_listener() -> UsageListener:
    """A usage listener that knows no hostname."""
    return UsageListener(UsageConfig(), "osmo", lambda _: None)


@contextlib.asynccontextmanager
async def informer_of(source: Source[T], handler: Handler[T]) -> AsyncIterator[Informer[T]]:
    """An informer at work."""
    informer: Informer[T] = Informer(source, handler, INSTANT)
    task = asyncio.create_task(informer.run())
    try:
        yield informer
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
