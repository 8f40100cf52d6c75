"""The client: give it messages, and it delivers them, whatever the connection does."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import field
from typing import NamedTuple

from osmo_transport import _tasks
from osmo_transport._token import TokenConfig, TokenSource, check_in_the_clear
from osmo_transport._uplink import RENEWED, Uplink
from osmo_transport.backoff import BackoffConfig
from osmo_transport.bounds import Seconds, SecondsOrZero
from osmo_transport.errors import TransportError, UsageError
from osmo_transport.frames import MAX_INTRODUCTION, Push
from osmo_transport.lean import dataclass
from osmo_transport.message import Message, check_name, new_id
from osmo_transport.queues.delivery import Producer
from osmo_transport.queues.leases import Holder
from osmo_transport.registry import transport_for
from osmo_transport.session import ClientSession, Refusal, SessionConfig
from osmo_transport.transports.abc import ConnectionConfig, TlsConfig, Transport

logger = logging.getLogger(__name__)

FLUSH_EVERY = 400
"""Messages after which `send` gives way to the event loop: about a full batch of usual reports, so
that a producer that never pauses overlaps with the server and gets its acknowledgements, and both
sides pay for few batches."""


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """Limits and times of a client."""

    session: SessionConfig = field(default_factory=SessionConfig)
    """The window, the outbox and the heartbeat."""
    backoff: BackoffConfig = field(default_factory=BackoffConfig)
    """Delays between tries to connect."""
    tls: TlsConfig = field(default_factory=TlsConfig)
    """Certificates for secure schemes."""
    open_timeout: Seconds = 10.0
    """Seconds that one try to connect may take."""
    drain_timeout: SecondsOrZero = 5.0
    """Seconds that leaving the context waits for acknowledgements of what was sent; what is left
    then is logged with its count."""
    token: TokenConfig = field(default_factory=TokenConfig)
    """What says who it is, where a certificate does not."""
    takes_over: bool = False
    """Whether it takes the place of another client of the same backend and source at once, and gets
    a `FencedError` when somebody takes its own; otherwise it stands by until the other one has
    gone."""


class ClientStats(NamedTuple):
    """A moment's figures; the last six count since the start."""

    connected: bool
    """Whether a server has welcomed this client over the present connection."""
    stands_by: bool
    """Whether it was told over the present connection to wait for its turn."""
    silence: float
    """Seconds since the server was last heard of over the present connection; 0 without one."""
    epoch: int
    """As `Client.epoch`."""
    waiting: int
    """Messages in the outbox."""
    full: bool
    """Whether `send` waits, because the outbox is at its bounds."""
    in_flight: int
    """Messages sent and not yet acknowledged."""
    acknowledged: int
    """Messages that the server is done with: stored, or `refused`."""
    coalesced: int
    """Messages that a newer one of their key made needless."""
    dropped: int
    """Messages of `every` kinds that the outbox's bounds pushed out."""
    refused: int
    """Messages that will never be stored; see `Client.refusals`."""
    resent: int
    """Messages that were sent once more, over another connection."""
    connects: int
    """Times that the server welcomed this client."""


