"""To whom the backends' names belong, as long as an operator lives: what the queue's store forgets
of it, the operators still know."""

import logging
from collections import Counter
from collections.abc import Mapping
from contextlib import aclosing
from typing import NoReturn, Protocol

import anyio
from msgspec.structs import replace

from osmo_reports import Registration
from osmo_reports.directory import MAX_BACKENDS, Claim, Directory, merged
from osmo_runtime.texts import counted
from osmo_transport import Backoff, BackoffConfig, QueueRefusedError, QueueUnavailableError

logger = logging.getLogger(__name__)


MAX_OF_CREDENTIAL = 1_000
"""Names that one credential may take, as one for `*` could take all that a directory keeps: more
than a team has clusters, and few enough that others have room."""


class Door(Protocol):
    """Where listeners are connected: a `Server`."""

    def dismiss(self, backend: str, reason: str) -> None:
        """Let the listeners of `backend` connect again."""


class Names:
    """What this operator knows of the names in a directory."""

    def __init__(
        self,
        directory: Directory,
        backoff: BackoffConfig,
        max_of_credential: int = MAX_OF_CREDENTIAL,
    ) -> None:
        """`backoff`: the delays while the directory is away; `max_of_credential`: names that one
        credential may take."""
        self._directory = directory
        self._backoff = backoff
        self._max_of_credential = max_of_credential
        self._of_credential: Counter[str] = Counter()
        """Names by who took them, as far as this operator knows."""
        self.known: Mapping[str, Claim] = {}
        """What the directory said last."""
        self._let_in: dict[tuple[str, str], None] = {}
        """Backends and clusters that were let in here, the latest `MAX_BACKENDS`."""

    async def register(self, backend: str, registration: Registration) -> None:
        """Note who reports `backend`, unless the name is known to belong to another cluster. Its
        credential is noted of a name that is new.

        Raises:
            BackendTakenError, QueueUnavailableError, QueueRefusedError: as `Directory.register`.
            QueueUnavailableError: its credential has taken as many names as it may, too.
        """
        known, by = self.known.get(backend), registration.credential
        owner = None if known is None else known.registration
        if owner is not None:
            registration = replace(registration, credential=owner.credential)
        elif by and self._of_credential[by] >= self._max_of_credential:
            raise QueueUnavailableError(
                f"{by} has taken the names of {self._max_of_credential} backends, as many as it may"
                " (max_credential_backends): free those that nobody uses with osmo-pipeline"
                " backends forget NAME, or give each cluster a credential of its own"
            )
        if await self._directory.register(backend, registration, known) and by:
            self._of_credential[by] += 1
        if cluster := registration.cluster_uid:
            self._let_in.pop((backend, cluster), None)
            self._let_in[backend, cluster] = None
            if len(self._let_in) > MAX_BACKENDS:
                del self._let_in[next(iter(self._let_in))]

    async def keep(self, door: Door) -> NoReturn:
        """Learn of every name, for ever, and put back what the directory loses. Whose name turns
        out to be another cluster's has to come to the `door` again."""
        delays = Backoff(self._backoff)
        while True:
            try:
                async with aclosing(self._directory.follow_claims()) as following:
                    async for found in following:
                        delays = Backoff(self._backoff)
                        self.known = await self._restored(found)
                        self._of_credential = Counter(
                            claim.registration.credential
                            for claim in self.known.values()
                            if claim.registration is not None
                        )
                        self._dismiss(door)
            except QueueUnavailableError as exc:
                logger.debug("cannot ask the queue for the backends' names: %s", exc)
                await anyio.sleep(delays.next_delay())

    async def _restored(self, found: dict[str, Claim]) -> dict[str, Claim]:
        """What is `found` in the directory, after it has again what it lost of what was known."""
        lost = {
            backend: ours
            for backend, ours in self.known.items()
            if merged(kept := found.get(backend, Claim()), ours) != kept
        }
        if not lost:
            return found
        # That a name was freed is left out where many were freed since.
        if taken := sum(claim.registration is not None for claim in lost.values()):
            logger.error("the queue lost to whom the names of %s belong", counted(taken, "backend"))
        try:
            await self._directory.restore_claims(lost)
        except QueueRefusedError as exc:
            logger.warning("the names of backends are not put back: %s", exc)
            return found | lost
        return await self._directory.claims()

    def _dismiss(self, door: Door) -> None:
        for backend, cluster in list(self._let_in):
            registration = self.known.get(backend, Claim()).registration
            if registration is None or registration.cluster_uid in ("", cluster):
                continue
            owner = registration.cluster_uid
            logger.warning("%s belongs to cluster %s, and not to %s", backend, owner, cluster)
            del self._let_in[backend, cluster]
            door.dismiss(backend, f"{backend} belongs to the cluster {owner}")
