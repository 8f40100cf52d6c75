"""`operator.ListenerService`: what an operator is to the listeners that were deployed before ours.

Each of their calls becomes a connection of our own (`feed`), and so a producer of its own; nothing
behind this module knows of them. A report is acknowledged when it is stored. One that never will
be, because it cannot be read or is refused, is acknowledged too, logged and counted, as its sender
would send it for ever.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import grpc

from osmo_deployed.calls import (
    Caller,
    ConditionStream,
    Context,
    ReportStream,
    StatusError,
)
from osmo_deployed.config import DeployedConfig
from osmo_deployed.feed import Feed, FeedOwner, TokenT
from osmo_deployed.messages import SEQUENCE_BITS, Arrivals, to_message
from osmo_deployed.protobuf import (
    SERVICE,
    decode_introduction,
    decode_report,
    encode_acknowledgement,
    encode_initialized,
)
from osmo_deployed.times import written
from osmo_reports.bodies import Registration, encode_body, encode_introduction
from osmo_reports.errors import BodyError
from osmo_transport.credentials import Presented
from osmo_transport.errors import PeerError
from osmo_transport.message import MAX_NAME, Message, Version, new_id, new_message
from osmo_transport.peers import network_of
from osmo_transport.transports.abc import Accept, ConnectionConfig
from osmo_transport.transports.grpc.connection import presented

logger = logging.getLogger(__name__)

BACKEND = "backend-name"
"""The metadata that says whose reports a call carries."""

INIT_TIMEOUT = 10.0
"""Seconds for which a backend's introduction is tried again: its listener ends when it fails, so a
restart of the store is waited out."""

MAX_BACKENDS = 10_000
"""Backends whose introduction is remembered, for their heartbeats; the oldest is forgotten."""

INIT_PAUSE = 0.1
"""Seconds between two tries at least."""

LOG_INTERVAL = 1.0
"""Seconds between two lines about reports that are not kept: a listener may send many."""


class _Introduced(NamedTuple):
    """What a backend said of itself."""

    registration: Registration
    version: Version
    """When it said so: of several operators, the one that was told last knows best."""

    def heartbeat(self, backend: str) -> Message:
        """A sign of life, now."""
        return new_message(
            "heartbeat", backend, encode_body(self.registration), version=self.version
        )


_NOT_INTRODUCED = _Introduced(Registration(), Version(0, 0))


class ListenerService:
    """The methods, for a gRPC server."""

    name = SERVICE

    def __init__(
        self,
        accept: Accept,
        config: ConnectionConfig,
        deployed: DeployedConfig,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`wall` gives the seconds since the Unix epoch."""
        self._accept = accept
        self._config = config
        self._deployed = deployed
        self._wall = wall
        self._arrivals = Arrivals(wall)
        self._process = new_id()[:8]
        self._feeds: dict[str, dict[int, Feed[Any]]] = {}
        """By backend, and by slot."""
        self._open = 0
        self._shared: dict[tuple[str, Presented], _Shared] = {}
        self._introduced: dict[str, _Introduced] = {}
        self._logged = 0.0
        self.left_out = 0
        """Reports that were acknowledged and not kept."""

    @property
    def handlers(self) -> grpc.GenericRpcHandler:
        """What to add to the server."""
        bidirectional = grpc.stream_stream_rpc_method_handler
        single = grpc.unary_unary_rpc_method_handler
        return grpc.method_handlers_generic_handler(
            self.name,
            {
                "ListenerStream": bidirectional(_with_statuses(self._listener_stream)),
                "SendListenerMessage": single(_with_statuses(self._send_listener_message)),
                "NodeConditionStream": bidirectional(_with_statuses(self._node_condition_stream)),
                "InitBackend": single(_with_statuses(self._init_backend)),
            },
        )

    def close(self) -> None:
        """End every call, except those of `InitBackend`, which end by themselves."""
        for feeds in list(self._feeds.values()):
            for feed in list(feeds.values()):
                feed.close()

    async def _listener_stream(self, _: object, context: Context) -> None:
        backend = _backend_of(context)
        stream = ReportStream(
            context,
            self._deployed.window_messages,
            self._config.limits.window_bytes,
            partial(self._translated, backend),
            partial(self._leave_out, backend),
        )
        with self.feed(backend, presented(context), stream) as feed:
            await stream.serve(feed)

    async def _send_listener_message(self, data: bytes, context: Context) -> bytes:
        backend = _backend_of(context)
        uuid, message = self._translated(backend, data)
        if message is not None:
            reason = await self._sharing(backend, presented(context)).store(message)
            if reason:
                self._leave_out(backend, uuid, reason)
        return encode_acknowledgement(uuid)

    async def _node_condition_stream(self, _: object, context: Context) -> None:
        backend = _backend_of(context)
        stream = ConditionStream(
            context,
            self._deployed.heartbeat_interval,
            lambda: f"{written(self._wall())}Z",
            lambda: self._heartbeat(backend),
        )
        with self.feed(backend, presented(context), stream) as feed:
            await stream.serve(feed)

    async def _init_backend(self, data: bytes, context: Context) -> bytes:
        introduction = decode_introduction(data)
        if introduction is None:
            return encode_initialized("init body is required")
        backend, registration = introduction
        if not backend:
            return encode_initialized("backend name is required")
        problem = await self._introduce(backend, registration, presented(context))
        return encode_initialized(problem)

    async def _introduce(self, backend: str, registration: Registration, by: Presented) -> str:
        """Register a backend and store its first heartbeat; what is in the way, if anything."""
        arrival = self._arrivals.next()
        told = _Introduced(registration, Version(arrival >> SEQUENCE_BITS, arrival))
        problem = f"failed to initialize backend: not stored in {INIT_TIMEOUT:g} s"
        try:
            async with asyncio.timeout(INIT_TIMEOUT):
                while True:
                    try:
                        caller = Caller()
                        with self.feed(backend, by, caller, registration) as feed:
                            refused = await caller.store(told.heartbeat(backend), feed)
                        if refused:
                            return _problem(backend, refused)
                        break
                    except StatusError as exc:
                        problem = _problem(backend, exc.details)
                        if exc.retry_after is not None:
                            await asyncio.sleep(max(exc.retry_after, INIT_PAUSE))
                        elif exc.code is grpc.StatusCode.UNAVAILABLE:
                            raise
                        else:
                            return problem
        except TimeoutError:
            return problem
        self._introduced.pop(backend, None)
        self._introduced[backend] = told
        if len(self._introduced) > MAX_BACKENDS:
            del self._introduced[next(iter(self._introduced))]
        return ""

    def _heartbeat(self, backend: str) -> Message:
        return self._introduced.get(backend, _NOT_INTRODUCED).heartbeat(backend)

    def _translated(self, backend: str, data: bytes) -> tuple[str, Message | None]:
        report = decode_report(data)
        uuid = report.uuid
        if len(uuid) > MAX_NAME:
            raise PeerError(f"a uuid of {len(uuid)} characters, and the limit is {MAX_NAME}")
        try:
            return uuid, to_message(report, self._arrivals.next())
        except BodyError as exc:
            self._leave_out(backend, uuid, str(exc))
            return uuid, None

    def _leave_out(self, backend: str, uuid: str, reason: str) -> None:
        self.left_out += 1
        now = time.monotonic()
        if now - self._logged >= LOG_INTERVAL:
            self._logged = now
            logger.error(
                "a report of %s is acknowledged and not kept (uuid %r, %d so far): %s",
                backend,
                uuid,
                self.left_out,
                reason,
            )

    @contextmanager
    def feed(
        self,
        backend: str,
        by: Presented,
        owner: FeedOwner[TokenT],
        registration: Registration | None = None,
    ) -> Iterator[Feed[TokenT]]:
        """An open connection for a call of `backend`, whose client presented what `by` has.

        Raises:
            StatusError: there are too many.
        """
        feeds = self._feeds.get(backend, {})
        # Of the same credential, because nobody has looked at it yet: whoever names the backend
        # would take what belongs to its listener. Those that are let in, the server bounds.
        alike = [feed for feed in feeds.values() if _same(feed.presented, by)]
        for limit, number, what in (
            (self._deployed.max_streams, len(alike), f"streams of backend {backend}"),
            (self._config.max_connections, self._open, "streams"),
        ):
            if number >= limit:
                text = f"{limit} {what}, the limit"
                raise StatusError(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
        # The smallest number that is free, so that few producers come to be over time.
        slot = next(number for number in count() if number not in feeds)
        feed = Feed(by, self._config.limits, owner)
        self._feeds.setdefault(backend, feeds)[slot] = feed
        self._open += 1
        try:
            introduction = encode_introduction(registration) if registration else b""
            feed.open(self._accept, backend, f"deployed-{self._process}-{slot}", introduction)
            yield feed
        finally:
            feed.leave()
            self._open -= 1
            del feeds[slot]
            if not feeds:
                del self._feeds[backend]

    def _sharing(self, backend: str, by: Presented) -> "_Shared":
        # Whoever presents something else, or is elsewhere, is somebody else.
        whose = backend, by._replace(address=network_of(by.address))
        shared = self._shared.get(whose)
        if shared is None:
            forget = partial(self._shared.pop, whose)
            most_bytes = self._config.limits.window_bytes
            shared = _Shared(self, backend, by, self._deployed, most_bytes, forget)
            self._shared[whose] = shared
        return shared


class _Shared:
    """The connection that all single reports of a backend from one address share, so that they
    batch; closed when it was without use for a while. It is where the first of them came from."""

    def __init__(
        self,
        service: ListenerService,
        backend: str,
        by: Presented,
        config: DeployedConfig,
        most_bytes: int,
        on_close: Callable[[], object],
    ) -> None:
        self._backend = backend
        self._most = config.window_messages
        self._most_bytes = most_bytes
        self._idle = config.unary_idle
        self._on_close = on_close
        self._caller = Caller(self._close)
        self._stack = ExitStack()
        self._feed = self._stack.enter_context(service.feed(backend, by, self._caller))
        self._used = True
        self._timer = asyncio.get_running_loop().call_later(self._idle, self._look)

    async def store(self, message: Message) -> str:
        """See `Caller.store`."""
        feed = self._feed
        if feed.held >= self._most or feed.held_bytes >= self._most_bytes:
            raise StatusError(
                grpc.StatusCode.UNAVAILABLE, f"{feed.held} reports of {self._backend} wait already"
            )
        self._used = True
        return await self._caller.store(message, feed)

    def _look(self) -> None:
        if not self._used and not self._feed.held:
            self._close()
        else:
            self._used = False
            self._timer = asyncio.get_running_loop().call_later(self._idle, self._look)

    def _close(self) -> None:
        self._timer.cancel()
        self._on_close()
        self._stack.close()


def _same(one: Presented, other: Presented) -> bool:
    """Whether both present the same, wherever they are."""
    return one._replace(address="") == other._replace(address="")


def _backend_of(context: Context) -> str:
    """The backend that a call names.

    Raises:
        StatusError: it names none.
    """
    for key, value in context.invocation_metadata() or ():
        if key == BACKEND:
            if not value:
                problem = f"{BACKEND} metadata cannot be empty"
                break
            return str(value)
    else:
        problem = f"{BACKEND} metadata is required but not provided"
    raise StatusError(grpc.StatusCode.INVALID_ARGUMENT, problem)


def _problem(backend: str, reason: str) -> str:
    """What a listener is told whose backend was not let in for `reason`."""
    taken = f"backend {backend} is already being used by a different cluster (uid: "
    if reason.startswith(taken):
        # Deployed listeners know this sentence, and not what follows it.
        return reason[: reason.index(")", len(taken)) + 1]
    return f"failed to initialize backend: {reason}"


_Method = Callable[[Any, Context], Awaitable[Any]]


def _with_statuses(method: _Method) -> _Method:
    """The method, with its errors as statuses."""

    async def answering(request: Any, context: Context) -> Any:
        try:
            return await method(request, context)
        except StatusError as exc:
            await context.abort(exc.code, exc.details)
        except PeerError as exc:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(exc))

    return answering
