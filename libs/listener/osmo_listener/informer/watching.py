"""The short way to an informer: `async with watch(…) as objects: async for change in objects`."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, closing
from pathlib import Path
from typing import Generic, NoReturn

from osmo_listener.informer.informer import Informer, InformerConfig, InformerStatus
from osmo_listener.informer.source import Source, T
from osmo_listener.informer.store import Change, ChangeType, Store


class Objects(Generic[T]):
    """All objects that a source shows, and what becomes of them.

    - Complete from the beginning: `watch` and `follow` enter when the first list is known.
    - Whoever iterates is first told of each object that is known, as ADDED, and then of every
      change, in the informer's order. After a cluster was restored from a backup, what it still
      has is told once more, as RESYNC.
    - Whoever iterates slowly slows the informer down, and nothing is buffered meanwhile. Without an
      iteration the store alone follows the cluster.
    - To leave an iteration is to lose one's place: the next one begins with all objects again. A
      limit of time on one of its steps ends it too, as it does with every async generator.
    """

    def __init__(
        self, informer: Informer[T], readers: "_Readers[T]", running: "asyncio.Task[NoReturn]"
    ) -> None:
        self._informer = informer
        self._readers = readers
        self._running = running

    @property
    def store(self) -> Store[T]:
        """What is known, for reading. It may be a step ahead of who iterates."""
        return self._informer.store

    def __len__(self) -> int:
        return len(self.store)

    def status(self) -> InformerStatus:
        """The figures of this moment."""
        return self._informer.status()

    async def __aiter__(self) -> AsyncIterator[Change[T]]:
        # What is known and who is told of what follows are taken in one step, without an await.
        known = [*self.store.values()]
        reader = self._readers.add()
        try:
            for item in known:
                version = int(item.metadata.resource_version)
                yield Change(ChangeType.ADDED, None, item, version)
            del known
            async with aclosing(reader.changes()) as changes:
                async for change in changes:
                    yield change
        finally:
            self._readers.remove(reader)
        if self._running.done() and not self._running.cancelled():
            self._running.result()


@asynccontextmanager
async def watch(
    resource: str,
    object_type: type[T],
    *,
    namespace: str | None = None,
    label_selector: str = "",
    field_selector: str = "",
    kubeconfig: Path | None = None,
    context: str | None = None,
) -> AsyncIterator[Objects[T]]:
    """Follow the objects of one resource of a Kubernetes cluster.

    Args:
        resource: `GROUP/VERSION/PLURAL`, for example `apps/v1/deployments`, or of the core API
            `v1/pods`.
        object_type: the msgspec struct that each is decoded into, with `metadata: ObjectMeta` or
            one of your own; `Unstructured` for all that there is.
        namespace: the only one whose objects are read; None: all, or objects that have none.
        label_selector: evaluated by the server, for example `app=shop`; empty: no selection.
        field_selector: evaluated by the server, for example `spec.nodeName=n1`; empty: none.
        kubeconfig: None: the service account of the pod this runs in, else ~/.kube/config.
        context: in the kubeconfig; None: its current one.

    Raises:
        ListenerError: what no retry mends, before the first list is complete: no usable
            credentials, no rights, no such resource or namespace. Later everything is retried.
        MissingExtraError: the extra `kubernetes` is not installed.
        ValueError: `resource` names none.
    """
    # Needs the extra `kubernetes`, as a source of another kind does not.
    from osmo_listener.kubernetes.access import find_credentials  # noqa: PLC0415
    from osmo_listener.kubernetes.config import Resource, resource_path  # noqa: PLC0415
    from osmo_listener.kubernetes.listwatch import ListWatch  # noqa: PLC0415

    wanted = Resource(
        path=resource_path(resource, namespace),
        type=object_type,
        label_selector=label_selector,
        field_selector=field_selector,
    )
    with closing(ListWatch(find_credentials(kubeconfig, context), wanted)) as source:
        async with follow(source) as objects:
            yield objects


@asynccontextmanager
async def follow(
    source: Source[T], config: InformerConfig | None = None
) -> AsyncIterator[Objects[T]]:
    """As `watch`, for any source; by default without a resync.

    Raises:
        ListenerError: what no retry mends, before the first list is complete.
    """
    readers: _Readers[T] = _Readers()
    informer = Informer(source, readers, config or InformerConfig(resync_interval=None))
    running = asyncio.create_task(informer.run())
    running.add_done_callback(lambda _: readers.close())
    try:
        await readers.begun.wait()
        if running.done():
            await running
        yield Objects(informer, readers, running)
    finally:
        running.cancel()
        import anyio  # noqa: PLC0415  (seldom needed, and slow to import)

        with anyio.CancelScope(shield=True):
            await asyncio.wait([running])


class _Reader(Generic[T]):
    """One iteration."""

    def __init__(self) -> None:
        self._changes: Sequence[Change[T]] = ()
        self._given = asyncio.Event()
        self._taken = asyncio.Event()
        self._closed = False

    def give(self, changes: Sequence[Change[T]]) -> None:
        """What it was given before is taken."""
        self._changes = changes
        self._taken.clear()
        self._given.set()

    async def taken(self) -> None:
        """Wait until all are taken, or nobody takes any more."""
        await self._taken.wait()

    async def changes(self) -> AsyncGenerator[Change[T], None]:
        """What it is given, until it is closed."""
        while True:
            await self._given.wait()
            self._given.clear()
            for change in self._changes:
                yield change
            self._changes = ()
            if self._closed:
                return
            self._taken.set()

    def close(self) -> None:
        self._closed = True
        self._given.set()
        self._taken.set()


class _Readers(Generic[T]):
    """The informer's handler, which tells all that iterate."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        """The first list is complete, or there will be none."""
        self._readers: list[_Reader[T]] = []
        self._closed = False

    def add(self) -> _Reader[T]:
        reader: _Reader[T] = _Reader()
        self._readers.append(reader)
        if self._closed:
            reader.close()
        return reader

    def remove(self, reader: _Reader[T]) -> None:
        reader.close()
        self._readers.remove(reader)

    def close(self) -> None:
        self._closed = True
        self.begun.set()
        for reader in self._readers:
            reader.close()

    async def changed(self, changes: Sequence[Change[T]]) -> None:
        readers = tuple(self._readers)
        for reader in readers:
            reader.give(changes)
        for reader in readers:
            await reader.taken()

    async def synced(self, resource_version: int, count: int) -> None:
        self.begun.set()

    async def regressed(self, resource_version: int) -> None:
        pass
