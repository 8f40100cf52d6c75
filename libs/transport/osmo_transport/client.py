"""The listener's end: give it messages, and it delivers them, whatever the connection does."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from osmo_transport._milestones import Milestones
from osmo_transport.backoff import Backoff, BackoffConfig
from osmo_transport.bodies import Registration
from osmo_transport.bounds import Seconds, SecondsOrZero
from osmo_transport.delivery import Producer
from osmo_transport.errors import (
    ClosedError,
    ConnectionLostError,
    TransportError,
    is_retryable,
)
from osmo_transport.factory import transport_for
from osmo_transport.frames import Frame, Goodbye, GoodbyeCode, Push
from osmo_transport.message import Message, new_id
from osmo_transport.session import ClientSession, PartedError, Rejected, SessionConfig
from osmo_transport.transports.abc import Connection, FrameSink, LinkConfig, TlsConfig, Transport

logger = logging.getLogger(__name__)

FLUSH_EVERY = 128
"""Messages after which `send` gives the event loop a turn: about a full batch, so that a producer
that never pauses overlaps with the operator and gets its acknowledgements."""


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


class ClientStats(NamedTuple):
    """A moment's figures; the last seven count since the start."""

    connected: bool
    epoch: int
    waiting: int
    """Messages in the outbox."""
    in_flight: int
    """Messages sent and not yet acknowledged."""
    acknowledged: int
    coalesced: int
    dropped: int
    """Messages of `every` kinds that the outbox's bounds pushed out."""
    rejected: int
    resent: int
    connects: int
    """Times that the operator welcomed this client."""


