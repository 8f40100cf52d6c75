"""How many calls of one kind there may be at once, in all and from one address."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import grpc
from grpc import aio

from osmo_transport._crowds import Crowd
from osmo_transport.peers import network_of, of_grpc

Context: TypeAlias = "aio.ServicerContext[Any, Any]"


class BoundedCalls:
    """Calls that anybody may make; one more is refused.

    Args:
        what: they are, for who is refused.
        most: there may be.
        of_address: of them from one address, so that no stranger takes all.
    """

    def __init__(self, what: str, most: int, of_address: int) -> None:
        self._what = what
        self._most = most
        self._of_address = of_address
        self._calls = 0
        self._addresses = Crowd(of_address)

    @asynccontextmanager
    async def enter(self, context: Context) -> AsyncIterator[None]:
        """Be one of them, or be refused."""
        network = network_of(of_grpc(context.peer()))
        crowded = self._addresses.enter(network)
        self._calls += 1
        try:
            if self._calls > self._most:
                await _refuse(context, f"{self._most} {self._what}, the limit")
            if crowded:
                await _refuse(context, f"{self._of_address} {self._what} of {network}, the limit")
            yield
        finally:
            self._calls -= 1
            self._addresses.leave(network)


async def _refuse(context: Context, why: str) -> None:
    await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, why)
