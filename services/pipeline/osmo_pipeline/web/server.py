"""The page over HTTP: three files, a stream of documents for each that watches, and two requests
that change something, if they are allowed."""

import asyncio
import hmac
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from importlib import resources

import msgspec
from aiohttp import web

from osmo_pipeline.web.feed import Feed, Topic
from osmo_pipeline.web.views import View, view_of
from osmo_transport import Queue, TransportError, UsageError
from osmo_transport.errors import AddressInUseError
from osmo_transport.transports import sockets
from osmo_transport.transports.door import Door, Visit
from osmo_transport.transports.urls import host_port

REQUEST_TIMEOUT = 10.0
"""Seconds in which a request has to arrive, from the moment on at which its connection is accepted,
or the one before was answered; its body has as long again."""
LINGER = 0.5
"""Seconds for which the rest of a request that was answered before its end is read."""
WRITE_TIMEOUT = 15.0
"""Seconds in which a browser has to take what was sent; who does not is cut off."""
KEEP_ALIVE = 15.0
"""Seconds without news after which something is sent, so that nobody in between ends the stream."""
SHUTDOWN_TIMEOUT = 1.0
"""Seconds that an answer which is on its way may take when the page is closed."""
MAX_BODY = 64 * 1024
"""Bytes of a request."""
MAX_LETTERS = 500
"""Dead letters that one request may name."""

FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}

