"""The simulator over HTTP: connections, the bearer token, watches that last, and the faults."""

import asyncio
import contextlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import NoReturn, Self

from osmo_simulator import errors
from osmo_simulator.api import Answer, Api, Request, error_answer, json_answer
from osmo_simulator.cluster import Cluster, ClusterConfig
from osmo_simulator.errors import StatusError
from osmo_simulator.faults import (
    AnyFault,
    Cut,
    Drop,
    Fail,
    Faults,
    Gone,
    Hang,
    Restart,
    Slow,
    Throttle,
    decode_fault,
    decode_restart,
)
from osmo_simulator.kubeconfig import kubeconfig
from osmo_simulator.routing import Target, route
from osmo_simulator.watch import Watch, error_event
from osmo_transport.bounds import Bytes, Port, Seconds
from osmo_transport.errors import MissingExtraError

try:
    from aiohttp import web

    from osmo_transport.transports.sockets import bind_error
except ImportError as exc:
    raise MissingExtraError(
        "the simulator needs aiohttp: pip install 'osmo-pipeline[simulator]'"
    ) from exc

CONTROL = "/_simulator/"
_OBJECTS = "/api/v1/"
_REASONS = {401: "Unauthorized", 403: "Forbidden", 503: "ServiceUnavailable"}


@dataclass(frozen=True, kw_only=True)
class SimulatorConfig:
    """Where the simulator listens, whom it lets in, and how long its watches last."""

    host: str = "127.0.0.1"
    """The address to listen on: by default this machine alone."""
    port: Port = 0
    """The port to listen on; 0 takes a free one."""
    token: str | None = field(default=None, repr=False)
    """The bearer token that every request must carry; None lets everybody in. kubectl never sends a
    token over plain HTTP, so it can use only a simulator without one."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """The cluster behind the API."""
    bookmark_interval: Seconds = 60.0
    """Seconds between the bookmarks of an idle watch, as the real server has it."""
    watch_timeout: Seconds = 1800.0
    """Seconds that a watch lasts when its client does not say, the real server's least."""
    max_body_bytes: Bytes = 3 * 1024 * 1024
    """The largest request, as the real server has it."""


@dataclass(frozen=True, eq=False)
class _Exchange:
    http: web.Request
    target: Target


