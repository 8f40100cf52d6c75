"""The directory inside one process."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping

from osmo_transport.bodies import Registration
from osmo_transport.conditions import DEFAULT_RULES, check_rules
from osmo_transport.directory import Directory, RuleSet
from osmo_transport.errors import BackendTakenError
from osmo_transport.queues._rules import next_version


class MemoryDirectory(Directory):
    """What the memory queues of one name share of it. `wall` gives seconds since the Unix epoch."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._backends: dict[str, Registration] = {}
        self._rules: dict[str, RuleSet] = {}
        self._changed = asyncio.Event()

    async def register(self, backend: str, registration: Registration) -> bool:
        known = self._backends.get(backend)
        if known is not None and known.cluster_uid:
            if registration.cluster_uid not in ("", known.cluster_uid):
                raise BackendTakenError(backend, known.cluster_uid, registration.cluster_uid)
            if not registration.cluster_uid:
                return False
        self._backends[backend] = registration
        return known is None

    async def forget(self, backend: str) -> bool:
        registered = self._backends.pop(backend, None) is not None
        known = self._rules.get(backend)
        if known is None or known.rules == DEFAULT_RULES:
            return registered
        await self.set_rules(backend, DEFAULT_RULES)
        return True

    async def backends(self) -> dict[str, Registration]:
        return dict(self._backends)

    async def set_rules(self, backend: str, rules: Mapping[str, str]) -> RuleSet:
        check_rules(rules)
        known = self._rules.get(backend)
        version = next_version(known.version if known else 0, self._wall())
        self._rules[backend] = RuleSet(version, dict(rules))
        self._changed.set()
        self._changed = asyncio.Event()
        return self._rules[backend]

    async def rules(self) -> dict[str, RuleSet]:
        return dict(self._rules)

    async def follow_rules(self) -> AsyncGenerator[dict[str, RuleSet], None]:
        while True:
            changed = self._changed
            yield dict(self._rules)
            await changed.wait()