HEADERS = {
    # Nothing but our own files; and no text becomes a script or an element, whatever a name holds.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Named(msgspec.Struct, frozen=True):
    """Dead letters that a request is about."""

    letters: list[str]


class Site:
    """Answers requests. Reads nothing: documents come from the feed."""

    def __init__(
        self,
        feed: Feed[View],
        queue: Queue,
        *,
        token: str,
        hosts: Collection[str],
        max_viewers: int,
    ) -> None:
        """`token` has to come with what changes something; empty: nothing may. `hosts` are names by
        which it may be reached, besides localhost and numbers."""
        self._feed = feed
        self._queue = queue
        self._token = token
        self._hosts = frozenset(host.lower() for host in hosts)
        self._max_viewers = max_viewers
        self._visits: dict[asyncio.BaseProtocol, Visit] = {}
        """Of those whose first request has not come: bounded by the door."""

    def application(self) -> web.Application:
        """What serves it."""
        app = web.Application(client_max_size=MAX_BODY, middlewares=[self._guarded])
        for path, (name, content_type) in FILES.items():
            app.router.add_get(path, _file(name, content_type))
        app.router.add_get("/live", self._live)
        if self._token:
            app.router.add_post("/letters/replay", self._changing(self._queue.replay))
            app.router.add_post("/letters/drop", self._changing(self._queue.drop))
        app.on_response_prepare.append(_protected)
        app.on_shutdown.append(self._closing)
        return app

    def door(self, make: Callable[[], asyncio.BaseProtocol]) -> Door:
        """What accepts connections; `make` makes the protocol of one."""

        def come(visit: Visit) -> asyncio.BaseProtocol:
            protocol = make()
            self._visits = {each: its for each, its in self._visits.items() if not its.is_over}
            self._visits[protocol] = visit
            return protocol

        return Door(come, None, REQUEST_TIMEOUT)

    @web.middleware
    async def _guarded(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Refuse who comes by a name that is not ours: a page of others can make its own name lead
        here, and would then be taken for this one."""
        if (visit := self._visits.pop(request.protocol, None)) is not None:
            visit.over()
        if not self._is_ours(request.headers.get("Host", "")):
            raise web.HTTPForbidden(
                text="This page is not served under that name: --hosts says which are its own.\n"
            )
        return await handler(request)

    def _is_ours(self, host: str) -> bool:
        name = _without_port(host).lower()
        if name == "localhost" or name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    async def _live(self, request: web.Request) -> web.StreamResponse:
        """Send a document whenever it changes, as server-sent events."""
        try:
            view = view_of(request.query)
        except UsageError as exc:
            raise web.HTTPBadRequest(text=f"{exc}\n") from exc
        if self._feed.watchers >= self._max_viewers:
            raise web.HTTPServiceUnavailable(
                text="Too many pages are open: --max-viewers says how many may be.\n"
            )
        response = web.StreamResponse()
        response.content_type = "text/event-stream"
        async with self._feed.watch(view) as topic:
            try:
                await response.prepare(request)
                await self._send(topic, response)
            except TimeoutError:
                # It does not read; nothing that is still to be sent would reach it.
                if request.transport is not None:
                    request.transport.abort()
            except ConnectionError:
                # The browser has gone.
                pass
        return response

    async def _send(self, topic: Topic, response: web.StreamResponse) -> None:
        sent = 0
        while not self._feed.closed:
            try:
                async with asyncio.timeout(KEEP_ALIVE):
                    await topic.after(sent)
            except TimeoutError:
                event = b": still here\n\n"
            else:
                if self._feed.closed:
                    return
                sent, event = topic.version, b"data: %b\n\n" % topic.data
            async with asyncio.timeout(WRITE_TIMEOUT):
                await response.write(event)

    def _changing(
        self, act: Callable[[list[str]], Awaitable[int]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def change(request: web.Request) -> web.Response:
            self._authorize(request)
            try:
                async with asyncio.timeout(REQUEST_TIMEOUT):
                    body = await request.read()
                named = msgspec.json.decode(body, type=Named)
            except TimeoutError as exc:
                raise web.HTTPRequestTimeout from exc
            except (msgspec.DecodeError, UnicodeDecodeError) as exc:
                raise web.HTTPBadRequest(text=f"{exc}\n") from exc
            if len(named.letters) > MAX_LETTERS:
                raise web.HTTPBadRequest(text=f"at most {MAX_LETTERS} dead letters at a time\n")
            try:
                count = await act(named.letters)
            except TransportError as exc:
                raise web.HTTPServiceUnavailable(text=f"{exc}\n") from exc
            return web.json_response({"done": count})

        return change

    def _authorize(self, request: web.Request) -> None:
        """Refuse what this page did not send: another one can neither read the token nor set these
        headers without being asked about it first."""
        origin = request.headers.get("Origin")
        is_own = origin is None or origin.partition("://")[2] == request.headers["Host"]
        token = request.headers.get("X-Token", "")
        # A header's bytes that are no text come as halves of surrogate pairs.
        said = token.encode(errors="surrogateescape")
        if not is_own or not hmac.compare_digest(said, self._token.encode()):
            raise web.HTTPForbidden(text="This comes from another page: reload this one.\n")
        if request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType

    async def _closing(self, _: web.Application) -> None:
        self._feed.close()


@asynccontextmanager
async def serving(site: Site, host: str, port: int) -> AsyncIterator[str]:
    """Serve the site until the context is left; gives its URL.

    Raises:
        AddressInUseError: somebody else has the address, or it is not of this machine.
    """
    runner = web.AppRunner(
        site.application(),
        access_log=None,
        keepalive_timeout=REQUEST_TIMEOUT,
        lingering_time=LINGER,
        shutdown_timeout=SHUTDOWN_TIMEOUT,
        handler_cancellation=True,
    )
    await runner.setup()
    make = runner.server
    assert make is not None
    door = site.door(make)
    try:
        try:
            listening = await sockets.listen(host, port)
        except OSError as exc:
            raise AddressInUseError(f"cannot serve the page at {host}:{port}: {exc}") from exc
        bound = listening[0].getsockname()[1]
        door.open(listening)
        yield f"http://{host_port(host, bound)}/"
    finally:
        await door.aclose()
        await runner.cleanup()


def _file(name: str, content_type: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    body = resources.files("osmo_pipeline.web").joinpath("static", name).read_bytes()

    async def send(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type=content_type, charset="utf-8")

    return send


async def _protected(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


def _without_port(host: str) -> str:
    if host.startswith("["):
        name, closed, _ = host[1:].partition("]")
        return name if closed else ""
    return host.partition(":")[0]