class Simulator:
    """A Kubernetes API server for pods, nodes, events and namespaces.

    Use it as an async context manager: inside, it listens on `url`.

    Over HTTP, `/_simulator/faults` takes a fault (POST), lists those that wait (GET) and clears
    them (DELETE); POST to `/_simulator/disconnect`, `/_simulator/compact` and
    `/_simulator/restart` do what the methods of that name do.

    Args:
        config: where it listens, and its limits.
        clock: the cluster's time, in UTC.
        sleep: how the delays of faults and restarts are waited for.
    """

    def __init__(
        self,
        config: SimulatorConfig | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.config = config or SimulatorConfig()
        self.cluster = Cluster(self.config.cluster, clock=clock)
        """The state, for changing it from Python."""
        self.faults = Faults()
        """What goes wrong on demand."""
        self._sleep = sleep
        self._api = Api(self.cluster)
        self._port = self.config.port
        self._open: set[_Exchange] = set()
        self._site: web.TCPSite | None = None
        self._restarting: asyncio.Task[None] | None = None
        app = web.Application(client_max_size=self.config.max_body_bytes)
        app.router.add_route("*", "/{path:.*}", self._serve)
        # The handler of a watch would not notice that its client is gone until the next bookmark.
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0
        )

    @property
    def url(self) -> str:
        """Where the server listens, without a path."""
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        return f"http://{host}:{self._port}"

    def kubeconfig(self, namespace: str = "osmo") -> str:
        """A kubeconfig (YAML) for this server, with `namespace` as the default one."""
        return kubeconfig(self.url, self.config.token, namespace)

    async def __aenter__(self) -> Self:
        """Start to listen.

        Raises:
            AddressInUseError: another program listens there.
            UsageError: it is no address of this machine.
        """
        await self._runner.setup()
        try:
            await self._listen()
        except BaseException:
            await self._runner.cleanup()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._restarting is not None:
            self._restarting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._restarting
        self.disconnect()
        await self._runner.cleanup()

    def disconnect(self, verb: str = "", resource: str = "") -> None:
        """Break the connections of the running requests that match; without arguments, all
        connections, the idle ones too."""
        if not verb and not resource and self._runner.server is not None:
            for connection in self._runner.server.connections:
                if connection.transport is not None:
                    connection.transport.abort()
        for exchange in self._open:
            target, transport = exchange.target, exchange.http.transport
            matches = verb in {"", target.verb} and resource in {"", target.resource.plural}
            if matches and transport is not None:
                transport.abort()

    async def restart(self, *, down: float = 0.0, compact: bool = True) -> None:
        """Break every connection, refuse new ones for `down` seconds, and listen again.

        With `compact`, the history before the restart is gone: a watch that resumes is too old.

        Raises:
            AddressInUseError: another program took the port meanwhile.
        """
        if self._site is not None:
            await self._site.stop()
            self._site = None
        self.disconnect()
        if compact:
            self.cluster.compact()
        await self._sleep(down)
        await self._listen()

    async def _listen(self) -> None:
        site = web.TCPSite(self._runner, self.config.host, self._port, backlog=1024)
        try:
            await site.start()
        except OSError as exc:
            await site.stop()
            raise bind_error(self.url, exc) from exc
        self._site = site
        self._port = self._runner.addresses[0][1]

    async def _serve(self, http: web.Request) -> web.StreamResponse:
        try:
            self._authenticate(http)
            if http.path.startswith(CONTROL):
                return await self._control(http, http.path.removeprefix(CONTROL))
            if not http.path.startswith(_OBJECTS):
                return _response(self._api.describe(http.path))
            target = route(http.method, http.path, http.query)
            exchange = _Exchange(http, target)
            self._open.add(exchange)
            try:
                return await self._serve_objects(http, target)
            finally:
                self._open.discard(exchange)
        except StatusError as exc:
            return _response(error_answer(exc))
        except ConnectionResetError:
            await _never()  # the client left, and this handler is about to be told so

    def _authenticate(self, http: web.Request) -> None:
        if self.config.token is None or http.path in {"/healthz", "/livez", "/readyz"}:
            return
        given = http.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {self.config.token}".encode()):
            raise errors.unauthorized()

    async def _serve_objects(self, http: web.Request, target: Target) -> web.StreamResponse:
        request = Request(
            query=http.query,
            accept=http.headers.get("Accept", ""),
            content_type=http.content_type if http.can_read_body else "",
            body=await self._read(http),
        )
        fault = self.faults.take(target.verb, target.resource.plural)
        if fault is not None:
            await self._strike(http, fault)
        body = _Body(http, fault)
        if isinstance(fault, Gone):
            gone = errors.expired("too old resource version")
            if target.verb == "watch" and fault.as_event:
                return await body.send(Answer(body=error_event(gone)))
            raise gone
        result = self._api.handle(target, request)
        if isinstance(result, Answer):
            return await body.send(result)
        return await self._stream(body, result)

    async def _read(self, http: web.Request) -> bytes:
        try:
            return await http.read()
        except web.HTTPRequestEntityTooLarge:
            raise errors.too_large(self.config.max_body_bytes) from None

    async def _strike(self, http: web.Request, fault: AnyFault) -> None:
        match fault:
            case Drop():
                await _break(http)
            case Hang(after_bytes=None):
                await _never()
            case Slow(delay=delay):
                await self._sleep(delay)
            case Throttle(retry_after=seconds):
                raise errors.throttled(seconds)
            case Fail(code=code):
                raise StatusError(code, _REASONS.get(code, "InternalError"), "a fault was injected")
            case _:
                pass

    async def _stream(self, body: "_Body", watch: Watch) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (watch.timeout or self.config.watch_timeout)
        next_bookmark = loop.time() + self.config.bookmark_interval
        woken = asyncio.Event()
        unsubscribe = watch.subscribe(woken.set)
        try:
            await body.start()
            now = loop.time()
            while not watch.ended and now < deadline:
                woken.clear()
                chunk = watch.read()
                if not chunk:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout_at(min(next_bookmark, deadline)):
                            await woken.wait()
                    if loop.time() >= min(next_bookmark, deadline):
                        next_bookmark = loop.time() + self.config.bookmark_interval
                        chunk = watch.read() or watch.bookmark()
                if chunk:
                    await body.write(chunk)
                    # A write that does not block does not yield: others want their turn.
                    await asyncio.sleep(0)
                now = loop.time()
        finally:
            unsubscribe()
        return await body.end()

    async def _control(self, http: web.Request, path: str) -> web.StreamResponse:
        match (http.method, path):
            case ("GET", "faults"):
                return _response(json_answer(self.faults.waiting()))
            case ("POST", "faults"):
                self.faults.inject(decode_fault(await self._read(http)))
                return _response(json_answer(self.faults.waiting(), status=201))
            case ("DELETE", "faults"):
                self.faults.clear()
            case ("POST", "compact"):
                self.cluster.compact()
            case ("POST", "disconnect"):
                verb, resource = http.query.get("verb", ""), http.query.get("resource", "")
                return await self._after_answer(http, lambda: self.disconnect(verb, resource))
            case ("POST", "restart"):
                restart = decode_restart(await self._read(http))
                return await self._after_answer(http, lambda: self._start_restart(restart))
            case _:
                raise errors.no_such_path()
        return _response(json_answer({}))

    async def _after_answer(self, http: web.Request, act: Callable[[], None]) -> web.StreamResponse:
        """Answer first, since the act breaks this connection too."""
        response = _response(json_answer({}, status=202))
        await response.prepare(http)
        await response.write_eof()
        act()
        return response

    def _start_restart(self, restart: Restart) -> None:
        if self._restarting is None or self._restarting.done():
            self._restarting = asyncio.create_task(
                self.restart(down=restart.down, compact=restart.compact)
            )


