"""A program of this project that was broken on purpose: benchmarks have to notice.

python -m tests.benchmarks.broken_build slow|lossy MODULE ARGUMENTS...
"""

import asyncio
import runpy
import sys
from unittest.mock import patch

from msgspec.structs import replace

from osmo_operator.relay import Relay
from osmo_transport import AppendOutcome, Incoming, ProducerBatch, Server

SLEEP = 0.01
"""Seconds that a slow server takes for each message."""
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
    append = Relay._append

    async def lossy(self: Relay, batches: list[ProducerBatch]) -> list[AppendOutcome]:
        return await append(self, [_without(each) for each in batches])

    patch.object(Relay, "_append", lossy).start()


def _without(batch: ProducerBatch) -> ProducerBatch:
    kinds, encoded = list(batch.kinds), list(batch.encoded)
    for place, sequence in enumerate(range(batch.first, batch.last + 1)):
        if sequence % LOST == 0:
            kinds[place], encoded[place] = "", b""
    return replace(batch, kinds=tuple(kinds), encoded=tuple(encoded))


if __name__ == "__main__":
    _, fault, module, *arguments = sys.argv
    {"slow": make_slow, "lossy": make_lossy}[fault]()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