class Client:
    """What `connect` returns. Its methods belong to the event loop that it was made in."""

    def __init__(self, uplink: Uplink) -> None:
        self._uplink = uplink
        self._session = uplink.session
        self._outbox = uplink.session.outbox
        self._put = uplink.session.put
        self._unflushed = 0

    @property
    def epoch(self) -> int:
        """The fencing number that versions carry; 0 until the server welcomed this client."""
        return self._session.epoch

    @property
    def holder(self) -> Holder | None:
        """The process that reports as this backend and source while this client stands by: nothing
        is delivered until the other one has gone, and then under a new epoch. None: it does not
        stand by."""
        return self._session.holder

    @property
    def on_round_trip(self) -> Callable[[float], None] | None:
        """Is told how long a batch took until it was acknowledged, in seconds; of those that are
        under way at a time, one. To be set by who wants to know; None: nobody."""
        return self._uplink.on_round_trip

    @on_round_trip.setter
    def on_round_trip(self, tell: Callable[[float], None] | None) -> None:
        self._uplink.on_round_trip = tell

    @property
    def refusals(self) -> list[Refusal]:
        """The last messages that were refused, with the reasons."""
        return list(self._session.refusals)

    @property
    def stats(self) -> ClientStats:
        """The figures of this moment."""
        session = self._session
        return ClientStats(
            connected=session.welcomed,
            stands_by=session.placed and not session.welcomed,
            silence=session.silence(asyncio.get_running_loop().time()),
            epoch=session.epoch,
            waiting=len(session.outbox),
            full=session.outbox.full,
            in_flight=session.in_flight,
            acknowledged=session.acknowledged,
            coalesced=session.outbox.coalesced,
            dropped=session.outbox.dropped,
            refused=session.refused,
            resent=session.resent,
            connects=self._uplink.connects,
        )

    async def send(self, message: Message, *, more: bool = False) -> None:
        """Take a message for delivery. It waits only while the outbox is at its bounds. `more`:
        others follow at once, and those of one turn of the event loop leave together.

        Raises:
            UnsendableError: the message cannot be sent; nothing else is affected.
            FencedError: a newer client took over, and this one does not stand by.
            ClosedError: the client was closed.
        """
        uplink, outbox = self._uplink, self._outbox
        while outbox.full and uplink.failure is None:
            uplink.room.clear()
            await uplink.room.wait()
        if uplink.failure is not None:
            raise uplink.failure
        batch = self._put(message, not more)
        if batch is not None:
            uplink.send(batch)  # and what follows it collects
            return
        if uplink.flush_handle is None:  # a call less for each message is 2 % more of them
            uplink.flush_soon()
        self._unflushed += 1
        if self._unflushed >= FLUSH_EVERY:
            self._unflushed = 0
            uplink.flush()
            await uplink.give_way()

    async def flush(self) -> None:
        """Wait until everything sent so far is acknowledged.

        Raises:
            FencedError, UsageError: it never will be.
            ClosedError: the client was closed.
        """
        # Counted in acknowledgements: a message that comes later and is coalesced settles one more,
        # but nothing of what was sent so far.
        session = self._session
        if self._uplink.failure is not None:
            raise self._uplink.failure
        if unsettled := session.unsettled:
            target = session.acknowledged + unsettled
            await _tasks.turn()  # within one process that may be all that it takes
            if session.acknowledged < target and session.unsettled:
                if self._uplink.failure is not None:
                    raise self._uplink.failure
                self._uplink.expect_answer()
                await self._uplink.milestones.reached(target)

    async def epoch_after(self, epoch: int) -> int:
        """Wait for an epoch other than `epoch`: the first (after 0), or the one that follows the
        loss of the queue's memory. Each new epoch asks for a full snapshot.

        Raises: as `flush`.
        """
        uplink = self._uplink
        while self._session.epoch == epoch:
            if uplink.failure is not None:
                raise uplink.failure
            uplink.changed.clear()
            await uplink.changed.wait()
        return self._session.epoch

    async def placed(self) -> None:
        """Wait until a server has said that this client reports, or that it stands by.

        Raises: as `flush`.
        """
        uplink = self._uplink
        while not self._session.epoch and self._session.holder is None:
            if uplink.failure is not None:
                raise uplink.failure
            uplink.changed.clear()
            await uplink.changed.wait()

    async def push_after(self, kind: str, version: int) -> Push:
        """Wait until the server has pushed something of `kind` with a higher version than
        `version`; the newest of it.

        Raises: as `flush`.
        """
        uplink = self._uplink
        while True:
            push = self._session.pushes.get(kind)
            if push is not None and push.version > version:
                return push
            if uplink.failure is not None:
                raise uplink.failure
            uplink.pushed.clear()
            await uplink.pushed.wait()

    def renew_epoch(self) -> None:
        """Connect again for a new epoch: what is reported from then on outranks everything before,
        also where revisions went back, as in what was restored from a backup."""
        self._session.renew_epoch()
        self._uplink.part(RENEWED)


@asynccontextmanager
async def connect(
    url: str,
    *,
    backend: str,
    source: str = "client",
    introduction: bytes = b"",
    config: ClientConfig | None = None,
    transport: Transport | None = None,
) -> AsyncIterator[Client]:
    """Report to the server at `url` until the context is left.

    The client is ready at once: messages wait in its outbox until the server welcomes it, and it
    connects again by itself, for ever. `backend` names what it reports about and `source` itself
    within it; of several clients of the same two one reports, and the others stand by until it has
    gone. `introduction` is what it says of itself to whoever lets it in. Leaving the context waits
    up to `drain_timeout` for acknowledgements, unless an exception left it. `transport` takes the
    place of the one that serves the URL's scheme.

    What cannot be delivered by then is logged, and nothing is raised for it: `flush` tells whoever
    has to know.

    Raises:
        UnknownSchemeError, MissingExtraError: as `transport_for`.
        UsageError: the URL, a name or the introduction is not what it may be.
    """
    config = config or ClientConfig()
    check_name("the backend", backend)
    check_name("the source", source)
    if not isinstance(introduction, bytes):
        kind = type(introduction).__name__
        raise UsageError(f"the introduction is of type {kind}: it must be bytes")
    if len(introduction) > MAX_INTRODUCTION:
        raise UsageError(
            f"the introduction has {len(introduction)} bytes, and {MAX_INTRODUCTION} may be used"
        )
    transport = transport or transport_for(url)
    transport.check(url)
    check_in_the_clear(url, config.token)
    session = ClientSession(
        Producer(backend, source),
        new_id(),
        config.session,
        introduction,
        takes_over=config.takes_over,
    )
    uplink = Uplink(
        transport,
        url,
        session,
        ConnectionConfig(
            limits=config.session.limits,
            tls=config.tls,
            open_timeout=config.open_timeout,
            max_connections=1,
        ),
        times=config.session,
        backoff=config.backoff,
        tokens=TokenSource(config.token),
    )
    client = Client(uplink)
    running = asyncio.create_task(uplink.run())
    try:
        yield client
        await _drain(client, config.drain_timeout)
    finally:
        uplink.say_goodbye()
        await _tasks.end(running)
    if not running.cancelled() and (error := running.exception()) is not None:
        raise error


async def _drain(client: Client, timeout: float) -> None:
    """Wait up to `timeout` seconds for every acknowledgement, unless this client stands by."""
    if client.holder is not None:
        timeout = 0.0
    try:
        async with asyncio.timeout(timeout):
            await client.flush()
    except TimeoutError:
        logger.warning("%s not acknowledged within %s s", _left(client), timeout)
    except TransportError as exc:
        if client.stats.waiting + client.stats.in_flight:
            logger.warning("%s not delivered: %s", _left(client), exc)


def _left(client: Client) -> str:
    left = client.stats.waiting + client.stats.in_flight
    return "1 message was" if left == 1 else f"{left} messages were"
