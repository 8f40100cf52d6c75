"""A program of this project that was broken on purpose: benchmarks have to notice.

python -m tests.benchmarks.broken_build FAULT MODULE ARGUMENTS...
"""

import asyncio
import runpy
import sys
from collections.abc import Callable, Sequence
from unittest.mock import patch

from msgspec.structs import replace

from osmo_reports.bodies import decode_body, encode_body
from osmo_transport import (
    Ack,
    AppendOutcome,
    Delivery,
    Incoming,
    Outcome,
    ProducerBatch,
    Server,
)
from osmo_transport.queues.redis.queue import RedisQueue
from osmo_worker.store import StateStore

SLEEP = 0.01
"""Seconds that a slow server takes for each message."""
ODD = 3
"""The number of the report that a wrong worker is wrong about."""
LOST = 100
"""A lossy operator loses one message of so many, and acknowledges it."""


def make_slow() -> None:
    """A server takes its time with every message."""
    receive = Server.receive

    async def slow(self: Server) -> list[Incoming]:
        incoming = await receive(self)
        await asyncio.sleep(SLEEP * sum(len(each.encoded) for each in incoming))
        return incoming

    patch.object(Server, "receive", slow).start()


def make_lossy() -> None:
    """An operator does not append all that it acknowledges."""
    append = RedisQueue.append

    async def lossy(self: RedisQueue, batches: Sequence[ProducerBatch]) -> list[AppendOutcome]:
        return await append(self, [_without(each) for each in batches])

    patch.object(RedisQueue, "append", lossy).start()


def make_losing() -> None:
    """A worker does not store all that it settles."""
    _deliver(lambda deliveries: [each for each in deliveries if not _is_odd(each)])


def make_mistaken() -> None:
    """A worker stores something else than what was reported."""
    _deliver(lambda deliveries: [_mistaken(each) for each in deliveries])


def _deliver(change: Callable[[Sequence[Delivery]], Sequence[Delivery]]) -> None:
    handle = StateStore.handle_batch

    async def wrong(self: StateStore, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        await handle(self, change(deliveries))
        return [Ack()] * len(deliveries)

    patch.object(StateStore, "handle_batch", wrong).start()


def _is_odd(delivery: Delivery) -> bool:
    return delivery.message.version.revision == ODD


def _mistaken(delivery: Delivery) -> Delivery:
    if not _is_odd(delivery):
        return delivery
    message = delivery.message
    body = replace(decode_body(message.kind, message.payload), status="MISTAKEN")
    return replace(delivery, message=replace(message, payload=encode_body(body)))


def _without(batch: ProducerBatch) -> ProducerBatch:
    kinds, encoded = list(batch.kinds), list(batch.encoded)
    for place, sequence in enumerate(range(batch.first, batch.last + 1)):
        if sequence % LOST == 0:
            kinds[place], encoded[place] = "", b""
    return replace(batch, kinds=tuple(kinds), encoded=tuple(encoded))


FAULTS = {
    "slow": make_slow,
    "lossy": make_lossy,
    "losing": make_losing,
    "mistaken": make_mistaken,
}

if __name__ == "__main__":
    _, fault, module, *arguments = sys.argv
    FAULTS[fault]()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
