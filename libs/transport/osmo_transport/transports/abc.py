"""The contract of a transport: what every implementation promises, tested by `TransportContract`.

A transport moves frames; delivery is the session's. In the manner of asyncio's transports and
protocols the hot path is made of plain calls, so that a message costs no task switch.

- *Ordered, unaltered.* Frames arrive in the order of `send`, each whole and equal, or the
  connection ends.
- *Never blocking.* `send` buffers. What it may have to buffer is bounded by the session's window;
  while more than `WRITE_BUFFER` bytes wait, `writable` is False, and the sink is told when that
  is over.
- *Held back.* Of a connection that is paused no more arrives than this side had read already, less
  than `READ_AHEAD` and a frame. The rest waits in buffers of a bounded size, and when those are
  full the other side is not `writable`. What this side sends passes all the same. An end of the
  other side may be told when the pause is over.
- *One end.* `connection_lost` is called exactly once, after the last frame, whichever side ended
  it and however; nothing is called after it. `send` and `close` after the end do nothing.
- *Deliberate close.* Frames sent before `close` reach a peer that reads them.
- *Credentials.* What the client presents is known on the other side before its first frame: its
  `token`, and over TLS its certificate. Neither is in a log, an error or a URL.
- *Bounded input.* A frame over `limits.frame_bytes`, or bytes that are no frame, end that
  connection and no other, with a `PeerError`. The other side is told why: with a `Goodbye`, or by
  the transport's own means, as the close frame of a WebSocket. Of a frame over twice the limit a
  transport may cut the connection off without a word, and then it is a `ConnectionLostError`.
- *Few words before the first frame.* A client that sends more than `opening_bytes` until its first
  frame is there has broken the protocol as well. What a transport has of its own, as the pings of a
  WebSocket, is bounded by a rate.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import field
from pathlib import Path
from typing import Protocol

from osmo_transport.bounds import Count, Seconds
from osmo_transport.credentials import Presented
from osmo_transport.errors import HandshakeError, TransportError
from osmo_transport.frames import Frame, Limits
from osmo_transport.lean import dataclass

WRITE_BUFFER = 256 * 1024
"""Bytes in a connection's write buffer above which it is not writable: enough to keep a link busy
for a turn of the event loop, little enough that what comes meanwhile still coalesces."""


READ_AHEAD = 1024 * 1024
"""Bytes that may have been read of a connection before it was paused: several times what an event
loop reads at once."""

PLAIN = frozenset({"grpc", "memory", "ws"})
"""Schemes of ours that have no use for certificates."""


@dataclass(frozen=True, kw_only=True)
class TlsConfig:
    """Certificates of one side; the paths are PEM files, text is taken for a path. They are read
    again when they change, and nobody is disconnected; files that cannot be used leave the ones
    before in force."""

    ca_file: Path | None = None
    """Who may sign the other side's certificate; None: the system's authorities (client), nobody is
    asked for one (server)."""
    cert_file: Path | None = None
    """This side's certificate chain; a server needs one, a client sends it if asked. A client
    connects again to show a newer one."""
    key_file: Path | None = None
    """The private key of `cert_file`."""

    def __post_init__(self) -> None:
        for name in ("ca_file", "cert_file", "key_file"):
            path = getattr(self, name)
            object.__setattr__(self, name, None if path is None else Path(path))


@dataclass(frozen=True, kw_only=True)
class ConnectionConfig:
    """What a transport needs to know to open or accept a connection."""

    limits: Limits
    """Bounds of a frame."""
    tls: TlsConfig
    """Certificates of secure schemes; without use for the others."""
    open_timeout: Seconds
    """Seconds that name lookup, connecting and the handshakes may take together."""
    token: str = field(default="", repr=False)
    """What to present besides a certificate, as `Authorization: Bearer` (client only)."""
    max_connections: Count
    """Connections that an endpoint accepts at once; one more is refused (server only)."""
    ready: Callable[[], bool] = lambda: True
    """Whether what is received can be stored now, for those who ask about the server's health
    (server only)."""
    opening_bytes: Count | None = None
    """Bytes that a client may send until its first frame is there, that one included; None: as many
    as a frame may have (server only)."""
    companions: Sequence["Companion"] = ()
    """What endpoints serve beside our own protocol (server only)."""


class FrameSink(Protocol):
    """Who gets the frames of a connection. Calls must not raise: what one raises is a defect, which
    ends its connection with a `DefectError` and no other. They come from the event loop, or from
    within a `send` of the other side where that is in this process, but never from within a call
    of another sink of such a connection."""

    def frame_received(self, frame: Frame) -> None:
        """A frame arrived."""

    def writing_resumed(self) -> None:
        """`writable` is True again."""

    def connection_lost(self, error: TransportError) -> None:
        """The end: `ConnectionLostError` (a clean end of the other side included), `PeerError` when
        what came was no frame, `ClosedError` when we closed it, `DefectError` when this sink
        raised."""


class Connection(ABC):
    """One open connection, seen from one side. `connection.BaseConnection` keeps the promise of one
    end for those that move bytes."""

    vouched = False
    """Whether the other end is part of this process, and answers for the versions of its messages:
    an adapter for clients that speak no frames."""

    local = False
    """Whether the other end is in the same event loop, so that nobody has to be woken up."""

    since: float | None = None
    """When it was accepted, by the clock of the event loop; None: when `accept` is called."""

    presented = Presented()
    """What the other side presented when it connected; of an accepted connection, before `accept`
    is called."""

    @property
    @abstractmethod
    def peer(self) -> str:
        """The other side's address, for logs."""

    @property
    @abstractmethod
    def writable(self) -> bool:
        """Whether the write buffer is below `WRITE_BUFFER`."""

    @abstractmethod
    def send(self, frame: Frame) -> None:
        """Send a frame; see the promises above."""

    @abstractmethod
    def pause(self) -> None:
        """Take no more from the other side until `resume`. Idempotent; `close` ends it."""

    @abstractmethod
    def resume(self) -> None:
        """Take again what the other side sends. Idempotent."""

    @abstractmethod
    def close(self) -> None:
        """End the connection after what was sent; a peer that does not read is cut off after
        `CLOSE_TIMEOUT`."""

    @abstractmethod
    async def wait_closed(self) -> None:
        """Wait until `connection_lost` has been called. Safe to cancel."""


