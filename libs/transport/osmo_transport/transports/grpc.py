"""`grpc://` and `grpcs://`: a protobuf message per frame in a bidirectional stream, by grpc.aio."""

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

import grpc
from grpc import aio

from osmo_transport.errors import (
    AddressInUseError,
    ClosedError,
    ConnectionLostError,
    PeerError,
    TransportError,
    UsageError,
)
from osmo_transport.frames import Frame, Goodbye, GoodbyeCode
from osmo_transport.transports.abc import (
    CLOSE_TIMEOUT,
    WRITE_BUFFER,
    Accept,
    Connection,
    Endpoint,
    FrameSink,
    LinkConfig,
    TlsConfig,
    Transport,
)
from osmo_transport.transports.protobuf import decode, encode
from osmo_transport.transports.sockets import address, bind_error, connect_error
from osmo_transport.transports.tls import client_context, server_context

SERVICE = "osmo.transport.v1.Transport"
METHOD = "Connect"

END = b""
"""A message without a frame: its sender says nothing more."""

KEEPALIVE: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
"""HTTP/2 pings of both sides, at or below common idle timeouts of load balancers."""

CLIENT_OPTIONS: tuple[tuple[str, int], ...] = (
    *KEEPALIVE,
    ("grpc.keepalive_time_ms", 40_000),
    # The reconnecting client is the one who waits between tries.
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)

SERVER_OPTIONS: tuple[tuple[str, int], ...] = (
    *KEEPALIVE,
    ("grpc.keepalive_time_ms", 60_000),
    # Well-behaved clients ping each 20 s or slower; the default of 300 s answers them with
    # GOAWAY too_many_pings.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),
    # Otherwise a second server on the same port shares it silently.
    ("grpc.so_reuseport", 0),
    ("grpc.max_metadata_size", 16 * 1024),
    # Calls of one client; those beyond wait at the client.
    ("grpc.max_concurrent_streams", 1_000),
)

GRACE = 10.0
"""Seconds that a server which stops gives to the calls that are left."""


HalfClose = Callable[[], Awaitable[None]]
"""Says that a side of a stream has sent everything."""


class _Stream(Protocol):
    async def read(self) -> Any: ...
    async def write(self, message: bytes) -> None: ...


class GrpcConnection(Connection):
    """A stream, either side. `serve` moves the frames until the end.

    `half_close` tells the other side that nothing more is sent: a server's empty message, because a
    call that a server leaves while its client is writing loses what the client has not read, and a
    client's end of its half of the stream, which is the answer to it.
    """

    def __init__(self, peer: str, stream: _Stream, limit: int, half_close: HalfClose) -> None:
        self._peer = peer
        self._stream = stream
        self._limit = limit
        self._half_close = half_close
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._filled = asyncio.Event()
        self._error: TransportError | None = None
        self._ended = asyncio.Event()
        self._blocked = False
        self._closed = asyncio.Event()

    @property
    def peer(self) -> str:
        return self._peer

    @property
    def writable(self) -> bool:
        return self._queued < WRITE_BUFFER

    def send(self, frame: Frame) -> None:
        if self._error is None:
            data = encode(frame)
            self._queue.append(data)
            self._queued += len(data)
            self._blocked = not self.writable
            self._filled.set()

    def close(self) -> None:
        self._end(ClosedError("closed by this side"))

    async def wait_closed(self) -> None:
        await self._closed.wait()

    def _end(self, error: TransportError) -> None:
        """End the connection with `error`, after what was sent."""
        if self._error is None:
            self._error = error
            self._filled.set()
            self._ended.set()

    async def serve(self, sink: FrameSink) -> None:
        """Move frames until the connection ends, then tell the sink why."""
        reader = asyncio.create_task(self._read(sink))
        writer = asyncio.create_task(self._write(sink))
        for task in (reader, writer):
            task.add_done_callback(lambda _: self._end(ConnectionLostError("the connection broke")))
        try:
            await self._ended.wait()
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._finish(reader, writer)
        except TimeoutError:
            pass  # The other side does not read: it is cut off.
        finally:
            reader.cancel()
            writer.cancel()
            try:
                await asyncio.gather(reader, writer, return_exceptions=True)
            finally:
                # gRPC may cancel the call while it ends: the sink is told all the same.
                lost = self._error or ConnectionLostError("the connection was cancelled")
                sink.connection_lost(lost)
                self._end(ClosedError("closed by this side"))
                self._closed.set()

    async def _finish(self, reader: asyncio.Task[None], writer: asyncio.Task[None]) -> None:
        await writer
        if not reader.done():
            try:
                await self._half_close()
            except _BROKEN:
                return
            await reader

    async def _read(self, sink: FrameSink) -> None:
        # To the end of the stream, also when this side has ended it: the other side's end is the
        # sign that it has read everything.
        try:
            while (data := await self._stream.read()) is not aio.EOF:
                if self._error is None:
                    self._take(data, sink)
            self._end(ConnectionLostError("the other side closed the connection"))
        except _BROKEN as exc:
            self._end(_lost(exc))

    def _take(self, data: bytes, sink: FrameSink) -> None:
        if data == END:
            self._end(ConnectionLostError("the other side closed the connection"))
            return
        try:
            if len(data) > self._limit:
                raise PeerError(f"a frame of {len(data)} bytes, and the limit is {self._limit}")
            frame = decode(data)
        except PeerError as exc:
            self.send(Goodbye(GoodbyeCode.PROTOCOL, str(exc)))
            self._end(exc)
        else:
            sink.frame_received(frame)

    async def _write(self, sink: FrameSink) -> None:
        try:
            while self._queue or self._error is None:
                while self._queue:
                    data = self._queue.popleft()
                    await self._stream.write(data)
                    self._queued -= len(data)
                    if self._blocked and self.writable and self._error is None:
                        self._blocked = False
                        sink.writing_resumed()
                self._filled.clear()
                if self._error is None:
                    await self._filled.wait()
        except _BROKEN as exc:
            self._end(_lost(exc))


