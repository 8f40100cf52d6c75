"""A client's connection to its server, kept up for ever: the session with its I/O."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from math import inf
from typing import NoReturn
from urllib.parse import urlsplit

from osmo_transport import _tasks, files
from osmo_transport._milestones import Milestones
from osmo_transport._polling import BusyPoll, let_others_run
from osmo_transport._text import shown
from osmo_transport._token import TokenSource
from osmo_transport.backoff import Backoff, BackoffConfig
from osmo_transport.errors import (
    CertificateError,
    ClosedError,
    ConnectionLostError,
    HandshakeError,
    PeerError,
    TransportError,
    WrongServerError,
    is_retryable,
)
from osmo_transport.frames import (
    Batch,
    Credential,
    Frame,
    Goodbye,
    GoodbyeCode,
    Occupied,
    Push,
    Stored,
    Welcome,
)
from osmo_transport.session import ClientSession, PartedError, SessionConfig
from osmo_transport.transports.abc import (
    PLAIN,
    Connection,
    ConnectionConfig,
    FrameSink,
    Transport,
)
from osmo_transport.transports.tls import tls_files

logger = logging.getLogger("osmo_transport.client")

NEWER_CERTIFICATE = ConnectionLostError("there is a newer certificate to show")

MOST_TURNS = 3
"""Turns of the event loop that a producer gives to a connection which has enough to write: over
gRPC a write takes two, one to begin and one to hear of its end. More would hold a producer up that
its outbox has room for."""

MAX_REASONS = 16
"""Reasons of one outage that are known to have been logged: more than there are in practice."""


class _Link(FrameSink):
    """One connection; what comes after its end is ignored."""

    def __init__(self, uplink: "Uplink") -> None:
        self._uplink = uplink
        self.connection: Connection | None = None
        self.ticker: asyncio.TimerHandle | None = None
        self.ended: asyncio.Future[TransportError] = asyncio.get_running_loop().create_future()

    def frame_received(self, frame: Frame) -> None:
        if not self.ended.done():
            self._uplink.frame_received(self, frame)

    def writing_resumed(self) -> None:
        self._uplink.flush_soon()

    def connection_lost(self, error: TransportError) -> None:
        self.end(error)

    def end(self, error: TransportError) -> None:
        """End the link with `error`; the first one counts."""
        if not self.ended.done():
            self.ended.set_result(error)


class Uplink:
    """What a `Client` stands on."""

    def __init__(
        self,
        transport: Transport,
        url: str,
        session: ClientSession,
        connection: ConnectionConfig,
        *,
        times: SessionConfig,
        backoff: BackoffConfig,
        tokens: TokenSource,
    ) -> None:
        self.session = session
        self.room = asyncio.Event()
        """Set when the outbox may have room again, or the end has come."""
        self.changed = asyncio.Event()
        """Set when the epoch or the holder may have changed, or the end has come."""
        self.pushed = asyncio.Event()
        """Set when something was pushed, or the end has come."""
        self.milestones = Milestones()
        """Of the number of acknowledged messages."""
        self.failure: TransportError | None = None
        """Why nothing is delivered any more."""
        self.connects = 0
        """Times that the server welcomed this client."""
        self.on_round_trip: Callable[[float], None] | None = None
        """See `Client.on_round_trip`."""
        self._timed: tuple[int, float] | None = None
        """The first sequence number of the batch that is timed, and when it was sent."""
        self._transport = transport
        self._url = url
        self._config = connection
        self._period = times.tick
        self._loop = asyncio.get_running_loop()
        self._polling = BusyPoll(self._loop, times.busy_poll)
        self._backoff = Backoff(backoff)
        self._tokens = tokens
        self._certificates = tls_files(connection.tls)
        secure = urlsplit(url).scheme not in PLAIN
        self._shows_certificate = secure and connection.tls.cert_file is not None
        self._link: _Link | None = None
        self.flush_handle: asyncio.Handle | None = None
        """While what waits is to be sent in the next turn of the loop."""
        self._known = False
        """Whether a server was ever there that knew a place for this client."""
        self._placed_at: float | None = None
        """When the present connection got its place: with a welcome, or as a standby's."""
        self._reported = 0
        self._failed = 0
        """Handshakes that failed since the last connection that got a place."""
        self._reasons: set[str] = set()
        """Why connections were lost since the last one that got a place, as far as it was
        logged."""
        self._stood_by_for = ""
        """The process for which this one waits, as the log has it."""

    # Sending

    def flush_soon(self) -> None:
        """Send what waits in the next turn of the loop."""
        if self.flush_handle is None:
            self.flush_handle = self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self.flush_handle = None
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the window and the connection take it."""
        link = self._link
        if link is None or link.connection is None or link.ended.done():
            return
        connection = link.connection
        next_batch = self.session.next_batch
        sent = False
        while connection.writable and (batch := next_batch()) is not None:
            if self._timed is None and self.on_round_trip is not None:
                self._timed = batch.first, self._loop.time()
            connection.send(batch)
            sent = True
        if sent and not connection.local:
            # Who receives it may be on this machine, and else waits milliseconds for a core when
            # there is more to send.
            let_others_run()
        self.room.set()
        if self.session.refused != self._reported:
            self._report_refusals()

    def send(self, batch: Batch) -> None:
        """Send the batch that `session.put` returned, or let its message wait for a connection that
        takes it."""
        link = self._link
        connection = None if link is None or link.ended.done() else link.connection
        if connection is None or not connection.writable:
            self.session.take_back()
            return
        if self._timed is None and self.on_round_trip is not None:
            self._timed = batch.first, self._loop.time()
        connection.send(batch)

    def expect_answer(self) -> None:
        """Somebody waits until the server has answered."""
        link = self._link
        if link is not None and link.connection is not None and not link.connection.local:
            self._polling.expect()

    async def give_way(self) -> None:
        """Give the event loop a turn, and some more where the connection takes nothing yet: what
        waits then would leave in parts, which costs more than a turn."""
        for _ in range(MOST_TURNS):
            await _tasks.turn()
            link = self._link
            if link is None or link.connection is None or link.connection.writable:
                return

    def part(self, error: TransportError) -> None:
        """End the present connection; another one is made."""
        if self._link is not None:
            self._link.end(error)

    # Receiving

    def frame_received(self, link: _Link, frame: Frame) -> None:
        """A frame arrived over the connection in use."""
        session = self.session
        try:
            answer = session.receive(frame, self._loop.time())
        except TransportError as exc:
            if isinstance(exc, PeerError) and type(frame) is not Goodbye and link.connection:
                link.connection.send(Goodbye(GoodbyeCode.PROTOCOL, shown(str(exc))))
            link.end(exc)
            return
        # Whoever does not read what he gets could otherwise fill the memory with answers.
        if answer is not None and link.connection is not None and link.connection.writable:
            link.connection.send(answer)
        if type(frame) is Stored:
            self._polling.met()
            if self._timed is not None:
                self._tell_round_trip(*self._timed)
        elif type(frame) is Push:
            self.pushed.set()
        elif session.placed and type(frame) in (Welcome, Occupied):
            self._take_place()
        if session.refused != self._reported:
            self._report_refusals()
        if session.unsettled:
            self.milestones.rise(session.acknowledged)
            self.flush_soon()
        else:
            self.milestones.rise(inf)

    def _tell_round_trip(self, first: int, sent: float) -> None:
        if self.session.sequence >= first and self.on_round_trip is not None:
            self._timed = None
            self.on_round_trip(self._loop.time() - sent)

    def _take_place(self) -> None:
        """The server said that this client reports, or that it stands by."""
        session = self.session
        newly_placed = self._placed_at is None
        if newly_placed:
            self._known = True
            self._placed_at = self._loop.time()
            self._failed = 0
            self._reasons.clear()
        self.changed.set()
        if session.welcomed:
            self.connects += 1
            logger.info(
                "connected to %s as %s, epoch %d", self._url, session.instance, session.epoch
            )
            if self._stood_by_for:
                logger.info("takes over from %s", self._stood_by_for)
                self._stood_by_for = ""
        elif (holder := session.holder) is not None and (
            newly_placed or holder.instance != self._stood_by_for
        ):
            self._stood_by_for = holder.instance
            logger.info(
                "waits as a standby: %s is reported by %s at %s since %s",
                session.producer,
                holder.instance,
                holder.address,
                datetime.fromtimestamp(holder.since, UTC).isoformat(timespec="seconds"),
            )

    def _report_refusals(self) -> None:
        self._reported = self.session.refused
        last = self.session.refusals[-1]
        logger.error("refused %s: %s (%d in all)", shown(last.key), last.reason, self._reported)

    # Keeping the connection up

    def fail(self, error: TransportError) -> None:
        """Nothing is delivered from now on, and whoever waits is told why."""
        self.failure = error
        self.changed.set()
        self.pushed.set()
        self.room.set()
        self.milestones.fail(error)

    async def run(self) -> None:
        """Keep connected until a fatal error, which is then the `failure`."""
        try:
            await self._keep_connected()
        except Exception as exc:
            self.fail(ClosedError(f"the client cannot go on after {exc!r}"))
            raise

    async def _keep_connected(self) -> None:
        while True:
            self._placed_at = None
            error = await self._one_connection()
            # Where this client had its place before, another server is a passing thing, and so is
            # a certificate that was mistaken for the new one.
            passing = isinstance(error, WrongServerError | CertificateError) and self._known
            if not (is_retryable(error) or passing):
                error.args = (f"{self._about(str(error))}{error}",)  # told by whoever gets it
                self.fail(error)
                return
            if self._placed_at is not None:
                self._backoff.healthy(self._loop.time() - self._placed_at)
            delay = self._backoff.next_delay()
            if isinstance(error, PartedError):
                delay = max(delay, error.retry_after)
            self._log_loss(error)
            await asyncio.sleep(delay)

    def _log_loss(self, error: TransportError) -> None:
        """Each reason once in an outage, however long that is."""
        reason = str(error)
        level = logging.DEBUG if reason in self._reasons else logging.WARNING
        if error is NEWER_CERTIFICATE:
            level = logging.INFO
        if len(self._reasons) >= MAX_REASONS:
            self._reasons.clear()
        self._reasons.add(reason)
        logger.log(level, "%s%s; connecting again", self._about(reason), reason)

    def _about(self, reason: str) -> str:
        return "" if self._url in reason else f"{self._url}: "

    async def _one_connection(self) -> TransportError:
        link = self._link = _Link(self)
        renewing: list[asyncio.Task[None]] = []
        try:
            shown = self._shown()
            token = await self._tokens.token()
            config = replace(self._config, token=token)
            link.connection = await self._transport.dial(self._url, link, config)
            link.connection.send(self.session.connect(self._loop.time()))
            self._tick(link)
            if self._tokens.given:
                renewing.append(asyncio.create_task(self._renew(link.connection, token)))
            if shown is not None:
                renewing.append(asyncio.create_task(self._show_newer(link, shown)))
            return await link.ended
        except HandshakeError as exc:
            return await self._explained(exc)
        except TransportError as exc:
            return exc
        finally:
            link.end(ClosedError("closed by this side"))
            self.session.disconnect()
            self._link = self._timed = None
            await _tasks.end(*renewing)
            if link.ticker is not None:
                link.ticker.cancel()
            if link.connection is not None:
                link.connection.close()
                await link.connection.wait_closed()

    async def _renew(self, connection: Connection, token: str) -> NoReturn:
        """Present each newer token as it comes."""
        while True:
            await self._tokens.pause()
            try:
                newest = await self._tokens.token()
            except TransportError as exc:
                # The one of before may be good for long yet.
                logger.warning("there is no newer token: %s", exc)
                continue
            if newest != token:
                token = newest
                connection.send(Credential(token))
                logger.debug("presents a newer token to %s", self._url)

    def _shown(self) -> bytes | None:
        """The certificate of now, if one is shown. Raises as `TlsFiles.of_client`."""
        return self._certificates.of_client().chain if self._shows_certificate else None

    async def _show_newer(self, link: _Link, shown: bytes) -> None:
        """End the link when there is a newer certificate, which only a new connection can show:
        before the old one is over, and with it what the server allows."""
        while True:
            await asyncio.sleep(files.LOOK_INTERVAL)
            try:
                newest = self._shown()
            except TransportError:
                continue  # there is none, and that is told already
            if newest != shown:
                link.end(NEWER_CERTIFICATE)
                return

    async def _explained(self, error: HandshakeError) -> TransportError:
        """The error, by who answers. Asked at the first try, and then ever more rarely: behind a
        balancer that takes turns each question takes a turn, and what would be a server's could
        always be a question's. Where this client had its place before, the next turn comes
        first."""
        self._failed += 1
        rare = self._failed & (self._failed - 1) == 0
        if rare and not (self._known and self._failed == 1):
            try:
                return await self._transport.why(self._url, error, self._config)
            except TransportError:
                return error  # it cannot be asked with the files that are there now
        return error

    def _tick(self, link: _Link) -> None:
        try:
            ping = self.session.tick(self._loop.time())
        except TransportError as exc:
            link.end(exc)
            return
        if ping is not None and link.connection is not None:
            link.connection.send(ping)
        link.ticker = self._loop.call_later(self._period, self._tick, link)

    # Leaving

    def say_goodbye(self) -> None:
        """Tell the server that this client leaves, and take no more messages."""
        link = self._link
        if link is not None and link.connection is not None:
            link.connection.send(Goodbye(GoodbyeCode.CLOSING, "the client stops"))
        self.fail(self.failure or ClosedError("the client is closed"))
        if self.flush_handle is not None:
            self.flush_handle.cancel()


RENEWED = ConnectionLostError("a new epoch was asked for")
