"""What all operators of a queue know together about the backends: who each is, and its rules.

- *Durable.* What was registered or set lives as long as the queue's store, and every operator and
  every command sees it.
- *One cluster.* A backend's name belongs to the cluster that registered it first, until it is
  forgotten.
- *What a store forgot can be put back*, by whoever still knows it, in any order and by several at
  once: of rules the highest version stands, of a name the first claim since it was last freed.
- *Told at once.* `follow_rules` notices a change within milliseconds, whoever made it, and goes on
  with the newest after its connection broke.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterable, Mapping
from enum import StrEnum
from types import TracebackType
from typing import Self

import msgspec

from osmo_reports.bodies import Registration
from osmo_transport import QueueUnavailableError

RULES_KIND = "node_conditions"
"""The kind of the push that tells a backend's listeners its rules."""

MAX_BACKENDS = 10_000
"""Names that a directory keeps. Who may connect may make new ones, and no store holds them all."""


MAX_FREED = 1_000
"""Names of which a directory keeps that they were freed: so many others may be freed before
somebody who heard of none of it can put one back."""


class Claim(msgspec.Struct, frozen=True):
    """To whom a backend's name belongs. Times are milliseconds since the Unix epoch, by the store's
    own clock."""

    registration: Registration | None = None
    """Who reports it; None: the name is free."""
    since: int = 0
    """When the cluster took the name, or somebody who did not tell his."""
    freed: int = 0
    """When the name was forgotten last: earlier claims are void. 0: never."""


def merged(kept: Claim, known: Claim) -> Claim:
    """What holds of a name of which a store says `kept` and somebody else knows `known`."""
    freed = max(kept.freed, known.freed)
    first, rank = Claim(freed=freed), (True, 0, "")
    for claim in (kept, known):
        if claim.registration is not None and claim.since >= freed:
            uid = claim.registration.cluster_uid
            its_rank = (not uid, claim.since, uid)
            if first.registration is None or its_rank < rank:
                first, rank = Claim(claim.registration, claim.since, freed), its_rank
    return first


class Origin(StrEnum):
    """Who decided the rules of a backend."""

    FILE = "file"
    """Its operators' file, over which nobody decides."""
    COMMAND = "command"
    """`osmo-pipeline rules set`."""
    DEPLOYED = "deployed"
    """The service that is already deployed, by `Directory.adopt_rules`."""
    DEFAULT = "default"
    """Nobody any more: it was forgotten, or is not in the file any longer."""


class RuleSet(msgspec.Struct, frozen=True):
    """The condition rules of one backend; see `conditions`."""

    version: int
    """Rises with each change, also after the store was wiped: by the store's own clock."""
    rules: dict[str, str]
    origin: Origin = Origin.COMMAND


class Directory(ABC):
    """See the module. Use as `async with`. Every call may raise `QueueUnavailableError` and
    `QueueRefusedError`."""

    @abstractmethod
    async def register(
        self, backend: str, registration: Registration, known: Claim | None = None
    ) -> bool:
        """Note who reports `backend`; whether nobody had before. A registration that does not tell
        its cluster is compared with none; it is noted where the name belongs to no cluster yet.
        What the caller knows of the name is put back first, as by `restore_claims`.

        Raises:
            BackendTakenError: another cluster has the name.
            QueueUnavailableError: there are as many names as are kept; the text says how many.
        """

    @abstractmethod
    async def forget(self, backend: str) -> bool:
        """Free a backend's name for another cluster, and let the default rules hold for it again:
        where it had others, or a file declared them, `rules` has the default ones from now on,
        under a higher version, so that those who follow are told. Returns whether it was known or
        had rules of its own."""

    @abstractmethod
    async def claims(self) -> dict[str, Claim]:
        """To whom each name belongs, and which were freed: of those the latest `MAX_FREED`."""

    @abstractmethod
    async def restore_claims(self, known: Mapping[str, Claim]) -> None:
        """Put back what is `merged` of each name: a claim that is earlier than the one that is
        kept, unless the name was freed since, and that it was freed. What there is no room for is
        left out."""

    @abstractmethod
    def follow_claims(self) -> AsyncGenerator[dict[str, Claim], None]:
        """What `claims` says, now and within seconds after each change, for ever; also when the
        store lost them. Close it when done."""

    async def backends(self) -> dict[str, Registration]:
        """Who reports each backend, by name."""
        return {
            backend: claim.registration
            for backend, claim in (await self.claims()).items()
            if claim.registration is not None
        }

    @abstractmethod
    async def set_rules(self, backend: str, rules: Mapping[str, str]) -> RuleSet:
        """Replace the rules of a backend.

        Raises:
            RulesError: at least one cannot be used; nothing is changed.
            RulesDeclaredError: a file declares them.
            MissingExtraError: the library that checks them is not installed.
        """

    @abstractmethod
    async def declare_rules(self, backend: str, rules: Mapping[str, str] | None) -> RuleSet | None:
        """Let a file decide the rules of a backend, over whoever did before. None: it does no
        longer, and the default rules hold where it did. What is declared already changes nothing.
        Returns what holds now, if anything was ever decided.

        Raises:
            RulesError: as `set_rules`.
            MissingExtraError: as `set_rules`.
        """

    @abstractmethod
    async def restore_rules(self, known: Mapping[str, RuleSet]) -> None:
        """Put back those of `known` that are newer than what is kept, under the versions that they
        have: what a store forgot, somebody who followed the rules still knows. Who knows only
        older ones changes nothing."""

    @abstractmethod
    async def rules(self) -> dict[str, RuleSet]:
        """The rules by backend, of those that have any."""

    @abstractmethod
    def follow_rules(self) -> AsyncGenerator[dict[str, RuleSet], None]:
        """What `rules` says, now and after each change, for ever; also, within seconds, when the
        store lost them. Close it when done."""

    async def adopt_rules(self, backends: Iterable[str]) -> None:  # noqa: B027 - a hook
        """Make those rules ours that somebody else has set for `backends`, whose listeners report
        to this process: who follows the rules is told. By default there is nobody else."""

    @abstractmethod
    async def aclose(self) -> None:
        """Release the connections. Idempotent."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()


def too_many(most: int) -> QueueUnavailableError:
    """The error of a name for which there is no room."""
    return QueueUnavailableError(
        f"{most} backends are known, as many as are kept: free the names that nobody uses any more"
        " with osmo-pipeline backends forget NAME"
    )


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, str]).decode


def encode_rules(rules: Mapping[str, str]) -> bytes:
    """The payload of a push of rules."""
    return _encode(dict(rules))


def decode_rules(payload: bytes) -> dict[str, str]:
    """The rules in the payload of a push.

    Raises:
        ValueError: they cannot be read.
    """
    try:
        return _decode(payload)
    except RecursionError as exc:
        raise ValueError(f"it nests too deeply: {exc}") from exc
