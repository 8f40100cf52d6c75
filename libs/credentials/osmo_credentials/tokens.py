"""`token`: named tokens in a file, of which it holds the hashes alone.

    token?file=/etc/osmo/tokens.json

The tokens are made by `osmo-pipeline tokens add`. They have 256 random bits, so that a plain hash
of one is as good as a slow one, and to look it up tells nothing of the others.
"""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from math import inf
from pathlib import Path
from typing import Annotated

import msgspec

from osmo_credentials.settings import read_settings
from osmo_transport.credentials import Authenticator, Identity, Presented
from osmo_transport.errors import CredentialExpiredError, CredentialRefusedError
from osmo_transport.files import WatchedFile

PREFIX = "osmo_"
"""With which every token begins, so that scanners find one that lies around."""

TOKEN_BYTES = 32

LENGTH = len(PREFIX) + len(secrets.token_urlsafe(TOKEN_BYTES))
"""Characters of a token."""

MAX_REVOKED = 1_000
"""Revoked tokens whose names are kept in mind, the latest: whoever still tries them is told."""

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z")]
Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class NamedToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token, without what makes it one."""

    name: Name
    """For people."""
    sha256: Hash
    """Of the token, in hexadecimal digits."""
    backends: tuple[Annotated[str, msgspec.Meta(min_length=1)], ...]
    """Names of backends for which it may report; `*` stands for any characters."""
    created: datetime
    expires: datetime | None = None
    """None: never."""


class TokenFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All tokens."""

    tokens: tuple[NamedToken, ...] = ()


def read_tokens(data: bytes) -> TokenFile:
    """What is in a file of tokens.

    Raises:
        ValueError: it is none; the text says why.
    """
    try:
        found = msgspec.json.decode(data, type=TokenFile)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise ValueError(str(exc)) from exc
    names = Counter(token.name for token in found.tokens)
    if twice := [name for name, count in names.items() if count > 1]:
        raise ValueError(f"there are two tokens called {min(twice)}")
    return found


def hash_of(token: str) -> str:
    """As a file has it."""
    return sha256(token.encode()).hexdigest()


def new_token() -> str:
    """One that nobody can guess."""
    return PREFIX + secrets.token_urlsafe(TOKEN_BYTES)


def lasts_until(token: NamedToken) -> float:
    """When it ends, in seconds since the Unix epoch."""
    return inf if token.expires is None else _with_zone(token.expires).timestamp()


def _with_zone(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class _Settings(msgspec.Struct):
    file: str


class TokenAuthenticator(Authenticator):
    """Knows the tokens of a file, which is read again when it changes."""

    kind = "token"

    def __init__(self, file: Path, wall: Callable[[], float] = time.time) -> None:
        """
        Raises:
            UsageError: there is no such file, or it is none of tokens.
        """
        self._wall = wall
        make = f"osmo-pipeline tokens add NAME BACKEND --auth-file {file} makes it"
        self._file = WatchedFile(file, _by_hash, what="file of tokens", absent=make)
        self._known = self._file.look()
        self._revoked: dict[str, str] = {}
        """The names of tokens that are not in the file any more, by hash."""

    @property
    def generation(self) -> object:
        self._look()
        return self._file.changes

    def _look(self) -> Mapping[str, NamedToken]:
        """The tokens of now."""
        before, found = self._known, self._file.look()
        if found is not before:
            self._known = found
            self._revoked |= {each: before[each].name for each in before.keys() - found.keys()}
            for oldest in list(self._revoked)[:-MAX_REVOKED]:
                del self._revoked[oldest]
        return found

    async def identify(self, presented: Presented) -> Identity | None:
        if not presented.token.startswith(PREFIX):
            return None
        hashed = hash_of(presented.token)
        token = self._look().get(hashed)
        if token is None:
            raise CredentialRefusedError(self._why_unknown(presented.token, hashed))
        identity = Identity(f"token {token.name}", token.backends, lasts_until(token))
        if identity.expires <= self._wall():
            raise CredentialExpiredError(f"{identity.name} has expired")
        return identity

    def _why_unknown(self, token: str, hashed: str) -> str:
        if name := self._revoked.get(hashed):
            return f"token {name} was revoked"
        if len(token) != LENGTH:
            return "the token is malformed: it has not the length of a token of ours"
        return (
            "this server does not know the token: it was revoked before its start, or never added"
        )


def _by_hash(data: bytes) -> dict[str, NamedToken]:
    return {token.sha256: token for token in read_tokens(data).tokens}


def open_authenticator(settings: Mapping[str, str]) -> Authenticator:
    """The authenticator of these settings."""
    return TokenAuthenticator(Path(read_settings("token", settings, _Settings).file))
