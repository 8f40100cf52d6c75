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
        self._waiting: dict[asyncio.Future[None], Producer] = {}
        self._look = asyncio.Event()

    def end(self, producer: Producer, connection: str, rest: float) -> None:
        """A client has gone: its lease lasts `rest` seconds, at most."""
        self._ends[connection] = producer, self._now() + rest
        self._look.set()

    async def vacancy(self, producer: Producer) -> None:
        """Wait until nobody holds the place. Others that wait may be told as well, so ask then."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = producer
        try:
            await turn
        finally:
            del self._waiting[turn]

    async def flush(self) -> None:
        """Tell the store of those who have gone; within a second, or not."""
        if self._ends:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._ask()

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                async with asyncio.timeout(self._look_every):
                    await self._look.wait()
            except TimeoutError:
                pass
            self._look.clear()
            await self._ask()

    async def _ask(self) -> None:
        now = self._now()
        heard = {hold.connection: hold.heard for hold in self._holds()}
        self._told = {each: self._told.get(each, at) for each, at in heard.items()}
        renewals = [
            Renewal(hold.producer, hold.connection, hold.heard + self._lease - now)
            for hold in self._holds()
            if hold.heard - self._told[hold.connection] >= self._renew_after
        ]
        ends = dict(self._ends)
        renewals += [Renewal(who, each, max(0.0, at - now)) for each, (who, at) in ends.items()]
        wanted = set(self._waiting.values())
        if not (renewals or wanted):
            return
        try:
            async with asyncio.timeout(PATIENCE):
                free = await self._renew(renewals, wanted)
        except (TimeoutError, TransportError) as exc:
            logger.debug("cannot renew the leases of %d clients: %s", len(renewals), exc)
            self._ends = {k: end for k, end in self._ends.items() if end[1] + self._lease > now}
            return
        self._told |= {each: heard[each] for _, each, _ in renewals if each in heard}
        for connection in ends:
            del self._ends[connection]
        for turn, producer in self._waiting.items():
            if producer in free and not turn.done():
                turn.set_result(None)
