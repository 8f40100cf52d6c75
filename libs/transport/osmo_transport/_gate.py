"""The server's door: who is let in by what he presented, and for how long."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from math import inf
from typing import Protocol

from osmo_transport import _tasks
from osmo_transport._text import shown
from osmo_transport.backoff import Backoff, BackoffConfig
from osmo_transport.credentials import Authenticator, Identity, Presented
from osmo_transport.errors import (
    CredentialExpiredError,
    CredentialRefusedError,
    CredentialUncheckedError,
    TransportError,
)
from osmo_transport.naming import setting

logger = logging.getLogger("osmo_transport.server")

MAX_CHECKS = 1_000
"""Credentials of connected clients that are looked at again at a time. Whoever asks a server about
them bounds by himself how much, and one that is silent does not hold up what others decide."""

MEND = f"set {setting('client.token.file')}, or {setting('client.tls.cert_file')}"
UNCHECKED = BackoffConfig(base=2.0, maximum=30.0)
"""Until it is asked again whose a credential is of which nobody could say: soon, because a newer
one counts from then on, and seldom enough for whoever decides and is away."""


class Guest(Protocol):
    """A client that was let in."""

    presented: Presented
    pass_: "Pass | None"
    told: bool
    """Whether the log has why it has to go."""

    def fail(self, error: TransportError) -> None:
        """End its connection."""


class Pass:
    """What a client was let in with."""

    __slots__ = ("backend", "delays", "due", "identity", "newest", "renewing")

    def __init__(self, identity: Identity, backend: str, now: float) -> None:
        self.identity = identity
        self.backend = backend
        self.due = now + identity.recheck
        """When it has to be looked at again."""
        self.delays: Backoff | None = None
        """While nobody could say whose what it presents is."""
        self.newest: str | None = None
        """A newer token, not looked at yet."""
        self.renewing = False


class Gate:
    """Asks an authenticator about everybody who comes, and again about those who stay.

    Args:
        authenticator: decides.
        timeout: seconds that it may take.
        now: seconds that only rise.
        wall: seconds since the Unix epoch.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        timeout: float,
        now: Callable[[], float],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._authenticator = authenticator
        self._timeout = timeout
        self._now = now
        self._wall = wall
        self._generation = authenticator.generation
        self._checking: asyncio.Task[None] | None = None
        self._owned: set[asyncio.Task[None]] = set()
        """Renewals, and looks that were given up."""

    async def admit(self, presented: Presented, backend: str) -> Pass:
        """Let in a client that wants to report for `backend`.

        Raises:
            CredentialRefusedError: it may not; a `CredentialExpiredError`: not any more.
            CredentialUncheckedError: nobody could say in time.
        """
        return Pass(await self._identified(presented, backend), backend, self._now())

    def renew(self, guest: Guest, token: str) -> None:
        """A client that was let in presents a newer token. One is looked at at a time; of those
        that come meanwhile, the newest."""
        held = guest.pass_
        if held is None:
            return
        held.newest = token
        if not held.renewing:
            held.renewing = True
            self._own(asyncio.create_task(self._renew(guest, held)))

    def tick(self, guests: Iterable[Guest]) -> None:
        """Call about once a second: end those whose credential is over, and look again at those
        whose turn it is, or at all if what was answered may not hold any more."""
        wall, now = self._wall(), self._now()
        generation = self._authenticator.generation
        changed = generation != self._generation
        self._generation = generation
        if changed and self._checking is not None:
            self._checking.cancel()  # it may wait for somebody for long
            self._own(self._checking)
        busy = not changed and self._checking is not None and not self._checking.done()
        due: list[tuple[Guest, Pass]] = []
        for guest in list(guests):
            held = guest.pass_
            if held is None:
                continue
            identity = held.identity
            if identity.expires <= wall:
                guest.fail(_expired(identity))
            elif changed or now >= held.due:
                due.append((guest, held))
        if due and not busy:
            self._checking = asyncio.create_task(self._look_again(due))

    def _own(self, task: "asyncio.Task[None]") -> None:
        self._owned.add(task)
        task.add_done_callback(self._owned.discard)

    async def aclose(self) -> None:
        """Ask no more. Idempotent."""
        await _tasks.end(self._checking, *self._owned)

    async def _identified(self, presented: Presented, backend: str) -> Identity:
        try:
            async with asyncio.timeout(self._timeout):
                identity = await self._authenticator.identify(presented)
        except TimeoutError as exc:
            raise CredentialUncheckedError(
                f"nobody could say within {self._timeout:g} s whose credential this is"
            ) from exc
        if identity is None:
            raise CredentialRefusedError(_unknown(presented))
        if not identity.may_report(backend):
            raise CredentialRefusedError(f"{identity.name} may not report for {backend}")
        if identity.expires <= self._wall():
            raise _expired(identity)
        return identity

    async def _renew(self, guest: Guest, held: Pass) -> None:
        try:
            while (token := held.newest) is not None:
                held.newest = None
                await self._look(guest, held, guest.presented._replace(token=token))
        finally:
            held.renewing = False

    async def _look_again(self, due: list[tuple[Guest, Pass]]) -> None:
        turns = asyncio.Semaphore(MAX_CHECKS)

        async def one(guest: Guest, held: Pass) -> None:
            async with turns:
                await self._look(guest, held, guest.presented)

        async with asyncio.TaskGroup() as looking:
            for guest, held in due:
                looking.create_task(one(guest, held))

    async def _look(self, guest: Guest, held: Pass, presented: Presented) -> None:
        before = guest.presented
        try:
            found: Identity | TransportError = await self._identified(presented, held.backend)
        except TransportError as exc:
            found = exc
        except Exception:
            logger.exception("%s is not looked at again: a defect of this program", guest)
            held.due = self._now() + held.identity.recheck
            return
        if guest.presented is not before:
            return  # something newer was good meanwhile
        delay, delays, held.delays = inf, held.delays, None
        match found:
            case Identity():
                if found.name != held.identity.name:
                    logger.info("%s reports by %s from now on", guest, shown(found.name))
                held.identity, guest.presented = found, presented
            case CredentialExpiredError():
                # What it was let in with may hold still.
                logger.warning("%s: what it presents anew is of no use: %s", guest, found)
            case CredentialUncheckedError():
                logger.debug("%s: not looked at again: %s", guest, found)
                guest.presented, held.delays = presented, delays or Backoff(UNCHECKED)
                delay = held.delays.next_delay()
            case _:
                text, name = str(found), shown(held.identity.name)
                if name not in text:
                    text = f"{name} may report no more: {text}"
                logger.warning("%s: %s", guest, text)
                guest.told = True
                guest.fail(CredentialRefusedError(text))
        held.due = self._now() + min(held.identity.recheck, delay)


def _unknown(presented: Presented) -> str:
    """What to say of a credential that no kind takes for one of its own."""
    if presented.token:
        return (
            "the token that it presented is malformed, or of a kind that this server does not take"
            " (--auth): look at what is in the file, or what the command prints"
        )
    if presented.certificate:
        return f"this server lets nobody in by a certificate (--auth): {MEND}"
    return f"it presented no credential: {MEND}"


def _expired(identity: Identity) -> CredentialExpiredError:
    return CredentialExpiredError(f"{identity.name} has expired")
