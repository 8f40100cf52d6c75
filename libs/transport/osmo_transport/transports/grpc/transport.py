"""Dialling and listening at `grpc://` and `grpcs://`."""

import asyncio
import ssl
from contextlib import suppress
from urllib.parse import SplitResult

import grpc
from grpc import aio

from osmo_transport import _tasks
from osmo_transport.credentials import authorization
from osmo_transport.errors import (
    AddressInUseError,
    HandshakeError,
    TransportError,
    UsageError,
)
from osmo_transport.transports import refusals, sockets, strangers
from osmo_transport.transports.abc import (
    CLOSE_TIMEOUT,
    Accept,
    Connection,
    ConnectionConfig,
    Endpoint,
    FrameSink,
    TlsConfig,
    Transport,
)
from osmo_transport.transports.grpc.connection import (
    AUTHORIZATION,
    BROKEN,
    END,
    GrpcConnection,
    presented,
)
from osmo_transport.transports.tls import (
    Certificates,
    client_context,
    has_expired,
    system_authorities,
    tls_files,
)
from osmo_transport.transports.urls import address, host_port, parsed

SERVICE = "osmo.transport.v1.Transport"
METHOD = "Connect"

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
    # GOAWAY too_many_pings, as those who ping more often than that are answered.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),
    ("grpc.http2.max_ping_strikes", 2),
    # Otherwise a second server on the same port shares it silently.
    ("grpc.so_reuseport", 0),
    ("grpc.max_metadata_size", 16 * 1024),
    # Calls of one client; those beyond wait at the client.
    ("grpc.max_concurrent_streams", 1_000),
)

Options = list[tuple[str, int | str]]

SPARE = 1_000
"""Connections beyond `max_connections` that may be there without a call of ours: of health probes,
of who is told that there are too many, and of who says nothing."""

CALLS_TIMEOUT = 60.0
"""Seconds for which a connection takes new calls, about: those it has then go on, and further ones
come over another one. So whoever calls again and again and is never let in does not stay."""

GRACE = CLOSE_TIMEOUT + 1.0
"""Seconds that a server which stops gives to what is left: calls are cut off after `CLOSE_TIMEOUT`,
connections without one then."""


class GrpcEndpoint(Endpoint):
    """A gRPC server with our own service, its companions' and health."""

    def __init__(self, url: SplitResult, accept: Accept, config: ConnectionConfig) -> None:
        self._asked = url
        self._accept = accept
        self._config = config
        self._port = 0
        self._connections: set[GrpcConnection] = set()
        self._server = aio.server(
            options=[
                *SERVER_OPTIONS,
                *_size_options(config),
                # Who does not come to a call holds nothing for longer than both together.
                ("grpc.server_handshake_timeout_ms", round(config.open_timeout * 500)),
                ("grpc.max_connection_idle_ms", round(config.open_timeout * 500)),
                ("grpc.max_connection_age_ms", round(CALLS_TIMEOUT * 1000)),
                # Those without a call included, which are not told why.
                ("grpc.max_allowed_incoming_connections", config.max_connections + SPARE),
            ]
        )
        handler = grpc.stream_stream_rpc_method_handler(self._connect)
        own = grpc.method_handlers_generic_handler(SERVICE, {METHOD: handler})
        self._server.add_generic_rpc_handlers((own,))
        # Here, because a client, which only dials, need not wait for it at its start.
        from osmo_transport.transports.grpc.services import Services  # noqa: PLC0415

        self._services = Services(self._server, SERVICE, accept, config)

    async def start(self, credentials: grpc.ServerCredentials | None) -> None:
        """Bind and serve.

        Raises:
            RuntimeError: the port cannot be bound.
            OSError: the name is not known.
        """
        host, self._port = address(self._asked)
        for each in await sockets.addresses(host, self._port):
            where = host_port(each, self._port)
            if credentials is None:
                self._port = self._server.add_insecure_port(where)
            else:
                self._port = self._server.add_secure_port(where, credentials)
        await self._server.start()

    @property
    def url(self) -> str:
        host, _ = address(self._asked)
        return f"{self._asked.scheme}://{host_port(host, self._port)}"

    async def _connect(self, _: object, context: aio.ServicerContext[bytes, bytes]) -> None:
        most = self._config.max_connections
        if len(self._connections) >= most:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"{most} connections, the limit"
            )

        async def status() -> str:
            return ""  # a client that is gone says nothing

        async def half_close() -> None:
            await context.write(END)

        by = presented(context)
        connection = GrpcConnection(
            by.address, context, self._config.limits.frame_bytes, half_close, status
        )
        connection.presented = by
        self._connections.add(connection)
        try:
            # By itself: with a first frame that is not read gRPC would send it twice, and the call
            # could not be ended.
            with suppress(*BROKEN):
                await context.send_initial_metadata(())
            await connection.serve(self._accept, self._config.opening_bytes)
        finally:
            self._connections.discard(connection)

    async def abandon(self) -> None:
        """It was not started, or not wholly: stop listening."""
        await _tasks.ended([asyncio.create_task(self._stop())])

    async def _stop(self) -> None:
        # gRPC raises an InvalidStateError of a start that was cancelled, when it has stopped.
        with suppress(asyncio.InvalidStateError):
            await self._server.stop(None)

    async def aclose(self) -> None:
        for connection in list(self._connections):
            connection.close()
        self._services.close()
        await self._server.stop(grace=GRACE)