_BROKEN = (grpc.RpcError, asyncio.InvalidStateError, aio.UsageError)
"""What grpc.aio raises when a stream is used that has ended."""


def _lost(exc: Exception) -> ConnectionLostError:
    if isinstance(exc, aio.AioRpcError):
        return ConnectionLostError(f"{exc.code().name}: {exc.details()}")
    return ConnectionLostError(f"the connection broke: {exc}")


class GrpcEndpoint(Endpoint):
    """A gRPC server with our own service and its companions."""

    def __init__(self, scheme: str, host: str, accept: Accept, config: LinkConfig) -> None:
        self._scheme = scheme
        self._host = host
        self._accept = accept
        self._config = config
        self._port = 0
        self._connections: set[GrpcConnection] = set()
        self._server = aio.server(
            options=[
                *SERVER_OPTIONS,
                *_size_options(config),
                # A connection that does not come to a call holds nothing for long.
                ("grpc.server_handshake_timeout_ms", round(config.open_timeout * 1000)),
                ("grpc.max_connection_idle_ms", round(config.open_timeout * 1000)),
            ]
        )
        handler = grpc.stream_stream_rpc_method_handler(self._connect)
        own = grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler})
        self._server.add_generic_rpc_handlers((own,))
        # Here, because a listener, which only dials, need not wait for it at its start.
        from osmo_transport.transports.companions import Companions  # noqa: PLC0415

        self._companions = Companions(self._server, SERVICE, accept, config)

    async def start(self, port: int, credentials: grpc.ServerCredentials | None) -> None:
        """Bind and serve."""
        where = f"[{self._host}]:{port}" if ":" in self._host else f"{self._host}:{port}"
        if credentials is None:
            self._port = self._server.add_insecure_port(where)
        else:
            self._port = self._server.add_secure_port(where, credentials)
        await self._server.start()

    @property
    def url(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{self._scheme}://{host}:{self._port}"

    async def _connect(self, _: object, context: aio.ServicerContext[bytes, bytes]) -> None:
        if len(self._connections) >= self._config.max_connections:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"{self._config.max_connections} connections, the limit",
            )
        connection = GrpcConnection(
            context.peer(),
            context,
            self._config.limits.frame_bytes,
            half_close=lambda: context.write(END),
        )
        self._connections.add(connection)
        try:
            await connection.serve(self._accept(connection))
        finally:
            self._connections.discard(connection)

    async def aclose(self) -> None:
        for connection in self._connections:
            connection.close()
        self._companions.close()
        await self._server.stop(grace=GRACE)


