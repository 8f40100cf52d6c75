"""What every connection that moves bytes does alike: one end, told once, whatever goes wrong."""

import asyncio
import logging
from abc import abstractmethod

from osmo_transport._bucket import IdleFrames
from osmo_transport._text import shown
from osmo_transport.credentials import Presented
from osmo_transport.errors import (
    ClosedError,
    DefectError,
    PeerError,
    TransportError,
)
from osmo_transport.frames import Bytes, Codec, Frame, Goodbye, GoodbyeCode
from osmo_transport.peers import written
from osmo_transport.transports.abc import (
    CLOSE_TIMEOUT,
    WRITE_BUFFER,
    Accept,
    Connection,
    FrameSink,
)

_log = logging.getLogger(__name__)

DEFECT = Goodbye(GoodbyeCode.UNAVAILABLE, "this side made a mistake of its own")
"""What the other side is told whose frame met a defect of ours."""


SHUT_OUT_TIMEOUT = 0.5
"""Seconds for which one who sent too much, and is read no more, may still read why."""


class BaseConnection(Connection):
    """Base of connections over a wire.

    A subclass says how bytes leave (`_write`), how no more come (`pause` and `resume`), how an end
    begins (`_finish`), and tells what happens: `_attach`, or `_accept` on the accepting side, when
    it is open, `_received` for each frame's bytes, `_resumed` when it is writable again, and
    `_lost` when the wire is gone. Everything else is here: after the first end no frame passes in
    either direction, and the sink hears of one end.

    What begins with an underscore here and in `WireConnection` is for subclasses, everybody's.
    """

    def __init__(self, codec: Codec, limit: int) -> None:
        """`limit`: the most bytes of a frame that is received."""
        self._codec = codec
        self._limit = limit
        self._sink: FrameSink | None = None
        self._opening: int | None = None
        """Bytes that may come until the first frame is there; None: it is, or that is no matter."""
        self._error: TransportError | None = None
        """Why it ends, from the moment that this is known."""
        self._closed = asyncio.Event()

    @abstractmethod
    def _write(self, data: bytes) -> None:
        """Send the bytes of one frame, or buffer them."""

    @abstractmethod
    def _finish(self, error: TransportError) -> None:
        """This side ends the connection for `error`: let the other side read what was written, cut
        it off after `CLOSE_TIMEOUT`, then call `_lost`."""

    def send(self, frame: Frame) -> None:
        if self._error is None:
            self._write(self._codec.encode(frame))

    def close(self) -> None:
        self._end(ClosedError("closed by this side"))

    async def wait_closed(self) -> None:
        await self._closed.wait()

    def _attach(self, sink: FrameSink) -> None:
        """It is open: what arrives is for `sink`."""
        self._sink = sink

    def _accept(self, accept: Accept, opening: int | None = None) -> None:
        """It is open: what arrives is for the sink that `accept` gives; `opening`: bytes that may
        come until the first frame is there."""
        self._opening = opening
        try:
            self._attach(accept(self))
        except Exception as exc:  # noqa: BLE001  (whatever it is, it is ours, and is logged)
            self._defect(exc)

    def _received(self, data: Bytes) -> None:
        """The bytes of a frame arrived."""
        if self._error is not None:
            return
        if self._opening is not None and not self._opens(len(data)):
            return
        if len(data) > self._limit:
            self._refuse(PeerError(f"a frame of {len(data)} bytes, and the limit is {self._limit}"))
            return
        try:
            frame = self._codec.decode(data)
        except PeerError as exc:
            self._refuse(exc)
            return
        self._hand_over(frame)

    def _opens(self, size: int) -> bool:
        """The first frame is there; whether it is short enough."""
        if self._opening is not None and size > self._opening:
            self._refuse(PeerError(f"a first frame of {size} bytes, and {self._opening} may be"))
            return False
        self._opening = None
        return True

    def _hand_over(self, frame: Frame) -> None:
        """A frame arrived."""
        if self._sink is not None and self._error is None:
            try:
                self._sink.frame_received(frame)
            except Exception as exc:  # noqa: BLE001  (as above)
                self._defect(exc)

    def _resumed(self) -> None:
        """`writable` is True again."""
        if self._sink is not None and self._error is None:
            try:
                self._sink.writing_resumed()
            except Exception as exc:  # noqa: BLE001  (as above)
                self._defect(exc)

    def _refuse(self, error: PeerError) -> None:
        """What came is not allowed: tell why, and end."""
        self.send(Goodbye(GoodbyeCode.PROTOCOL, shown(str(error))))
        self._end(error)

    def _end(self, error: TransportError) -> None:
        """This side ends the connection; the first reason counts."""
        if self._error is None:
            self._error = error
            # Or the other side's end, the answer to this one, would not be read.
            self.resume()
            self._finish(error)

    def _lost(self, error: TransportError) -> None:
        """The wire is gone: for `error`, unless this side had ended it before."""
        if self._closed.is_set():
            return
        if self._error is None:
            self._error = error
        self._closed.set()
        sink, self._sink = self._sink, None
        if sink is not None:
            try:
                sink.connection_lost(self._error)
            except Exception:  # noqa: BLE001  (as above)
                _log.exception("a sink raised at the end of its connection to %s", self.peer)

    def _defect(self, exc: Exception) -> None:
        _log.error("a sink raised, its connection to %s ends", self.peer, exc_info=exc)
        self.send(DEFECT)
        self._end(DefectError(f"a defect of this side: {exc!r}"))


