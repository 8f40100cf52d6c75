"""What the tests of the informer share."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from osmo_listener.informer import Informer, InformerConfig
from osmo_listener.informer.reflector import ReflectorConfig
from osmo_listener.informer.source import Source
from osmo_listener.informer.store import Change, ChangeType
from osmo_listener.listeners.objects import Pod, PodMetadata, PodStatus
from osmo_transport.backoff import BackoffConfig

QUICK = InformerConfig(
    reflector=ReflectorConfig(
        backoff=BackoffConfig(base=0.01, maximum=0.05, healthy_after=1.0), shortest_watch=0.0
    ),
    resync_interval=None,
)
"""For real servers: as by default, with short delays."""

INSTANT = InformerConfig(
    reflector=ReflectorConfig(
        backoff=BackoffConfig(base=0.0, maximum=0.0, healthy_after=1.0), shortest_watch=0.0
    ),
    resync_interval=None,
)
"""Without any delay."""

NO_RESYNC = InformerConfig(resync_interval=None)
"""As by default, for a clock that does not wait."""


def make_pod(name: str, phase: str = "Pending", *, uid: str = "", version: int = 0) -> Pod:
    """A pod in namespace `osmo`; its uid is made of its name unless given."""
    metadata = PodMetadata(
        name=name, namespace="osmo", uid=uid or f"uid-{name}", resource_version=str(version or "")
    )
    return Pod(metadata=metadata, status=PodStatus(phase=phase))


class Recorder:
    """A handler that keeps what it was told, and fails when two calls contradict each other."""

    def __init__(self) -> None:
        self.changes: list[Change[Pod]] = []
        self.calls: list[str] = []
        """Names of the calls in their order; of several `changed` in a row, one."""
        self.syncs: list[tuple[int, int]] = []
        self.pods: dict[str, Pod] = {}
        """What a reader of the changes alone knows."""
        self.gate = asyncio.Event()
        """While it is clear, `changed` waits."""
        self.gate.set()
        self._busy = False

    async def changed(self, changes: Sequence[Change[Pod]]) -> None:
        assert changes
        async with self._alone("changed"):
            for change in changes:
                self._take(change)
            await self.gate.wait()

    async def synced(self, resource_version: int, count: int) -> None:
        async with self._alone("synced"):
            assert count == len(self.pods)
            self.syncs.append((resource_version, count))

    async def regressed(self, resource_version: int) -> None:
        async with self._alone("regressed"):
            await asyncio.sleep(0)

    def told(self, name: str) -> list[tuple[ChangeType, str]]:
        """What was told of one pod: each change's type and the pod's phase."""
        return [
            (change.type, pod.status.phase)
            for change in self.changes
            if (pod := change.new or change.old) is not None and pod.metadata.name == name
        ]

    @contextlib.asynccontextmanager
    async def _alone(self, call: str) -> AsyncIterator[None]:
        assert not self._busy, "two calls at once"
        self._busy = True
        if self.calls[-1:] != [call]:
            self.calls.append(call)
        await asyncio.sleep(0)
        yield
        self._busy = False

    def _take(self, change: Change[Pod]) -> None:
        self.changes.append(change)
        pod = change.new or change.old
        assert pod is not None
        name = pod.metadata.name
        known = self.pods.get(name)
        if change.type is ChangeType.DELETED:
            assert known is not None
            assert change.new is None
        else:
            assert change.old == known
        if change.new is None:
            del self.pods[name]
        else:
            assert (known is None) == (change.type is ChangeType.ADDED)
            self.pods[name] = change.new


class Time:
    """A clock that only sleeping moves forward, and that remembers who slept how long."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def running(
    source: Source[Pod], config: InformerConfig = QUICK, time: Time | None = None
) -> AsyncIterator[tuple[Informer[Pod], Recorder]]:
    """An informer at work; with `time`, its clock and sleep are that, and it draws 1/2 always."""
    recorder = Recorder()
    if time is None:
        informer = Informer(source, recorder, config)
    else:
        informer = Informer(
            source, recorder, config, clock=time.clock, sleep=time.sleep, draw=lambda: 0.5
        )
    task = asyncio.create_task(informer.run())
    try:
        yield informer, recorder
        if task.done():
            await task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
