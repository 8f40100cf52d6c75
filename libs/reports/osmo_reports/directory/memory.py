"""The directory inside one process: of `memory://NAME` shared by all who open it while one of them
holds it open, of `memory://` its opener's own."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping

from osmo_reports.bodies import Registration
from osmo_reports.conditions import DEFAULT_RULES, check_rules
from osmo_reports.directory.abc import (
    MAX_BACKENDS,
    MAX_FREED,
    Claim,
    Directory,
    Origin,
    RuleSet,
    merged,
    too_many,
)
from osmo_reports.errors import BackendTakenError, RulesDeclaredError
from osmo_transport import QueueConfig
from osmo_transport.transports.urls import parsed


class _Shared:
    """What the directories of one name share."""

    def __init__(self) -> None:
        self.taken: dict[str, Claim] = {}
        self.freed: dict[str, Claim] = {}
        self.claimed = asyncio.Event()
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

    async def register(
        self, backend: str, registration: Registration, known: Claim | None = None
    ) -> bool:
        if known is not None:
            await self.restore_claims({backend: known})
        kept = self._kept(backend)
        if kept.registration is None:
            if self._is_full():
                raise too_many(self._max_backends)
        elif owner := kept.registration.cluster_uid:
            if registration.cluster_uid not in ("", owner):
                raise BackendTakenError(backend, owner, registration.cluster_uid)
            if not registration.cluster_uid:
                return False
        since = kept.since
        if kept.registration is None or kept.registration.cluster_uid != registration.cluster_uid:
            since = max(self._now(), kept.freed)
        self._claim(backend, Claim(registration, since, kept.freed))
        return kept.registration is None

    async def forget(self, backend: str) -> bool:
        kept = self._kept(backend)
        freed = max(self._now(), kept.since + 1, kept.freed)
        self._claim(backend, Claim(freed=freed))
        known = self._shared.rules.get(backend)
        if known is None or (known.rules == DEFAULT_RULES and known.origin is not Origin.FILE):
            return kept.registration is not None
        self._set(backend, DEFAULT_RULES, Origin.DEFAULT)
        return True

    async def claims(self) -> dict[str, Claim]:
        return self._shared.freed | self._shared.taken

    async def restore_claims(self, known: Mapping[str, Claim]) -> None:
        for backend, ours in known.items():
            kept = self._kept(backend)
            claim = merged(kept, ours)
            is_new = kept.registration is None and claim.registration is not None
            if not (is_new and self._is_full()):
                self._claim(backend, claim)

    async def follow_claims(self) -> AsyncGenerator[dict[str, Claim], None]:
        while True:
            claimed = self._shared.claimed
            yield await self.claims()
            await claimed.wait()

    def _kept(self, backend: str) -> Claim:
        return self._shared.taken.get(backend) or self._shared.freed.get(backend) or Claim()

    def _claim(self, backend: str, claim: Claim) -> None:
        if claim == self._kept(backend):
            return
        taken, freed = self._shared.taken, self._shared.freed
        for kept in (taken, freed):
            kept.pop(backend, None)
        (freed if claim.registration is None else taken)[backend] = claim
        if len(freed) > MAX_FREED:
            del freed[min(freed, key=lambda name: freed[name].freed)]
        self._shared.claimed.set()
        self._shared.claimed = asyncio.Event()

    def _is_full(self) -> bool:
        return len(self._shared.taken) >= self._max_backends

    def _now(self) -> int:
        """In milliseconds."""
        return int(self._wall() * 1000)

    async def set_rules(self, backend: str, rules: Mapping[str, str]) -> RuleSet:
        check_rules(rules)
        if self._is_declared(backend):
            raise RulesDeclaredError(backend)
        return self._set(backend, rules, Origin.COMMAND)

    async def declare_rules(self, backend: str, rules: Mapping[str, str] | None) -> RuleSet | None:
        known, declared = self._shared.rules.get(backend), self._is_declared(backend)
        if rules is None:
            return self._set(backend, DEFAULT_RULES, Origin.DEFAULT) if declared else known
        check_rules(rules)
        if declared and known is not None and known.rules == rules:
            return known
        return self._set(backend, rules, Origin.FILE)

    def _is_declared(self, backend: str) -> bool:
        known = self._shared.rules.get(backend)
        return known is not None and known.origin is Origin.FILE

    def _set(self, backend: str, rules: Mapping[str, str], origin: Origin) -> RuleSet:
        known = self._shared.rules.get(backend)
        # Rises also after the store was wiped.
        version = max(known.version + 1 if known else 0, self._now())
        return self._keep(backend, RuleSet(version, dict(rules), origin))

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