CLOSE_TIMEOUT = 2.0
"""Seconds that a closing connection may take to deliver what was sent."""


Accept = Callable[[Connection], FrameSink]
"""Called for each new connection of an endpoint, before its first frame is read."""


class Companion(Protocol):
    """Serves a foreign protocol on the port of an endpoint. Its clients become connections of our
    own, so that nothing behind the transport knows of them."""

    @property
    def transport(self) -> str:
        """The transport on whose endpoints it is served, for example `grpc`."""

    def open(self, accept: Accept, config: ConnectionConfig) -> object:
        """What an endpoint adds to its server, in a form that the transport names; `accept` takes
        the connections that it makes."""


class Endpoint(ABC):
    """An address that accepts connections."""

    @property
    @abstractmethod
    def url(self) -> str:
        """Where it listens, with the port that was chosen."""

    @abstractmethod
    async def aclose(self) -> None:
        """Accept no more, and end the connections that are left. Idempotent."""


class Transport(ABC):
    """One way to move frames, serving one or more URL schemes."""

    def check(self, url: str) -> None:  # noqa: B027 - a hook
        """Look at a URL before it is connected to; by default nothing is wrong with it.

        Raises:
            UsageError: no connection could ever be made with it.
        """

    @abstractmethod
    async def dial(self, url: str, sink: FrameSink, config: ConnectionConfig) -> Connection:
        """Open a connection.

        Raises:
            ConnectionLostError: refused, unreachable, or not within `open_timeout`; a
                `HandshakeError` where somebody may be there.
            UsageError: the URL or the certificates are wrong.
        """

    async def why(
        self, url: str, error: HandshakeError, config: ConnectionConfig
    ) -> TransportError:
        """Why `dial` failed with `error`, by who answers at the URL, if that can be found out; by
        default it is `error`. To ask takes connections of its own: whoever tries again and again
        should ask more and more rarely.

        Raises:
            TransportError: the certificates cannot be used now, so that nobody can be asked.
        """
        return error

    @abstractmethod
    async def listen(self, url: str, accept: Accept, config: ConnectionConfig) -> Endpoint:
        """Accept connections at `url`; port 0 picks a free one.

        Raises:
            AddressInUseError: another program listens there.
            UsageError: the URL or the certificates are wrong.
        """
