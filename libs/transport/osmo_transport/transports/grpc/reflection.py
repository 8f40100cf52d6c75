"""`grpc.reflection.v1alpha.ServerReflection`, which anybody may ask, and nobody may stay at."""

import asyncio
from collections.abc import AsyncIterable, Collection
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from osmo_transport.transports.grpc.crowds import BoundedCalls, Context

CALL_TIMEOUT = 10.0
"""Seconds that a call may take: a connection with a call is not idle, and so nothing else ends it;
tools ask all that they want to know within one second."""

MAX_CALLS = 32
"""Calls at once; one more is refused: it is people who ask."""

MAX_ADDRESS_CALLS = 8
"""Of them those from one address, so that no stranger takes all."""


class Reflection:
    """Says what `services` there are, itself included, and what their messages look like."""

    name: str = reflection.SERVICE_NAME

    def __init__(self, services: Collection[str]) -> None:
        self._answers = reflection.aio.ReflectionServicer((*services, self.name))
        self._calls = BoundedCalls("calls of reflection", MAX_CALLS, MAX_ADDRESS_CALLS)

    @property
    def handlers(self) -> grpc.GenericRpcHandler:
        """What to add to the server."""
        handler = grpc.stream_stream_rpc_method_handler(
            self._ask,
            reflection_pb2.ServerReflectionRequest.FromString,
            reflection_pb2.ServerReflectionResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(self.name, {"ServerReflectionInfo": handler})

    def close(self) -> None:
        """Its calls end by themselves, or with the server."""

    async def _ask(self, requests: AsyncIterable[Any], context: Context) -> None:
        async with self._calls.enter(context):
            try:
                async with asyncio.timeout(CALL_TIMEOUT):
                    async for answer in self._answers.ServerReflectionInfo(requests, context):
                        await context.write(answer)
            except TimeoutError:
                await context.abort(
                    grpc.StatusCode.DEADLINE_EXCEEDED, f"{CALL_TIMEOUT:g} s for a call, the limit"
                )