class _Dialled(GrpcConnection):
    """A call of this side, with the channel and the task that carry it."""

    def __init__(self, target: str, channel: aio.Channel, config: ConnectionConfig) -> None:
        carried = ((AUTHORIZATION, authorization(config.token)),) if config.token else None
        self._call = channel.stream_stream(f"/{SERVICE}/{METHOD}")(metadata=carried)
        super().__init__(
            target, self._call, config.limits.frame_bytes, self._call.done_writing, self._said
        )
        self._channel = channel
        self._task: asyncio.Task[None] | None = None

    def open(self, sink: FrameSink) -> None:
        """Move frames, in a task of its own, until the connection ends."""
        self._task = asyncio.create_task(self._run(sink))

    async def _run(self, sink: FrameSink) -> None:
        try:
            await self.serve(lambda _: sink)
        finally:
            await self._channel.close()

    async def _said(self) -> str:
        """The status that the other side, or a proxy between, ended the call with."""
        code, details = await self._call.code(), await self._call.details()
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return (
                f"a gRPC server without our service {SERVICE} answers there with {details!r}: look"
                " at the host and the port of the URL"
            )
        return f"{code.name}: {details}"

    async def wait_closed(self) -> None:
        await super().wait_closed()
        if self._task is not None:
            await asyncio.wait([self._task])


class GrpcTransport(Transport):
    """The transport of `grpc://` and `grpcs://`."""

    def check(self, url: str) -> None:
        address(parsed(url))

    async def dial(self, url: str, sink: FrameSink, config: ConnectionConfig) -> Connection:
        parts = parsed(url)
        host, port = address(parts)
        credentials = _client_credentials(config.tls) if parts.scheme == "grpcs" else None
        try:
            async with asyncio.timeout(config.open_timeout):
                where = host_port(await sockets.answering(host, port), port)
                named = _name_options(host, port)
                # gRPC goes on with a connection that was given up for as long as this.
                patience = ("grpc.min_reconnect_backoff_ms", round(config.open_timeout * 1000))
                options: Options = [*CLIENT_OPTIONS, patience, *named, *_size_options(config)]
                channel = await _opened(parts, where, credentials, options, config.tls)
        except TimeoutError as exc:
            raise sockets.late_error(url, config.open_timeout) from exc
        except OSError as exc:
            raise sockets.connect_error(url, exc) from exc
        connection = _Dialled(host_port(host, port), channel, config)
        connection.open(sink)
        return connection

    async def why(
        self, url: str, error: HandshakeError, config: ConnectionConfig
    ) -> TransportError:
        parts = parsed(url)
        place = (*address(parts), "/")
        context = _plain_context(parts, config.tls)
        return await strangers.why(url, place, context, strangers.Kind.HTTP2, error)

    async def listen(self, url: str, accept: Accept, config: ConnectionConfig) -> Endpoint:
        parts = parsed(url)
        address(parts)
        credentials = _server_credentials(config.tls) if parts.scheme == "grpcs" else None
        endpoint = GrpcEndpoint(parts, accept, config)
        try:
            await endpoint.start(credentials)
        except BaseException as exc:
            await endpoint.abandon()
            if isinstance(exc, OSError):
                raise sockets.bind_error(url, exc) from exc
            if isinstance(exc, RuntimeError):
                raise await _bind_error(parts) from exc
            raise
        return endpoint


def _size_options(config: ConnectionConfig) -> tuple[tuple[str, int], ...]:
    # A frame over the limit is refused with words; what is far over it, gRPC refuses by itself
    # before it is in memory.
    return (("grpc.max_receive_message_length", 2 * config.limits.frame_bytes),)