class GrpcTransport(Transport):
    """The transport of `grpc://` and `grpcs://`."""

    async def dial(self, url: str, sink: FrameSink, config: LinkConfig) -> Connection:
        host, port = address(url)
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        options = [*CLIENT_OPTIONS, *_size_options(config)]
        if urlsplit(url).scheme == "grpcs":
            channel = aio.secure_channel(target, _client_credentials(config.tls), options)
        else:
            channel = aio.insecure_channel(target, options)
        try:
            async with asyncio.timeout(config.open_timeout):
                if not await _ready(channel):
                    raise await _why(url, host, port, config.tls)
        except TimeoutError as exc:
            await channel.close()
            raise ConnectionLostError(f"{url} did not answer in {config.open_timeout} s") from exc
        except BaseException:
            await channel.close()
            raise
        call = channel.stream_stream(f"/{SERVICE}/{METHOD}")()
        connection = GrpcConnection(
            target, call, config.limits.frame_bytes, half_close=call.done_writing
        )
        task = asyncio.create_task(_serve_client(channel, connection, sink))
        _clients.add(task)
        task.add_done_callback(_clients.discard)
        return connection

    async def listen(self, url: str, accept: Accept, config: LinkConfig) -> Endpoint:
        scheme = urlsplit(url).scheme
        host, port = address(url)
        credentials = _server_credentials(config.tls) if scheme == "grpcs" else None
        endpoint = GrpcEndpoint(scheme, host, accept, config)
        try:
            await endpoint.start(port, credentials)
        except RuntimeError as exc:
            raise _bind_error(url, host, port) from exc
        return endpoint


_clients: set[asyncio.Task[None]] = set()


async def _serve_client(channel: aio.Channel, connection: GrpcConnection, sink: FrameSink) -> None:
    try:
        await connection.serve(sink)
    finally:
        await channel.close()


def _size_options(config: LinkConfig) -> tuple[tuple[str, int], ...]:
    # A frame over the limit is refused with words; what is far over it, gRPC refuses by itself
    # before it is in memory.
    return (("grpc.max_receive_message_length", 2 * config.limits.frame_bytes),)


async def _ready(channel: aio.Channel) -> bool:
    state = channel.get_state(try_to_connect=True)
    while state is not grpc.ChannelConnectivity.READY:
        if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            return False
        await channel.wait_for_state_change(state)
        state = channel.get_state(try_to_connect=True)
    return True


async def _why(url: str, host: str, port: int, tls: TlsConfig) -> TransportError:
    """A channel does not say why it failed; a plain connection does."""
    context = client_context(tls) if urlsplit(url).scheme == "grpcs" else None
    try:
        _, writer = await asyncio.open_connection(host, port, ssl=context)
    except OSError as exc:
        return connect_error(url, exc)
    writer.close()
    return ConnectionLostError(f"cannot connect to {url}: what listens there does not speak gRPC")


def _bind_error(url: str, host: str, port: int) -> TransportError:
    """A server does not say why it could not bind; a plain socket does."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as exc:
        return bind_error(url, exc)
    return AddressInUseError(f"{url}: the port was in use a moment ago; try again")


def _read(config: TlsConfig) -> tuple[bytes | None, bytes | None, bytes | None]:
    files = (config.ca_file, config.key_file or config.cert_file, config.cert_file)
    ca, key, cert = (f.read_bytes() if f is not None else None for f in files)
    return ca, key, cert


def _client_credentials(config: TlsConfig) -> grpc.ChannelCredentials:
    client_context(config)
    ca, key, cert = _read(config)
    return grpc.ssl_channel_credentials(ca, key, cert)


def _server_credentials(config: TlsConfig) -> grpc.ServerCredentials:
    server_context(config)
    ca, key, cert = _read(config)
    if key is None or cert is None:
        raise UsageError("a secure endpoint needs tls.cert_file and tls.key_file")
    return grpc.ssl_server_credentials(((key, cert),), ca, require_client_auth=ca is not None)


def open_transport() -> Transport:
    """The transport of `grpc://` and `grpcs://`."""
    return GrpcTransport()
