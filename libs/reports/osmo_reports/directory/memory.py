"""The directory inside one process: of `memory://NAME` shared by all who open it while one of them
holds it open, of `memory://` its opener's own."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping

from osmo_reports.bodies import Registration
from osmo_reports.conditions import DEFAULT_RULES, check_rules
from osmo_reports.directory.abc import MAX_BACKENDS, Directory, RuleSet, too_many
from osmo_reports.errors import BackendTakenError
from osmo_transport import QueueConfig
from osmo_transport.transports.urls import parsed


class _Shared:
    """What the directories of one name share."""

    def __init__(self) -> None:
        self.backends: dict[str, Registration] = {}
        self.rules: dict[str, RuleSet] = {}
        self.changed = asyncio.Event()
        self.users = 0


_named: dict[str, _Shared] = {}


async def open_directory(
    url: str,
    config: QueueConfig,
    max_backends: int = MAX_BACKENDS,
    wall: Callable[[], float] = time.time,
) -> "MemoryDirectory":
    """The directory beside a queue in memory. `wall` gives seconds since the Unix epoch.

    Raises:
        UsageError: the URL is wrong.
    """
    name = parsed(url).netloc
    shared = _named.setdefault(name, _Shared()) if name else _Shared()
    return MemoryDirectory(name, shared, max_backends, wall)


class MemoryDirectory(Directory):
    """See the module; made by `open_directory`."""

    def __init__(
        self, name: str, shared: _Shared, max_backends: int, wall: Callable[[], float]
    ) -> None:
        self._name = name
        self._shared = shared
        self._shared.users += 1
        self._closed = False
        self._max_backends = max_backends
        self._wall = wall

    async def register(self, backend: str, registration: Registration) -> bool:
        known = self._shared.backends.get(backend)
        if known is not None and known.cluster_uid:
            if registration.cluster_uid not in ("", known.cluster_uid):
                raise BackendTakenError(backend, known.cluster_uid, registration.cluster_uid)
            if not registration.cluster_uid:
                return False
        if known is None and len(self._shared.backends) >= self._max_backends:
            raise too_many(self._max_backends)
        self._shared.backends[backend] = registration
        return known is None

    async def forget(self, backend: str) -> bool:
        registered = self._shared.backends.pop(backend, None) is not None
        known = self._shared.rules.get(backend)
        if known is None or known.rules == DEFAULT_RULES:
            return registered
        await self.set_rules(backend, DEFAULT_RULES)
        return True

    async def backends(self) -> dict[str, Registration]:
        return dict(self._shared.backends)

    async def set_rules(self, backend: str, rules: Mapping[str, str]) -> RuleSet:
        check_rules(rules)
        known = self._shared.rules.get(backend)
        # Rises also after the store was wiped.
        version = max(known.version + 1 if known else 0, int(self._wall() * 1000))
        return self._keep(backend, RuleSet(version, dict(rules)))

    async def restore_rules(self, known: Mapping[str, RuleSet]) -> None:
        for backend, ours in known.items():
            kept = self._shared.rules.get(backend)
            if kept is None or kept.version < ours.version:
                self._keep(backend, ours)

    def _keep(self, backend: str, rules: RuleSet) -> RuleSet:
        self._shared.rules[backend] = rules
        self._shared.changed.set()
        self._shared.changed = asyncio.Event()
        return rules

    async def rules(self) -> dict[str, RuleSet]:
        return dict(self._shared.rules)

    async def follow_rules(self) -> AsyncGenerator[dict[str, RuleSet], None]:
        while True:
            changed = self._shared.changed
            yield dict(self._shared.rules)
            await changed.wait()

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._shared.users -= 1
        if self._name and not self._shared.users:
            del _named[self._name]
