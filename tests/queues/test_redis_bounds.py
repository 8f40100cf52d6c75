"""However much a consumer holds, Redis serves nobody else for the time of one bounded step only."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from osmo_transport.queues.abc import QueueConfig
from osmo_transport.queues.delivery import Ack, Delivery, Outcome, Reject, Retry
from osmo_transport.queues.redis.client import Argument, Call, Command, RedisClient
from osmo_transport.queues.redis.consumer import RedisConsumer
from osmo_transport.queues.redis.member import CHUNK, READ_BYTES
from osmo_transport.queues.redis.queue import RedisQueue, open_queue
from osmo_transport.queues.redis.scripts import entries
from osmo_transport.queues.redis.scripts.script import Script
from osmo_transport.testing.contracts.queue_suite import figures, is_silent
from osmo_transport.testing.feeder import Feeder, report
from osmo_transport.testing.kinds import FIRST, OTHER
from osmo_transport.testing.redis_server import RedisServer
from tests.helpers import eventually
from tests.queues.harness import Clock, crash, current, name_in_redis

COUNT = 5_000
CONFIG = QueueConfig(claim_interval=5.0, lease=0.3, max_attempts=10)
STREAM = f"{{osmo}}:stream:{FIRST}"
PATIENCE = 40.0

LOOKS: dict[Script, Callable[[Sequence[Argument]], int]] = {
    entries.CLAIM: lambda arguments: int(arguments[12]),
    entries.TAKE: lambda arguments: (len(arguments) - 7) // 2,
    entries.SETTLE: lambda arguments: (
        int(arguments[3]) + max(0, len(arguments) - 6 - int(arguments[3])) // 2
    ),
    entries.RENEW: lambda arguments: len(arguments) - 2,
    entries.GIVE_BACK: lambda arguments: (len(arguments) - 4) // 3,
    entries.LEAVE: lambda _: 1,
    entries.ADOPT: lambda arguments: int(arguments[5]),
    entries.FORMER: lambda _: 0,
    entries.JOIN: lambda _: 0,
}
"""Of each script of `entries`, how many entries a call with these arguments looks at."""

NAMES = {script: name for name, script in vars(entries).items() if isinstance(script, Script)}


class Watch:
    """What was said to Redis."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        """By script."""
        self.looks: Counter[str] = Counter()
        """By script, the most entries that one call of it looked at."""
        self.pages: list[int] = []
        """Of each XPENDING, the most entries that it asked for."""

    def called(self, script: Script, calls: tuple[Call, ...]) -> None:
        if script in LOOKS:
            name = NAMES[script]
            for _, arguments in calls:
                self.calls[name] += 1
                self.looks[name] = max(self.looks[name], LOOKS[script](arguments))

    def said(self, commands: tuple[Command, ...]) -> None:
        self.pages += [int(str(command[5])) for command in commands if command[0] == "XPENDING"]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    call, run = RedisClient.call, RedisClient.run

    async def watched_call(self: RedisClient, script: Script, *calls: Call, **how: Any) -> Any:
        watch.called(script, calls)
        return await call(self, script, *calls, **how)

    async def watched_run(self: RedisClient, *commands: Command, **how: Any) -> Any:
        watch.said(commands)
        return await run(self, *commands, **how)

    monkeypatch.setattr(RedisClient, "call", watched_call)
    monkeypatch.setattr(RedisClient, "run", watched_run)
    return watch


@asynccontextmanager
async def filled(server: RedisServer) -> AsyncIterator[tuple[RedisQueue, Clock]]:
    """A queue with `COUNT` entries in one stream, on a clock that stands still."""
    clock = Clock()
    async with await open_queue(server.url, current(CONFIG), clock=clock) as queue:
        feeder = Feeder(queue)
        for start in range(0, COUNT, 1_000):
            await feeder.append(*[report(f"{start + i:05}") for i in range(1_000)])
        yield queue, clock


async def take_all(consumer: RedisConsumer, clock: Clock) -> list[Delivery]:
    """All entries, however many looks for those of others it takes."""
    taken: list[Delivery] = []
    async with asyncio.timeout(PATIENCE):
        while len(taken) < COUNT:
            try:
                async with asyncio.timeout(0.2):
                    taken += await consumer.receive(1_000)
            except TimeoutError:
                clock.now += CONFIG.claim_interval
    assert len({delivery.id for delivery in taken}) == COUNT
    return taken


def test_the_account_is_complete() -> None:
    """Each script that does something with entries is watched below."""
    assert set(LOOKS) == set(NAMES)


async def test_no_script_looks_at_more_than_a_chunk(server: RedisServer, watch: Watch) -> None:
    """Of what one consumer holds: taking it over, renewing it, giving it back, waiting for it,
    finding it when its holder was removed, and settling it all go step by step."""
    async with filled(server) as (queue, clock):
        crashing = queue.consumer("workers", "w1")
        await take_all(crashing, clock)
        await crash(crashing)
        # By one of its name, which renews it all, and gives it back.
        async with queue.consumer("workers", "w1") as heir:
            taken = await take_all(heir, clock)
            assert {delivery.attempt for delivery in taken} == {2}
            retries = [(d, Retry("later", float(i % 3 * 3600))) for i, d in enumerate(taken)]
            await heir.settle(retries[: COUNT // 2])
            await eventually(lambda: watch.calls["RENEW"] > COUNT // CHUNK)
        assert watch.calls["GIVE_BACK"] >= COUNT // CHUNK
        assert await figures(queue) == (0, COUNT, 0)
        server.command("DEL", f"{{osmo}}:due:{FIRST}")
        # By another one, whose name somebody removes then.
        removed = queue.consumer("workers", "w2")
        await take_all(removed, clock)
        await crash(removed)
        server.command("XGROUP", "DELCONSUMER", STREAM, "workers", name_in_redis(removed))
        last = queue.consumer("workers", "w3")
        taken = await take_all(last, clock)
        retries = [(delivery, Retry("at once", 0.0)) for delivery in taken]
        await last.settle(retries)
        taken = await take_all(last, clock)
        outcomes: list[tuple[Delivery, Outcome]]
        outcomes = [(d, Reject("no") if i % 2 else Ack()) for i, d in enumerate(taken)]
        await last.settle(outcomes)
        assert await figures(queue) == (0, 0, COUNT // 2)
        await last.aclose()
    assert watch.looks.keys() == {name for script, name in NAMES.items() if script in LOOKS}
    assert max(watch.looks.values()) == CHUNK
    assert watch.pages
    assert max(watch.pages) == CHUNK


async def test_lost_replies_of_much_are_found_step_by_step(
    server: RedisServer, watch: Watch
) -> None:
    """What was read and never arrived: page by page, and no more at a time than was asked for."""
    async with filled(server) as (queue, _), queue.consumer("workers", "w1") as reader:
        member = reader._member
        await member.join()
        member._size = 1.0
        while (await member.read_new(1_000, [FIRST])).found:
            pass  # as if nobody were told
        assert await is_silent(reader)  # and cancelled then, so that it is no longer sure
        taken: list[Delivery] = []
        async with asyncio.timeout(PATIENCE):
            while len(taken) < COUNT:
                more = await reader.receive(300)
                assert len(more) <= 300
                taken += more
        assert [d.message.key for d in taken] == [f"{i:05}" for i in range(COUNT)]
        assert {delivery.attempt for delivery in taken} == {1}
    assert watch.looks["TAKE"] <= CHUNK
    assert max(watch.pages) == CHUNK


async def test_no_exchange_brings_much_more_than_its_bytes(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large entries are read, taken over and asked for again in small parts: each exchange is over
    in its time over a slow link as well."""
    sizes: list[int] = []
    run = RedisClient.run

    def size_of(reply: Any) -> int:
        if isinstance(reply, list):
            return sum(map(size_of, reply))
        return len(reply) if isinstance(reply, bytes) else 0

    async def measured(self: RedisClient, *commands: Command, **how: Any) -> Any:
        replies = await run(self, *commands, **how)
        sizes.append(size_of(replies))
        return replies

    monkeypatch.setattr(RedisClient, "run", measured)
    payload, count, clock = bytes(50_000), 100, Clock()
    async with await open_queue(server.url, current(CONFIG), clock=clock) as queue:
        feeder = Feeder(queue)
        for start in range(0, count, 20):
            keys = [f"{start + i:03}" for i in range(20)]
            await feeder.append(*[report(key, OTHER, payload=payload) for key in keys])
        for attempt, name in enumerate(("w1", "w1", "w2"), 1):
            consumer = queue.consumer("workers", name)
            taken: list[Delivery] = []
            async with asyncio.timeout(PATIENCE):
                while len(taken) < count:
                    try:
                        async with asyncio.timeout(0.2):
                            taken += await consumer.receive(1_000)
                    except TimeoutError:
                        clock.now += CONFIG.claim_interval
            assert sorted(delivery.message.key for delivery in taken) == [
                f"{i:03}" for i in range(count)
            ]
            assert {delivery.attempt for delivery in taken} == {attempt}
            await crash(consumer)
    # The first read does not know yet how large they are.
    assert sum(size > READ_BYTES + len(payload) + 1_000 for size in sizes) <= 1
    assert max(sizes) < 64 * (len(payload) + 1_000)
