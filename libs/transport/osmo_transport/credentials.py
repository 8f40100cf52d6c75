"""The contract of credentials: who is at the other end, and for which backends he may report.

A client presents what it has while it connects: a certificate, a token, or both. An `Authenticator`
says whose that is; the server asks it before anything else is done for the client, and lets nobody
report for a backend that his credential does not name.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from osmo_transport.errors import CredentialRefusedError

MAX_TOKEN = 7 * 1024
"""Characters of a token: what every server takes as a header of HTTP, and several times what the
tokens of service accounts have."""


BEARER = "Bearer"
"""The scheme of RFC 6750, 2.1."""


class Presented(NamedTuple):
    """What a client presented. Its text shows no secret."""

    token: str = ""
    """What came as `Authorization: Bearer`; empty: nothing did."""
    certificate: bytes = b""
    """In DER; the transport has verified who signed it, and that its key is the client's. Empty:
    there is none."""
    address: str = ""
    """Where the client is, for logs."""

    def __repr__(self) -> str:
        had = [name for name in ("token", "certificate") if getattr(self, name)]
        return f"Presented({' and '.join(had) or 'nothing'} from {self.address})"


class Identity(NamedTuple):
    """Who presented a credential, and what he may do."""

    name: str
    """For people: the kind of the credential and its name, as `token ci-cluster-a`."""
    backends: tuple[str, ...]
    """Names of backends for which he may report; `*` stands for any characters."""
    expires: float = inf
    """When the credential ends, in seconds since the Unix epoch."""
    recheck: float = inf
    """Seconds after which it has to be looked at again, while the client stays connected."""

    def may_report(self, backend: str) -> bool:
        """Whether he may report for the backend."""
        return any(_matches(pattern, backend) for pattern in self.backends)


def _matches(pattern: str, backend: str) -> bool:
    parts = map(re.escape, pattern.split("*"))
    return re.fullmatch(".*".join(parts), backend, re.DOTALL) is not None


class Authenticator(ABC):
    """Knows one kind of credential. Use as `async with`; it is asked from one event loop, often at
    the same time."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """As its entry point is called, for example `token`."""

    @property
    def generation(self) -> object:
        """Another one when what was answered may not hold any more, as after a token was revoked:
        then everybody who is connected is looked at again. Asked for about once a second, and
        never waits. By default the same for ever."""
        return None

    @abstractmethod
    async def identify(self, presented: Presented) -> Identity | None:
        """Whose credential that is; None: nothing of this kind was presented.

        Raises:
            CredentialRefusedError: it is no good; a `CredentialExpiredError` where a newer one
                would be. The text is told to whoever presented it, and has no secret in it.
            CredentialUncheckedError: whoever decides cannot be asked now.
        """

    async def __aenter__(self) -> "Authenticator":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:  # noqa: B027 - a hook
        """Let go of what it holds. Idempotent."""


class AnyOf(Authenticator):
    """Several kinds: the first that knows what was presented says whose it is."""

    kind = "any"

    def __init__(self, authenticators: Sequence[Authenticator]) -> None:
        self._authenticators = tuple(authenticators)

    @property
    def generation(self) -> object:
        return tuple(each.generation for each in self._authenticators)

    async def identify(self, presented: Presented) -> Identity | None:
        refused: list[CredentialRefusedError] = []
        for each in self._authenticators:
            try:
                identity = await each.identify(presented)
            except CredentialRefusedError as exc:
                refused.append(exc)
            else:
                if identity is not None:
                    return identity
        if refused:
            raise refused[0] if len(refused) == 1 else _joined(refused)
        return None

    async def aclose(self) -> None:
        for each in self._authenticators:
            await each.aclose()


def _joined(refused: Sequence[CredentialRefusedError]) -> CredentialRefusedError:
    """An expired one leads, because that is what waiting mends."""
    text = "; ".join(map(str, refused))
    first = next((each for each in refused if type(each) is not CredentialRefusedError), refused[0])
    return type(first)(text)


def authorization(token: str) -> str:
    """The header `Authorization` that presents `token`."""
    return f"{BEARER} {token}"


def token_of(header: str) -> str:
    """The token in a header `Authorization`; empty: there is none."""
    scheme, _, token = header.strip().partition(" ")
    return token.strip() if scheme.lower() == BEARER.lower() else ""