def _name_options(host: str, port: int) -> tuple[tuple[str, str], ...]:
    # gRPC is given an address, because it would leave the first one of a name all of the time.
    return (
        ("grpc.default_authority", host_port(host, port)),
        ("grpc.ssl_target_name_override", host),
    )


async def _opened(
    url: SplitResult,
    where: str,
    credentials: grpc.ChannelCredentials | None,
    options: Options,
    tls: TlsConfig,
) -> aio.Channel:
    """A channel that is connected to the address `where`."""
    if credentials is None:
        channel = aio.insecure_channel(where, options)
    else:
        channel = aio.secure_channel(where, credentials, options)
    try:
        if not await _ready(channel):
            raise await _failure(url, tls)
    except BaseException:
        await channel.close()
        raise
    return channel


async def _ready(channel: aio.Channel) -> bool:
    state = channel.get_state(try_to_connect=True)
    while state is not grpc.ChannelConnectivity.READY:
        if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            return False
        await channel.wait_for_state_change(state)
        state = channel.get_state(try_to_connect=True)
    return True


async def _failure(url: SplitResult, tls: TlsConfig) -> TransportError:
    """A channel does not say why it failed; a plain connection does."""
    host, port = address(url)
    name = url.geturl()
    failed = HandshakeError(f"cannot connect to {name}: the gRPC handshake failed")
    try:
        _, writer = await sockets.opened(host, port, _plain_context(url, tls))
        writer.transport.abort()
        refusal = await _refusal(url, tls) if url.scheme == "grpcs" else None
    except UsageError:
        return failed  # with files that were good before: those of now say nothing about it
    except OSError as exc:
        return sockets.connect_error(name, exc)
    return refusal or failed


_HALF_WAY = (ssl.SSLEOFError, ConnectionResetError, ConnectionAbortedError)
"""How a handshake ends that the other side ends without a word."""


async def _refusal(url: SplitResult, tls: TlsConfig) -> TransportError | None:
    """Why the server does not take this client's certificate; None: it is not known that it does
    not. gRPC's own says nothing when it refuses one, but with TLS 1.2 that comes within the
    handshake, which it ends half-way then, where one that is away behind a proxy completes it."""
    context = _speaking_http2(tls)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    name = url.geturl()
    try:
        _, writer = await sockets.opened(*address(url), context)
    except _HALF_WAY:
        if tls.cert_file is None:
            return refusals.no_certificate(name)
        return refusals.expired(name) if has_expired(tls) else refusals.unknown_authority(name)
    except OSError as exc:
        return sockets.connect_error(name, exc) if refusals.told(exc) else None
    writer.transport.abort()
    return None


def _plain_context(url: SplitResult, tls: TlsConfig) -> ssl.SSLContext | None:
    """TLS as gRPC speaks it, for a connection without gRPC."""
    return _speaking_http2(tls) if url.scheme == "grpcs" else None


def _speaking_http2(tls: TlsConfig) -> ssl.SSLContext:
    context = client_context(tls)
    context.set_alpn_protocols(["h2"])
    return context


async def _bind_error(url: SplitResult) -> TransportError:
    """A server does not say why it could not bind; a plain socket does."""
    name = url.geturl()
    try:
        for listening in await sockets.listen(*address(url)):
            listening.close()
    except OSError as exc:
        return sockets.bind_error(name, exc)
    return AddressInUseError(f"{name}: the port was in use a moment ago; try again")


def _client_credentials(config: TlsConfig) -> grpc.ChannelCredentials:
    found = tls_files(config).of_client()
    # gRPC would trust the authorities that it brings along.
    authorities = found.authorities or system_authorities() or None
    return grpc.ssl_channel_credentials(authorities, found.key, found.chain)


def _server_credentials(config: TlsConfig) -> grpc.ServerCredentials:
    files = tls_files(config)
    shown = files.of_server()

    def newest() -> grpc.ServerCertificateConfiguration | None:
        # Asked at each handshake, in a thread of gRPC's, and None is: as before.
        nonlocal shown
        before, shown = shown, files.of_server()
        return None if shown is before else _configuration(shown)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(shown), newest, require_client_authentication=config.ca_file is not None
    )


def _configuration(found: Certificates) -> grpc.ServerCertificateConfiguration:
    pairs = [(found.key, found.chain)] if found.key and found.chain else []
    return grpc.ssl_server_certificate_configuration(pairs, found.authorities)


def open_transport() -> Transport:
    """The transport of `grpc://` and `grpcs://`."""
    return GrpcTransport()
