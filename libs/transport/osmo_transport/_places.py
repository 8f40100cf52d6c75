"""Who holds its place at this server, and who waits for one."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from osmo_transport.errors import TransportError
from osmo_transport.queues.delivery import Producer
from osmo_transport.queues.leases import Renewal

logger = logging.getLogger("osmo_transport.server")

Renew = Callable[[Sequence[Renewal], Collection[Producer]], Awaitable[Collection[Producer]]]
"""Renews leases, and says which of the places that are waited for nobody holds, as
`Queue.renew`."""

LOOK = 1.0
"""Seconds between two looks at the leases, and less for short ones: a place that another server's
client gave up is taken so soon."""

RENEW_AFTER = 2.0
"""Seconds between two signs of life that are worth a renewal, and less for short leases: a busy
client costs the store no more."""

PATIENCE = 5.0
"""Seconds after which a store that was asked has not answered."""


class Hold(NamedTuple):
    """A client that was let in, and when it was last heard of, by the clock of this server."""

    producer: Producer
    connection: str
    heard: float


class Places:
    """Renews the leases of those who are let in, and tells those who wait when it is their turn.

    Args:
        renew: asks the store.
        lease: seconds that one lasts after its holder was last heard of.
        holds: who is let in now.
        now: the clock of this server.
    """

    def __init__(
        self,
        renew: Renew,
        lease: float,
        holds: Callable[[], Iterable[Hold]],
        now: Callable[[], float],
    ) -> None:
        self._renew = renew
        self._lease = lease
        self._look_every = min(LOOK, lease / 8)
        self._renew_after = min(RENEW_AFTER, lease / 6)
        self._holds = holds
        self._now = now
        self._told: dict[str, float] = {}
        """By connection: up to when the store knows it to have been heard of."""
        self._ends: dict[str, tuple[Producer, float]] = {}
        """By connection: whose lease ends, and when. One that has ended is not worth telling."""
        self._waiting: dict[Producer, set[asyncio.Future[None]]] = {}
        self._gone = asyncio.Event()
        """Set when somebody has gone."""

    def end(self, producer: Producer, connection: str, rest: float) -> None:
        """A client has gone: its lease lasts `rest` seconds, at most."""
        self._ends[connection] = producer, self._now() + rest
        self._gone.set()

    async def vacancy(self, producer: Producer) -> None:
        """Wait until nobody holds the place. Others that wait may be told as well, so ask then."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(producer, set())
        waiting.add(turn)
        try:
            await turn
        finally:
            waiting.remove(turn)
            if not waiting:
                del self._waiting[producer]

    async def flush(self) -> None:
        """Tell the store of those who have gone; within a second, or not."""
        if self._ends:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._tell_ends()

    async def run(self) -> None:
        """Work until cancelled."""
        due = self._now()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, due - self._now())):
                    await self._gone.wait()
            self._gone.clear()
            try:
                if self._now() >= due:
                    due = self._now() + self._look_every
                    await self._look()
                else:
                    await self._tell_ends()
            except Exception:
                # Whoever waits would wait for ever, and who reports would lose its place.
                logger.exception("cannot renew the leases: a defect of this program")

    async def _look(self) -> None:
        now = self._now()
        holds = list(self._holds())
        self._told = {name: self._told.get(name, heard) for _, name, heard in holds}
        due = [
            hold for hold in holds if hold.heard - self._told[hold.connection] >= self._renew_after
        ]
        renewals = [
            Renewal(hold.producer, hold.connection, hold.heard + self._lease - now) for hold in due
        ]
        if await self._ask(renewals, set(self._waiting)):
            self._told |= {hold.connection: hold.heard for hold in due}

    async def _tell_ends(self) -> None:
        """As often as somebody goes: costs what those are, and not what all the others are."""
        gone = {producer for producer, _ in self._ends.values()}
        await self._ask([], gone & self._waiting.keys())

    async def _ask(self, renewals: list[Renewal], wanted: Collection[Producer]) -> bool:
        """Tell the store of these and of all ends; whether it answered."""
        now = self._now()
        ends = dict(self._ends)
        renewals += [Renewal(who, each, max(0.0, at - now)) for each, (who, at) in ends.items()]
        if not (renewals or wanted):
            return True
        try:
            async with asyncio.timeout(PATIENCE):
                free = await self._renew(renewals, wanted)
        except (TimeoutError, TransportError) as exc:
            logger.debug("cannot renew the leases of %d clients: %s", len(renewals), exc)
            self._ends = {k: end for k, end in self._ends.items() if end[1] + self._lease > now}
            return False
        for connection in ends:
            del self._ends[connection]
        for producer in free:
            for turn in self._waiting.get(producer, ()):
                if not turn.done():
                    turn.set_result(None)
        return True
