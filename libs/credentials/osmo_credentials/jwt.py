"""`jwt`: JSON Web Tokens of an issuer, as identity providers and clouds give them out.

    jwt?issuer=https://id.example&audience=osmo&keys=https://id.example/jwks.json

`issuer` and `audience` have to be what the token says. `keys` is a file or a URL with the issuer's
public keys (JWKS). `claim` (`sub`) holds the name that tells the backend as `pattern` says, or a
list of such; without a pattern it is the name itself. `algorithms` are those that are believed,
whatever the token says of itself: `RS256,ES256` by default, never one with a shared secret. A token
without an end is not taken, and `leeway` (30) seconds are given to clocks that differ.

Whoever holds such a token may present it, so it can be replayed until it ends: give it short times,
and send it over TLS.
"""

import asyncio
import json
import math
import time
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

import jwt as pyjwt
import msgspec

from osmo_credentials.settings import HOLE, Pattern, read_settings
from osmo_transport.credentials import Authenticator, Identity, Presented
from osmo_transport.errors import (
    CredentialExpiredError,
    CredentialRefusedError,
    CredentialUncheckedError,
    UsageError,
)
from osmo_transport.files import WatchedFile
from osmo_transport.registry import scheme_of

ALGORITHMS = frozenset(
    f"{family}{bits}" for family in ("RS", "PS", "ES") for bits in (256, 384, 512)
) | {"EdDSA"}
"""Those with a public key. With another, whoever can check a token could make one."""

FETCH_INTERVAL = 300.0
"""Seconds after which keys are fetched again, so that one that was withdrawn is believed no longer
than that."""

FETCH_PAUSE = 30.0
"""Seconds between two fetches at least: whoever presents keys that nobody knows makes no more."""

FETCH_TIMEOUT = 5.0
"""Seconds after which a fetch reads no more; one that is silent ends as late as twice that."""

MAX_KEYS = 1024 * 1024
"""Bytes of an issuer's keys."""


_UNUSABLE = (
    *(pyjwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, OverflowError),
    NotImplementedError,
)
"""What the library raises for an entry that is no key, or none for signatures."""


class _Settings(msgspec.Struct):
    issuer: str
    audience: str
    keys: str
    claim: str = "sub"
    pattern: str = HOLE
    algorithms: str = "RS256,ES256"
    leeway: float = 30.0


def _keys_in(data: bytes) -> dict[str, Any]:
    """Public keys by their ids.

    Raises:
        ValueError: there are none.
    """
    return _keys_of(_document(data))


def _document(data: bytes) -> object:
    """What may be a document of keys. Raises ValueError."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"these are no keys (JWKS): {exc}") from exc


def _keys_of(document: object) -> dict[str, Any]:
    """Those with which a token can be verified; what is none is left out, as RFC 7517 (5) wants it.
    Raises ValueError where there is none at all."""
    entries = document.get("keys") if isinstance(document, dict) else None
    found = filter(None, map(_public_key, entries if isinstance(entries, list) else ()))
    keys = {key.key_id or "": key for key in found}
    if not keys:
        raise ValueError("these are no keys (JWKS): there is no public key among them")
    return keys


def _public_key(entry: object) -> Any | None:
    if not isinstance(entry, dict):
        return None
    # With a private part, which nobody publishes, the library looks for the factors of RSA keys,
    # and of wrong ones without an end.
    public = {name: value for name, value in entry.items() if name != "d"}
    try:
        key = pyjwt.PyJWK(public)
        return key if key.key_type != "oct" and isinstance(key.key_id, str | None) else None
    except _UNUSABLE:
        return None


class KeysOfFile:
    """An issuer's keys in a file."""

    def __init__(self, path: Path) -> None:
        self._file = WatchedFile(path, _keys_in, what="file of keys")

    @property
    def generation(self) -> object:
        """See `Authenticator.generation`."""
        self._file.look()
        return self._file.changes

    async def find(self, key_id: str) -> Any | None:
        """The key with this id."""
        return self._file.look().get(key_id)


