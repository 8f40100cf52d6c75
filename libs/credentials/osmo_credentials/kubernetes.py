"""`kubernetes`: tokens of service accounts, about which the hub's API server is asked.

    kubernetes?audience=osmo&pattern=system:serviceaccount:osmo:{backend}

`audience` has to be among those that the token was made for. `pattern` says how the account's user
name tells the backend. `kubeconfig` is for an API server other than that of the pod which asks.
Answers are kept for `cache` (10) seconds, and so long a token lives on that was revoked.
"""

import asyncio
import base64
import hashlib
import json
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from math import inf, isnan
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import msgspec
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from osmo_credentials.settings import Pattern, read_settings
from osmo_transport.credentials import Authenticator, Identity, Presented
from osmo_transport.errors import (
    CredentialRefusedError,
    CredentialUncheckedError,
    UsageError,
)
from osmo_transport.peers import network_of
from osmo_transport.transports.passphrases import no_passphrase

REVIEW_TIMEOUT = 5.0
"""Seconds that the API server may take."""

MAX_CACHED = 10_000
"""Answers that are kept: more than there are listeners."""

MAX_REVIEWS = 32
"""Tokens about which the API server is asked at a time. Threads of their own: others need those of
the event loop, to find an address for example."""

MAX_ADDRESS_REVIEWS = 8
"""Of those, that come from one address: whoever makes up tokens holds up himself."""


class _Settings(msgspec.Struct):
    audience: str
    pattern: str
    kubeconfig: str = ""
    cache: float = 10.0


class Review(NamedTuple):
    """What the API server says of a token."""

    user: str
    """Empty: it is no good."""
    audiences: tuple[str, ...]
    error: str = ""


Ask = Callable[[str, str], Review]
"""Asks about a token for an audience; blocks."""


class AccountAuthenticator(Authenticator):
    """Knows the service accounts of one cluster."""

    kind = "kubernetes"

    def __init__(
        self,
        ask: Ask,
        audience: str,
        pattern: str,
        cache: float = 10.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Raises:
            UsageError: the pattern cannot be used.
        """
        self._ask = ask
        self._audience = audience
        self._pattern = Pattern(pattern, self.kind)
        self._cache = cache
        self._now = now
        self._reviews: OrderedDict[bytes, tuple[float, asyncio.Future[Review]]] = OrderedDict()
        self._threads = ThreadPoolExecutor(MAX_REVIEWS, "token-review")
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        """By address, of who waits for his turn or is asked about."""

    async def identify(self, presented: Presented) -> Identity | None:
        token = presented.token
        if token.count(".") != 2:
            return None
        review = await self._review(token, network_of(presented.address))
        if not review.user:
            why = f": {review.error}" if review.error else ""
            raise CredentialRefusedError(f"the API server does not know the token{why}")
        if self._audience not in review.audiences:
            raise CredentialRefusedError(f"the token is not for the audience {self._audience}")
        backend = self._pattern.backend(review.user)
        if backend is None:
            raise CredentialRefusedError(f"the account {review.user} names no backend")
        return Identity(f"account {review.user}", (backend,), _end_of(token), self._cache)

    async def _review(self, token: str, address: str) -> Review:
        """Of those who ask about one token at a time, one asks the API server."""
        key = hashlib.sha256(token.encode()).digest()
        if (kept := self._kept(key)) is None:
            turns = self._turns.get(address) or asyncio.Semaphore(MAX_ADDRESS_REVIEWS)
            self._turns[address] = turns
            # Whoever gives up waits no more, and asks nobody.
            await turns.acquire()
            if (kept := self._kept(key)) is not None:
                turns.release()
        if kept is None:
            loop = asyncio.get_running_loop()
            asked = loop.run_in_executor(self._threads, self._ask, token, self._audience)

            def done(asked: asyncio.Future[Review]) -> None:
                turns.release()
                _ = asked.cancelled() or asked.exception()

            asked.add_done_callback(done)
            kept = self._now(), asked
            self._reviews[key] = kept
            self._reviews.move_to_end(key)
            while len(self._reviews) > MAX_CACHED:
                self._reviews.popitem(last=False)
        try:
            return await asyncio.shield(kept[1])
        except (OSError, HTTPError, ApiException, ValueError) as exc:
            if self._reviews.get(key) is kept:
                del self._reviews[key]
            raise CredentialUncheckedError(f"the API server cannot be asked: {_why(exc)}") from exc

    async def aclose(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _kept(self, key: bytes) -> tuple[float, asyncio.Future[Review]] | None:
        kept = self._reviews.get(key)
        return None if kept is None or self._now() - kept[0] >= self._cache else kept


def _why(exc: Exception) -> str:
    # What the client raises for an answer shows all of it, and the request may be in it.
    if isinstance(exc, ApiException):
        return f"it answers {exc.status}"
    return "what it answers is no review" if isinstance(exc, ValueError) else type(exc).__name__


def _end_of(token: str) -> float:
    """When a token that is good says that it ends."""
    try:
        payload = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        ends = float(payload.get("exp", inf))
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        return inf
    return inf if isnan(ends) else ends


def _api_of(kubeconfig: str) -> client.ApiClient:
    try:
        settings = client.Configuration()
        if kubeconfig:
            config.load_kube_config(kubeconfig, client_configuration=settings)
        else:
            config.load_incluster_config(client_configuration=settings)
        if settings.cert_file:
            refuse = no_passphrase("the kubeconfig's client-key")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_cert_chain(settings.cert_file, settings.key_file, refuse)
    except (config.ConfigException, OSError) as exc:
        raise UsageError(f"auth 'kubernetes' cannot reach an API server: {exc}") from exc
    settings.retries = 0
    return client.ApiClient(settings)


def asking(api: client.ApiClient) -> Ask:
    """What asks this API server. It raises what the client does, and a `ValueError` for an answer
    that is no review."""
    reviews = client.AuthenticationV1Api(api)

    def ask(token: str, audience: str) -> Review:
        spec = client.V1TokenReviewSpec(token=token, audiences=[audience])
        asked = client.V1TokenReview(spec=spec)
        try:
            answer: Any = reviews.create_token_review(asked, _request_timeout=REVIEW_TIMEOUT)
            status = answer.status
            if not status.authenticated:
                return Review("", (), str(status.error or ""))
            return Review(str(status.user.username or ""), tuple(status.audiences or ()))
        except (AttributeError, TypeError, RecursionError) as exc:
            raise ValueError(f"this is no review: {exc}") from exc

    return ask


def open_authenticator(settings: Mapping[str, str]) -> Authenticator:
    """The authenticator of these settings."""
    read = read_settings("kubernetes", settings, _Settings)
    return AccountAuthenticator(
        asking(_api_of(read.kubeconfig)), read.audience, read.pattern, read.cache
    )