class WireConnection(BaseConnection):
    """Base of connections over a transport of asyncio's kind: its buffer, its name, and its end.

    A subclass calls `_wired` when the transport is there, and `_throttle` after what it wrote. The
    event loop calls `pause_writing`, `resume_writing` and `eof_received`, as with every protocol.
    """

    writable = True

    def __init__(self, codec: Codec, limit: int) -> None:
        super().__init__(codec, limit)
        self._wire: asyncio.Transport | None = None
        self._paused = False
        self._most_written = WRITE_BUFFER + limit
        self._cut: asyncio.TimerHandle | None = None
        self._peer = "?"
        self._idle: IdleFrames | None = None
        self._opened_by = 0
        """Bytes that came, and no frame with them."""
        self._spare = WRITE_BUFFER
        """Bytes that may be read after the end."""

    @property
    def peer(self) -> str:
        return self._peer

    def pause(self) -> None:
        self._paused = True
        if self._wire is not None:
            self._wire.pause_reading()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._read_on()

    def _read_on(self) -> None:
        """Read again, unless there is still a reason not to."""
        wire = self._wire
        if self.writable and not self._paused and wire is not None and not wire.is_closing():
            wire.resume_reading()

    def _wired(self, wire: asyncio.Transport, peer: str = "") -> None:
        """This is the wire. `peer` names the other side, where an address does not."""
        self._wire = wire
        wire.set_write_buffer_limits(high=WRITE_BUFFER)
        name = wire.get_extra_info("peername")
        address = written(*name[:2]) if isinstance(name, tuple) else "?"
        self._peer = peer or address

    def _presents(self, token: str) -> None:
        """The other side presented this, besides the certificate that it has over TLS."""
        tls = None if self._wire is None else self._wire.get_extra_info("ssl_object")
        certificate = None if tls is None else tls.getpeercert(binary_form=True)
        self.presented = Presented(token, certificate or b"", self._peer)

    def _took(self, size: int) -> None:
        """So many bytes were read, and what was in them has been handed over."""
        if self._error is not None:
            # A little more, so that a client which goes on reads why: but nobody goes on for long.
            self._spare -= size
            if self._spare < 0:
                self.pause()
        elif self._opening is not None:
            self._opened_by += size
            if self._opened_by > self._opening:
                why = f"over {self._opening} bytes, and the first frame is not there"
                self._shut_out(PeerError(why))

    def _shut_out(self, error: PeerError) -> None:
        """Too much came: tell why, and read no more of it."""
        self._refuse(error)
        self.pause()
        self._cut_not()
        self._cut_later(SHUT_OUT_TIMEOUT)

    @property
    def _shut(self) -> bool:
        """Whether it was shut out: nothing that still comes is of use."""
        return self._paused and self._error is not None

    def _idled(self) -> None:
        """What came belongs to the transport, and brings no frame: there may be few of that."""
        if self._idle is None:
            self._idle = IdleFrames()
        try:
            self._idle.count(asyncio.get_running_loop().time())
        except PeerError as exc:
            self._shut_out(exc)

    def _finish(self, error: TransportError) -> None:
        # What was written arrives; then the other side ends too, or is cut off.
        wire = self._wire
        if wire is not None and not wire.is_closing():
            wire.write_eof() if wire.can_write_eof() else wire.close()
            self._cut_later()

    def _throttle(self) -> None:
        """Who sends without reading what he is answered with is read no more."""
        wire = self._wire
        if (
            not self.writable
            and wire is not None
            and wire.get_write_buffer_size() > self._most_written
        ):
            wire.pause_reading()

    def pause_writing(self) -> None:
        """The write buffer is over its bound."""
        self.writable = False

    def resume_writing(self) -> None:
        """It is within it again."""
        self.writable = True
        self._read_on()
        self._resumed()

    def eof_received(self) -> None:
        """The other side has ended; what is written still may arrive."""
        self._cut_later()

    def _cut_later(self, seconds: float = CLOSE_TIMEOUT) -> None:
        """Cut the wire in a while, unless it ends before, or `_cut_not` is called."""
        if self._cut is None:
            self._cut = asyncio.get_running_loop().call_later(seconds, self._abort)

    def _cut_not(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None

    def _abort(self) -> None:
        """Cut the wire now."""
        if self._wire is not None:
            self._wire.abort()

    def _lost(self, error: TransportError) -> None:
        self._cut_not()
        super()._lost(error)