class KeysOfUrl:
    """An issuer's keys behind a URL: fetched when they are first asked for, again when their time
    is over, and when a key comes that is not among them."""

    def __init__(
        self,
        url: str,
        fetch: Callable[[str], bytes] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._fetch = fetch or _fetched
        self._now = now
        self._keys: dict[str, Any] = {}
        self._withdrawn: set[str] = set()
        self._published: object = None
        self._fetched_at: float | None = None
        self._asked_at: float | None = None
        self._why = ""
        self._turn = asyncio.Lock()
        self.generation: object = 0
        """See `Authenticator.generation`."""

    async def find(self, key_id: str) -> Any | None:
        """The key with this id.

        Raises:
            CredentialUncheckedError: there are no keys yet, and none can be had now; or it is not
                among those that are known, which may have been followed by others since.
        """
        renewed = False
        if key_id not in self._keys or self._is_old():
            async with self._turn:
                if (key_id not in self._keys or self._is_old()) and self._may_ask():
                    renewed = await self._renew()
        if self._fetched_at is None:
            raise CredentialUncheckedError(f"no keys from {self._url}: {self._why}")
        if not (renewed or key_id in self._keys or key_id in self._withdrawn):
            raise CredentialUncheckedError(
                "the JWT is signed by a key that is not known yet: the issuer is asked again soon"
            )
        return self._keys.get(key_id)

    def _is_old(self) -> bool:
        return self._fetched_at is None or self._now() - self._fetched_at >= FETCH_INTERVAL

    def _may_ask(self) -> bool:
        return self._asked_at is None or self._now() - self._asked_at >= FETCH_PAUSE

    async def _renew(self) -> bool:
        self._asked_at = self._now()
        try:
            data = await asyncio.to_thread(self._fetch, self._url)
            published = _document(data)
            found = _keys_of(published)
        except (OSError, ValueError, HTTPException) as exc:
            self._why = str(exc) or type(exc).__name__
            return False
        if published != self._published:
            # Another key may have the id of one that was withdrawn.
            self.generation, self._published = object(), published
            self._withdrawn = self._keys.keys() - found.keys()
        self._keys, self._fetched_at = found, self._now()
        return True


class _NoDetours(urllib.request.HTTPRedirectHandler):
    """Whoever redirects could lead to where nothing is encrypted."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _fetched(url: str) -> bytes:
    data = bytearray()
    until = time.monotonic() + FETCH_TIMEOUT
    with urllib.request.build_opener(_NoDetours).open(url, timeout=FETCH_TIMEOUT) as answer:
        while piece := answer.read1(MAX_KEYS):
            data += piece
            if len(data) > MAX_KEYS:
                raise ValueError(f"more than {MAX_KEYS} bytes of keys")
            if time.monotonic() > until:
                raise TimeoutError(f"they are not complete after {FETCH_TIMEOUT:g} s")
    return bytes(data)


class JwtAuthenticator(Authenticator):
    """Knows the tokens of one issuer."""

    kind = "jwt"

    def __init__(
        self,
        settings: _Settings,
        keys: KeysOfFile | KeysOfUrl,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """
        Raises:
            UsageError: the pattern or an algorithm cannot be used.
        """
        self._settings = settings
        self._keys = keys
        self._wall = wall
        self._pattern = Pattern(settings.pattern, self.kind)
        self._algorithms = [name.strip() for name in settings.algorithms.split(",")]
        if wrong := [name for name in self._algorithms if name not in ALGORITHMS]:
            known = ", ".join(sorted(ALGORITHMS))
            raise UsageError(f"auth 'jwt' takes no algorithm {wrong[0]!r}: it takes {known}")

    @property
    def generation(self) -> object:
        return self._keys.generation

    async def identify(self, presented: Presented) -> Identity | None:
        if presented.token.count(".") != 2:
            return None
        try:
            head = pyjwt.get_unverified_header(presented.token)
        except (pyjwt.PyJWTError, ValueError, RecursionError):
            return None
        if head.get("alg") not in self._algorithms:
            raise CredentialRefusedError("the JWT is not signed by an algorithm that is taken here")
        key = await self._keys.find(str(head.get("kid", "")))
        if key is None:
            raise CredentialRefusedError("the JWT is signed by a key that its issuer does not have")
        return self._identity(self._verified(presented.token, key))

    def _verified(self, token: str, key: Any) -> dict[str, Any]:
        settings = self._settings
        try:
            claims: dict[str, Any] = pyjwt.decode(
                token,
                key,
                algorithms=self._algorithms,
                audience=settings.audience,
                issuer=settings.issuer,
                # The times are looked at here, by a clock that a test can move.
                options={
                    "require": ["exp"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
            expires, begins = float(claims["exp"]), float(claims.get("nbf", 0.0))
            if not (math.isfinite(expires) and math.isfinite(begins)):
                raise ValueError("its times are no numbers")
        except (pyjwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as exc:
            raise CredentialRefusedError(f"the JWT is not good: {exc}") from exc
        if expires + settings.leeway <= self._wall():
            raise CredentialExpiredError("the JWT has expired")
        if begins - settings.leeway > self._wall():
            raise CredentialRefusedError("the JWT is not good yet: do the clocks agree?")
        return claims

    def _identity(self, claims: dict[str, Any]) -> Identity:
        settings = self._settings
        value = claims.get(settings.claim)
        names = value if isinstance(value, list) else [value]
        backends = tuple(
            backend
            for name in names
            if isinstance(name, str) and (backend := self._pattern.backend(name)) is not None
        )
        if not backends:
            raise CredentialRefusedError(f"the JWT names no backend as its {settings.claim}")
        expires = float(claims["exp"]) + settings.leeway
        subject = str(claims.get("sub") or settings.claim)
        # A withdrawn key is noticed by asking for the keys, which somebody has to cause.
        return Identity(f"jwt {subject}", backends, expires, FETCH_INTERVAL)


def open_authenticator(settings: Mapping[str, str]) -> Authenticator:
    """The authenticator of these settings."""
    read = read_settings("jwt", settings, _Settings)
    scheme = scheme_of(read.keys)
    if scheme == "http":
        raise UsageError(
            "auth 'jwt' fetches keys over https:// alone: whoever changes them on the"
            " way could make tokens"
        )
    keys = KeysOfUrl(read.keys) if scheme == "https" else KeysOfFile(Path(read.keys))
    return JwtAuthenticator(read, keys)