class _Body:
    """The body of one answer, which a fault may end too early."""

    def __init__(self, http: web.Request, fault: AnyFault | None) -> None:
        self._http = http
        self._fault = fault if isinstance(fault, Cut | Hang) else None
        self._left = self._fault.after_bytes or 0 if self._fault is not None else 0
        self._response = web.StreamResponse(headers={"Content-Type": "application/json"})

    async def start(self) -> None:
        """Send the headers."""
        await self._response.prepare(self._http)

    async def write(self, chunk: bytes) -> None:
        """Send a part, as far as the fault allows."""
        if self._fault is None:
            await self._response.write(chunk)
            return
        if len(chunk) <= self._left:
            self._left -= len(chunk)
            await self._response.write(chunk)
            return
        if self._left:
            await self._response.write(chunk[: self._left])
        if isinstance(self._fault, Cut):
            await _break(self._http, flush=True)
        await _never()

    async def end(self) -> web.StreamResponse:
        """Close a body that is complete."""
        await self._response.write_eof()
        return self._response

    async def send(self, answer: Answer) -> web.StreamResponse:
        """Send a complete answer."""
        if self._fault is None:
            return _response(answer)
        self._response.set_status(answer.status)
        self._response.content_length = len(answer.body)
        await self.start()
        await self.write(answer.body)
        return await self.end()


def _response(answer: Answer) -> web.Response:
    return web.Response(
        status=answer.status,
        body=answer.body,
        content_type=answer.content_type,
        headers=answer.headers,
    )


async def _break(http: web.Request, *, flush: bool = False) -> NoReturn:
    if http.transport is not None:
        if flush:
            http.transport.close()
        else:
            http.transport.abort()
    await _never()


async def _never() -> NoReturn:
    """Wait until the connection is gone, which cancels the handler."""
    await asyncio.Event().wait()
    raise AssertionError("nobody sets this event")
