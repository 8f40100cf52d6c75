"""`grpc.health.v1.Health`, which looks when it is asked, and so is never out of date."""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from osmo_transport.transports.grpc.crowds import BoundedCalls, Context

WATCH_INTERVAL = 1.0
"""Seconds between two looks on behalf of a watcher."""

MAX_WATCHERS = 1_000
"""Watchers at once; one more is refused."""

MAX_ADDRESS_WATCHERS = 32
"""Of them those from one address, so that no stranger takes all; a load balancer has one or two."""

_Status = health_pb2.HealthCheckResponse


class Health:
    """Says of each of `services`, and of the server as a whole (the empty name), whether it is
    `ready`."""

    name: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

    def __init__(self, services: Collection[str], ready: Callable[[], bool]) -> None:
        self._services = {"", *services}
        self._ready = ready
        self._watchers = BoundedCalls("watchers", MAX_WATCHERS, MAX_ADDRESS_WATCHERS)
        self._closing = asyncio.Event()

    @property
    def handlers(self) -> grpc.GenericRpcHandler:
        """What to add to the server."""
        decode = health_pb2.HealthCheckRequest.FromString
        encode = _Status.SerializeToString
        return grpc.method_handlers_generic_handler(
            self.name,
            {
                "Check": grpc.unary_unary_rpc_method_handler(self._check, decode, encode),
                "Watch": grpc.unary_stream_rpc_method_handler(self._watch, decode, encode),
            },
        )

    def close(self) -> None:
        """Nothing is ready from now on, and who watches is told so for the last time."""
        self._closing.set()

    def _status(self, service: str) -> Any:
        if service not in self._services:
            return _Status.SERVICE_UNKNOWN
        serving = self._ready() and not self._closing.is_set()
        return _Status.SERVING if serving else _Status.NOT_SERVING

    async def _check(self, request: Any, context: Context) -> Any:
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r}")
        return _Status(status=self._status(request.service))

    async def _watch(self, request: Any, context: Context) -> None:
        async with self._watchers.enter(context):
            await self._tell(request.service, context)

    async def _tell(self, service: str, context: Context) -> None:
        told = None
        while True:
            closing = self._closing.is_set()
            status = self._status(service)
            if status != told:
                told = status
                await context.write(_Status(status=status))
            if closing:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(WATCH_INTERVAL):
                    await self._closing.wait()