class _Link(FrameSink):
    """One connection of a client; what comes after its end is ignored."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self.connection: Connection | None = None
        self.ticker: asyncio.TimerHandle | None = None
        self.ended: asyncio.Future[TransportError] = asyncio.get_running_loop().create_future()

    def frame_received(self, frame: Frame) -> None:
        if not self.ended.done():
            self._client.frame_received(self, frame)

    def writing_resumed(self) -> None:
        self._client.flush_soon()

    def connection_lost(self, error: TransportError) -> None:
        self.end(error)

    def end(self, error: TransportError) -> None:
        """End the link with `error`; the first one counts."""
        if not self.ended.done():
            self.ended.set_result(error)


class Client:
    """What `connect` returns. Its methods belong to the event loop that it was made in."""

    def __init__(
        self, transport: Transport, url: str, session: ClientSession, config: ClientConfig
    ) -> None:
        self._transport = transport
        self._url = url
        self._session = session
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._backoff = Backoff(config.backoff)
        self._link: _Link | None = None
        self._flush_handle: asyncio.Handle | None = None
        self._unflushed = 0
        self._milestones = Milestones()
        self._room = asyncio.Event()
        self._changed = asyncio.Event()
        self._pushed = asyncio.Event()
        self._failure: TransportError | None = None
        self._connects = 0
        self._reported = 0

    @property
    def epoch(self) -> int:
        """The fencing number that versions carry; 0 until the operator welcomed this client."""
        return self._session.epoch

    @property
    def rejected(self) -> list[Rejected]:
        """The last messages that the operator refused, with its reasons."""
        return list(self._session.rejected)

    @property
    def stats(self) -> ClientStats:
        """The figures of this moment."""
        session = self._session
        return ClientStats(
            connected=session.welcomed,
            epoch=session.epoch,
            waiting=len(session.outbox),
            in_flight=session.in_flight,
            acknowledged=session.acknowledged,
            coalesced=session.outbox.coalesced,
            dropped=session.outbox.dropped,
            rejected=session.rejections,
            resent=session.resent,
            connects=self._connects,
        )

    async def send(self, message: Message, *, more: bool = False) -> None:
        """Take a message for delivery. It waits only while the outbox is at its bounds. `more`:
        others follow at once, and those of one turn of the event loop leave together.

        Raises:
            UnsendableError: the message cannot be sent; nothing else is affected.
            FencedError: a newer listener took over.
            ClosedError: the client was closed.
        """
        session = self._session
        while session.outbox.full and self._failure is None:
            self._room.clear()
            await self._room.wait()
        if self._failure is not None:
            raise self._failure
        session.put(message)
        if not (session.in_flight or more):
            # Nothing to wait behind: the message leaves at once, and what follows it collects.
            self._flush_batches()
            return
        self.flush_soon()
        self._unflushed += 1
        if self._unflushed >= FLUSH_EVERY:
            self._flush_batches()
            await asyncio.sleep(0)

    async def flush(self) -> None:
        """Wait until everything sent so far is acknowledged.

        Raises:
            FencedError, UsageError: it never will be.
            ClosedError: the client was closed.
        """
        # Counted in acknowledgements: a report that comes later and is coalesced settles one more,
        # but nothing of what was sent so far.
        session = self._session
        if self._failure is not None:
            raise self._failure
        if session.unsettled:
            await self._milestones.reached(session.acknowledged + session.unsettled)

    async def epoch_after(self, epoch: int) -> int:
        """Wait for an epoch other than `epoch`: the first (after 0), or the one that follows the
        loss of the queue's memory. Each new epoch asks for a full snapshot.

        Raises: as `flush`.
        """
        while self._session.epoch == epoch:
            if self._failure is not None:
                raise self._failure
            self._changed.clear()
            await self._changed.wait()
        return self._session.epoch

    async def push_after(self, kind: str, version: int) -> Push:
        """Wait until the operator has pushed something of `kind` with a higher version than
        `version`; the newest of it.

        Raises: as `flush`.
        """
        while True:
            push = self._session.pushes.get(kind)
            if push is not None and push.version > version:
                return push
            if self._failure is not None:
                raise self._failure
            self._pushed.clear()
            await self._pushed.wait()

    def renew_epoch(self) -> None:
        """Connect again for a new epoch: what is reported from then on outranks everything before,
        also where resource versions went back, as in a cluster restored from a backup."""
        self._session.renew_epoch()
        if self._link is not None:
            self._link.end(ConnectionLostError("a new epoch was asked for"))

    def flush_soon(self) -> None:
        """Send what waits in the next turn of the loop."""
        if self._flush_handle is None:
            self._flush_handle = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_handle = None
        self._flush_batches()

    def _flush_batches(self) -> None:
        self._unflushed = 0
        link = self._link
        if link is None or link.connection is None or link.ended.done():
            return
        connection = link.connection
        next_batch = self._session.next_batch
        while connection.writable and (batch := next_batch()) is not None:
            connection.send(batch)
        self._room.set()
        if self._session.rejections != self._reported:
            self._report_rejections()

    def frame_received(self, link: _Link, frame: Frame) -> None:
        """A frame arrived over the connection in use."""
        session = self._session
        epoch, welcomed = session.epoch, session.welcomed
        try:
            answer = session.receive(frame, self._loop.time())
        except TransportError as exc:
            link.end(exc)
            return
        if answer is not None and link.connection is not None:
            link.connection.send(answer)
        if session.rejections != self._reported:
            self._report_rejections()
        if session.welcomed and not welcomed:
            self._connects += 1
            logger.info("connected to %s, epoch %d", self._url, session.epoch)
        if session.epoch != epoch:
            self._changed.set()
        if type(frame) is Push:
            self._pushed.set()
        if session.unsettled:
            self._milestones.rise(session.acknowledged)
            self.flush_soon()
        else:
            self._milestones.rise(inf)

    def _report_rejections(self) -> None:
        self._reported = self._session.rejections
        last = self._session.rejected[-1]
        logger.error("refused %s: %s (%d in all)", last.message.key, last.reason, self._reported)

    def _fail(self, error: TransportError) -> None:
        self._failure = error
        self._changed.set()
        self._pushed.set()
        self._room.set()
        self._milestones.fail(error)

    async def run(self) -> None:
        """Keep connected until a fatal error, which every other method then raises."""
        try:
            await self._keep_connected()
        except Exception as exc:
            self._fail(ClosedError(f"the client cannot go on after {exc!r}"))
            raise

    async def _keep_connected(self) -> None:
        while True:
            started = self._loop.time()
            error = await self._one_connection()
            if not is_retryable(error):
                logger.error("cannot go on with %s: %s", self._url, error)
                self._fail(error)
                return
            self._backoff.healthy(self._loop.time() - started)
            delay = self._backoff.next_delay()
            if isinstance(error, PartedError):
                delay = max(delay, error.retry_after)
            logger.warning("%s: %s; connecting again in %.1f s", self._url, error, delay)
            await asyncio.sleep(delay)

    async def _one_connection(self) -> TransportError:
        config = self._config
        settings = LinkConfig(
            limits=config.session.limits,
            tls=config.tls,
            open_timeout=config.open_timeout,
            max_connections=1,
        )
        link = self._link = _Link(self)
        try:
            link.connection = await self._transport.dial(self._url, link, settings)
            link.connection.send(self._session.connect(self._loop.time()))
            self._tick(link)
            return await link.ended
        except TransportError as exc:
            return exc
        finally:
            link.end(ClosedError("closed by this side"))
            self._session.disconnect()
            self._link = None
            if link.ticker is not None:
                link.ticker.cancel()
            if link.connection is not None:
                link.connection.close()
                await link.connection.wait_closed()

    def _tick(self, link: _Link) -> None:
        try:
            ping = self._session.tick(self._loop.time())
        except TransportError as exc:
            link.end(exc)
            return
        if ping is not None and link.connection is not None:
            link.connection.send(ping)
        link.ticker = self._loop.call_later(self._config.session.tick, self._tick, link)

    def say_goodbye(self) -> None:
        """Tell the operator that this client leaves, and take no more messages."""
        link = self._link
        if link is not None and link.connection is not None:
            link.connection.send(Goodbye(GoodbyeCode.CLOSING, "the listener stops"))
        self._fail(self._failure or ClosedError("the client is closed"))
        if self._flush_handle is not None:
            self._flush_handle.cancel()

    async def drain(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for every acknowledgement."""
        try:
            async with asyncio.timeout(timeout):
                await self.flush()
        except TimeoutError:
            logger.warning(
                "%d messages were not acknowledged within %s s", self._session.unsettled, timeout
            )
        except TransportError as exc:
            logger.warning("%d messages were not delivered: %s", self._session.unsettled, exc)


@asynccontextmanager
async def connect(
    url: str,
    *,
    backend: str,
    source: str = "listener",
    registration: Registration | None = None,
    config: ClientConfig | None = None,
    transport: Transport | None = None,
) -> AsyncIterator[Client]:
    """Report to the operator at `url` until the context is left.

    The client is ready at once: messages wait in its outbox until the operator welcomes it, and it
    connects again by itself, for ever. `backend` is the cluster's name and `source` the listener's
    within it; a newer client of the same two takes the place of an older one. `registration` says
    which cluster it is, so that no second one reports under its name. Leaving the context
    waits up to `drain_timeout` for acknowledgements, unless an exception left it. `transport` takes
    the place of the one that serves the URL's scheme.

    Raises:
        UnknownSchemeError, MissingExtraError: as `transport_for`.
    """
    config = config or ClientConfig()
    session = ClientSession(Producer(backend, source), new_id(), config.session, registration)
    client = Client(transport or transport_for(url), url, session, config)
    task = asyncio.create_task(client.run())
    try:
        yield client
        await client.drain(config.drain_timeout)
    finally:
        client.say_goodbye()
        task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(outcome, Exception):
            raise outcome
