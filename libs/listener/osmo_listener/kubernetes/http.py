"""A small HTTP/1.1 client for one API server: requests with short bodies, long streams in answer.

It stands on `httptools`; the only module that imports it. It is here because start-up is promised
in milliseconds: importing aiohttp takes 180 ms and following a watch with it 25 % more CPU, while
all that a list and a watch need of HTTP are the lines below.

Promises:
- A body that ends early is a `TruncatedError`, never a short body.
- No wait is endless: connecting, the response's head and each pause in a body have their limit.
- What the caller has not taken yet is bounded: beyond `HttpConfig.buffer_bytes` the socket is not
  read, so that a slow consumer slows the server down.
- A connection is reused only after an answer that was read to its end. Cancelling is safe anywhere.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence

from osmo_listener.errors import KubernetesError, MalformedError, SilentError, TruncatedError
from osmo_listener.kubernetes.config import HttpConfig
from osmo_listener.kubernetes.connecting import Connecting, Endpoint, connect, refusal
from osmo_listener.kubernetes.proxies import Proxy
from osmo_transport.errors import MissingExtraError
from osmo_transport.transports.urls import host_port

try:
    from httptools import HttpParserError, HttpResponseParser
except ImportError as exc:
    raise MissingExtraError(
        "talking to Kubernetes needs httptools: pip install 'osmo-pipeline[kubernetes]'"
    ) from exc


_PIECE_BYTES = 256 * 1024
"""Of a body that is read whole: a tenth of a page of usual pods, which are read meanwhile."""

_COMES_AND_GOES = 4 * _PIECE_BYTES
"""More than the memory of any piece."""

Headers = Mapping[str, str | tuple[str, ...]]
"""By name; of several values each gets its line."""

Tls = Callable[[], Awaitable[ssl.SSLContext | None]]
"""Makes the TLS context of one new connection; None: plain HTTP."""

Completes = Callable[[Sequence[bytes]], bool]
"""Tells of pieces, in their order, whether together they are worth looking at."""


class Response:
    """One answer, as it arrives."""

    def __init__(self, connection: "_Connection", config: HttpConfig) -> None:
        self._connection = connection
        self._config = config
        self._closed = False

    async def head(self) -> int:
        """Wait for the head and return the status code.

        Raises:
            SilentError: it did not come within `head_timeout`.
            TruncatedError, MalformedError: the connection ended or is not HTTP.
            KubeconfigError: the proxy asks for credentials.
        """
        connection = self._connection
        while not connection.has_head:
            await connection.wait(self._config.head_timeout, "the response's head")
        if connection.status == 407 and connection.forwarder:
            raise refusal(connection.forwarder, 407)
        return connection.status

    @property
    def headers(self) -> Mapping[str, str]:
        """The response's headers by lower-case name."""
        return self._connection.headers

    async def read(self) -> bytes:
        """The whole body.

        Raises:
            MalformedError: it is over `max_body_bytes`, or not HTTP.
            SilentError: a pause over `body_timeout`.
            TruncatedError: the connection ended before the body did.
        """
        return b"".join([piece async for piece in self.pieces()])

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The same in pieces of no meaning: the first one as soon as it is there, then larger ones.
        Up to `HttpConfig.ahead_bytes` are read ahead; what is there already comes without a turn of
        the event loop in between.

        Raises:
            as `read`.
        """
        connection, config = self._connection, self._config
        connection.read_ahead(config.ahead_bytes)
        size, wanted = 0, 1
        while True:
            while not connection.complete and connection.size < wanted:
                await connection.wait(config.body_timeout, "more of the answer", wanted)
            piece = connection.take(_PIECE_BYTES)
            size += len(piece)
            if size > config.max_body_bytes:
                raise MalformedError(
                    f"an answer is over {config.max_body_bytes} bytes: ask for smaller pages, or"
                    " raise max_body_bytes"
                )
            if piece:
                yield piece
            if connection.complete and not connection.size:
                return
            wanted = min(_PIECE_BYTES, config.ahead_bytes)

    async def more(self, silence: float, completes: Completes = bool) -> bytes:
        """What has come of the body since the last call, as soon as `completes` says so of its
        pieces, or more of them would be more than `HttpConfig.buffer_bytes`; empty at the end.
        `silence` is the longest pause, which may be twice as long behind what is not enough.

        Raises:
            SilentError: a pause over `silence`.
            TruncatedError, MalformedError: as for `read`.
        """
        connection = self._connection
        while not (connection.complete or connection.holds(completes)):
            await connection.wait(silence, "more of the answer", completes=completes)
        return connection.take(connection.size)

    def close(self) -> None:
        """Give the connection back, or drop it when the answer has not been read to its end.
        Idempotent."""
        if not self._closed:
            self._closed = True
            self._connection.release()


class HttpClient:
    """Requests to one API server over as many connections as there are unfinished answers."""

    def __init__(self, endpoint: Endpoint, tls: Tls, config: HttpConfig | None = None) -> None:
        self._endpoint = endpoint
        self._tls = tls
        self._config = config or HttpConfig()
        self._idle: list[_Connection] = []
        # glibc gives a freed block of a piece's size back to the system, which takes longer to make
        # it anew for each piece than to fill it; but of sizes up to the largest such block that it
        # has seen freed it keeps some. This one costs nothing, as nobody writes into it.
        bytes(_COMES_AND_GOES)

    async def get(self, target: str, headers: Headers) -> Response:
        """Send a GET request. See `request`."""
        return await self.request("GET", target, headers)

    async def request(
        self, method: str, target: str, headers: Headers, body: bytes = b""
    ) -> Response:
        """Send a request; the caller closes the response. `headers` tell what the body is, but not
        how long.

        Raises:
            UnreachableError: no connection within `connect_timeout`.
            UntrustedError: the server's certificate was refused.
            KubeconfigError: the proxy does not let us through.
        """
        connection = self._reuse() or await self._connect()
        end = self._endpoint
        host = end.authority or host_port(end.host, end.port)
        lines = [
            f"{method} {f'http://{host}' if connection.forwarder else ''}{end.base_path}{target}"
            " HTTP/1.1",
            f"Host: {host}",
        ]
        if connection.forwarder and connection.forwarder.authorization:
            lines.append(f"Proxy-Authorization: {connection.forwarder.authorization}")
        for name, values in headers.items():
            several = (values,) if isinstance(values, str) else values
            lines += [f"{name}: {value}" for value in several]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        connection.send("\r\n".join([*lines, "", ""]).encode() + body)
        return Response(connection, self._config)

    def close(self, keep: int = 0) -> None:
        """Drop idle connections but for `keep`; those in use belong to their responses."""
        while len(self._idle) > keep:
            self._idle.pop().abort()

    def _reuse(self) -> "_Connection | None":
        while self._idle:
            if not (connection := self._idle.pop()).closed:
                return connection
        return None

    async def _connect(self) -> "_Connection":
        tls = await self._tls()
        connection = _Connection(self._config, self._idle)
        proxy = self._endpoint.proxy
        connection.forwarder = proxy if proxy and proxy.forwards and not tls else None
        return await connect(self._endpoint, tls, connection, self._config)


class _Connection(Connecting):
    """One connection, one request at a time."""

    forwarder: Proxy | None = None
    """The proxy that each request asks to forward it."""

    def __init__(self, config: HttpConfig, idle: "list[_Connection]") -> None:
        self._config = config
        self._idle = idle
        self._waiter: asyncio.Future[bool] | None = None
        self._watchdog: asyncio.TimerHandle | None = None
        self._deadline = self._patience = 0.0
        self._seen = 0
        self._failure: KubernetesError | None = None
        self._paused = False
        self._busy = False
        self.closed = False
        self._start()

    def _start(self) -> None:
        self._parser = HttpResponseParser(self)
        self._received: deque[bytes] = deque()
        self.size = 0
        self._wanted = 1
        self._completes: Completes | None = None
        self._limit = self._config.buffer_bytes
        self._head_size = 0
        self.status = 0
        self.headers: dict[str, str] = {}
        self.has_head = False
        self.complete = False

    def send(self, request: bytes) -> None:
        self._start()
        self._busy = True
        self.transport.write(request)

    def read_ahead(self, limit: int) -> None:
        """Read up to `limit` bytes that nobody has taken yet."""
        self._limit = limit
        if self._paused and self.size <= limit:
            self._resume()

    def take(self, most: int) -> bytes:
        """What has arrived since the last call: `most` bytes, and what came together with the last
        of them. What is left is for the next call."""
        taken = []
        size = 0
        while self._received and size < most:
            chunk = self._received.popleft()
            size += len(chunk)
            taken.append(chunk)
        self.size -= size
        if self._paused and self.size <= self._limit:
            self._resume()
        return b"".join(taken)

    def _resume(self) -> None:
        self._paused = False
        self.transport.resume_reading()

    def holds(self, completes: Completes) -> bool:
        """Whether `completes` says so of what is there, or there is no room for more."""
        return completes(self._received) or self.size > self._limit

    async def wait(
        self, seconds: float, awaited: str, wanted: int = 1, completes: Completes | None = None
    ) -> None:
        """Until something new is there; of a body, `wanted` bytes, or what `completes`. A pause is
        noticed after `seconds`, or twice as much if something came that is not enough."""
        if self._failure:
            raise self._failure
        loop = asyncio.get_running_loop()
        self._wanted, self._completes = wanted, completes
        self._patience, self._seen = seconds, self.size
        self._deadline = loop.time() + seconds
        if self._watchdog is None or self._watchdog.when() > self._deadline:
            self._watch()
        # Awaited itself: `asyncio.wait` takes one more turn of the loop, and `asyncio.timeout` sets
        # a timer for each wait; both are part of the time from a change to its report.
        self._waiter = loop.create_future()
        try:
            if not await self._waiter:
                raise SilentError(f"the API server is silent: no {awaited} for {seconds} s")
        finally:
            self._waiter = None

    def _watch(self) -> None:
        """Look again at the deadline."""
        self._unwatch()
        loop = asyncio.get_running_loop()
        self._watchdog = loop.call_at(self._deadline, self._look, loop)

    def _unwatch(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self._watchdog = None
        if self._waiter is None or self._waiter.done():
            return
        now = loop.time()
        if self.size != self._seen:
            self._seen, self._deadline = self.size, now + self._patience
        if now < self._deadline:
            self._watch()
        else:
            self._waiter.set_result(False)

    def _has_enough(self) -> bool:
        if self._completes is not None:
            return self.complete or self.holds(self._completes)
        # Without a body yet, it is the head that is waited for.
        return self.complete or not 0 < self.size < self._wanted

    def release(self) -> None:
        self._busy = False
        self._unwatch()
        if self.complete and not self._received and not self.closed:
            self._idle.append(self)
        else:
            self.abort()

    def abort(self) -> None:
        self.closed = True
        self._unwatch()
        self.transport.abort()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(True)

    def _fail(self, failure: KubernetesError) -> None:
        self._failure = self._failure or failure
        self.abort()
        self._wake()

    # What asyncio calls.

    def data_received(self, data: bytes) -> None:
        if not self._busy or self.complete:
            self._fail(MalformedError("the server sent data that nobody asked for"))
            return
        if not self.has_head:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserError as exc:
            self._fail(MalformedError(f"the server does not speak HTTP: {exc}"))
            return
        if not self.has_head and self._head_size > self._config.max_head_bytes:
            limit = self._config.max_head_bytes
            self._fail(MalformedError(f"the response's head is over {limit} bytes"))
        elif self.size > self._limit and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        if self._has_enough():
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if not self.complete:
            cause = f": {exc}" if exc else ""
            where = "in the middle of an answer" if self.has_head else "before an answer"
            self._failure = self._failure or TruncatedError(f"the connection ended {where}{cause}")
        self._wake()

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self.complete:
            raise MalformedError("the server sent two answers to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.status = self._parser.get_status_code()
        self.has_head = True

    def on_body(self, body: bytes) -> None:
        self._received.append(body)
        self.size += len(body)

    def on_message_complete(self) -> None:
        self.complete = True
        if not self._parser.should_keep_alive():
            self.closed = True
