"""Who holds a producer's place, and for how long: pure rules, which every store of producers
follows.

One process at a time reports as a producer. It holds its place under a lease, which whoever let it
in renews with each sign of life. Another process that waits is let in when the lease has ended:
because its holder said goodbye, or was not heard of for so long. A lease only says who may come in.
That an older process can do no harm is up to the epochs: see `session.admission`.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from osmo_transport.errors import OccupiedError
from osmo_transport.queues.delivery import Producer

MAX_LEASE = 60.0
"""Seconds that a lease can last. One that seems to last longer has ended: the store's clock was set
back, and nobody should wait for as long."""


class Claim(NamedTuple):
    """How a process means to come to its place, and to hold it."""

    waits: bool = False
    """Whether it waits while another one's lease lasts, instead of taking the place from it."""
    lease: float = 0.0
    """Seconds for which it holds its place, until that is renewed; at most `MAX_LEASE`."""
    connection: str = ""
    """Names the connection that holds the place: of the connections of one process only the last
    one that was let in can renew or end the lease."""
    address: str = ""
    """Where the process is, for people."""
    credential: str = ""
    """The name of the credential by which it was let in, for people; empty: nobody asked for
    one."""


AT_ONCE = Claim()
"""Takes the place from whoever has it, and holds no lease."""


class Holder(NamedTuple):
    """Which process holds a place."""

    instance: str
    """As it calls itself."""
    address: str
    """Where it is, as the server saw it."""
    since: float
    """When it was let in first, in seconds since the Unix epoch."""
    credential: str = ""
    """By which it was let in last; see `Claim.credential`."""


class Standing(NamedTuple):
    """A producer that a store remembers, for people."""

    producer: Producer
    epoch: int
    sequence: int
    """As in `ProducerState`."""
    opened: float
    """When it connected last, in seconds since the Unix epoch."""
    instance: str
    """The process that has the epoch."""
    holder: Holder | None
    """Who holds its place, while a lease of it lasts."""


class Renewal(NamedTuple):
    """What becomes of a lease."""

    producer: Producer
    connection: str
    """See `Claim.connection`; a lease of another one stays as it is."""
    rest: float
    """Seconds that it lasts from now on; 0 ends it."""


class Lease(NamedTuple):
    """What a store remembers of one."""

    until: float
    holder: Holder
    connection: str

    def lasts(self, now: float) -> bool:
        """Whether it has not ended."""
        return 0 < self.until - now <= MAX_LEASE


class Leases:
    """The leases in a process's own memory; `now` is in seconds since the Unix epoch."""

    def __init__(self) -> None:
        self._leases: dict[Producer, Lease] = {}

    def check(self, producer: Producer, instance: str, claim: Claim, now: float) -> None:
        """Whether the process may have the place now.

        Raises:
            OccupiedError: it waits, and another one holds the place.
        """
        lease = self._leases.get(producer)
        if lease is None or not claim.waits or lease.holder.instance == instance:
            return
        if lease.lasts(now):
            holder = lease.holder
            raise OccupiedError(producer, holder.instance, holder.address, holder.since)

    def take(self, producer: Producer, instance: str, claim: Claim, now: float) -> None:
        """The process was let in."""
        before = self._leases.pop(producer, None)
        if claim.lease > 0:
            known = before is not None and before.holder.instance == instance
            since = before.holder.since if before is not None and known else now
            holder = Holder(instance, claim.address, since, claim.credential)
            self._leases[producer] = Lease(now + claim.lease, holder, claim.connection)

    def renew(
        self, renewals: Sequence[Renewal], wanted: Collection[Producer], now: float
    ) -> set[Producer]:
        """Carry out `renewals`, then say which of the `wanted` places nobody holds."""
        for producer, connection, rest in renewals:
            lease = self._leases.get(producer)
            if lease is not None and lease.connection == connection:
                self._leases[producer] = lease._replace(until=now + rest)
        return {each for each in wanted if not self._lasts(each, now)}

    def holder(self, producer: Producer, now: float) -> Holder | None:
        """Who holds the place now."""
        return self._leases[producer].holder if self._lasts(producer, now) else None

    def forget(self, producer: Producer) -> None:
        """Nothing is known of the producer any more."""
        self._leases.pop(producer, None)

    def _lasts(self, producer: Producer, now: float) -> bool:
        lease = self._leases.get(producer)
        return lease is not None and lease.lasts(now)
