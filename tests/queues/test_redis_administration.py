"""Looking at a queue in Redis and mending it: what was put there by hand, how much moves at a time,
and what the server refuses."""

import asyncio
from typing import Any

import pytest

from osmo_transport import QueueConfig, open_queue
from osmo_transport.errors import QueueUnavailableError
from osmo_transport.queues.delivery import Reject
from osmo_transport.queues.redis import queue as redis_queue
from osmo_transport.queues.redis.client import Call, RedisClient
from osmo_transport.queues.redis.member import CHUNK, READ_BYTES
from osmo_transport.queues.redis.scripts.script import Script
from osmo_transport.testing.contracts.queue_suite import drain, figures, has_buried
from osmo_transport.testing.feeder import Feeder, report
from osmo_transport.testing.kinds import FIRST
from osmo_transport.testing.redis_server import RedisServer
from tests.queues.harness import crash, current

LARGE = bytes(300_000)
STREAM = f"{{osmo}}:stream:{FIRST}"


@pytest.fixture
def replies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each reply of a script."""
    sizes: list[int] = []
    call = RedisClient.call

    async def watched(self: RedisClient, script: Script, *calls: Call, **how: Any) -> list[Any]:
        answers = await call(self, script, *calls, **how)
        sizes.extend(map(size_of, answers))
        return answers

    monkeypatch.setattr(RedisClient, "call", watched)
    return sizes


def size_of(reply: Any) -> int:
    """Of all that it holds."""
    if isinstance(reply, list):
        return sum(map(size_of, reply))
    return len(reply) if isinstance(reply, bytes) else 8


async def test_an_exchange_is_bounded_in_bytes(server: RedisServer, replies: list[int]) -> None:
    """However large the entries and the dead letters are that are looked at or put back."""
    async with await open_queue(server.url) as queue:
        feeder = Feeder(queue)
        for number in range(12):
            await feeder.append(report(f"k{number}", payload=LARGE))
        replies.clear()
        assert len(await queue.peek(FIRST, 100)) == 12
        assert max(replies) < READ_BYTES + 2 * len(LARGE)
        async with queue.consumer("readers", "w1") as consumer:
            await consumer.settle([(each, Reject("no")) for each in await drain(consumer, 12)])
        replies.clear()
        letters = [letter.id for letter in await queue.dead_letters(100)]
        assert len(letters) == 12
        assert max(replies) < READ_BYTES + 2 * len(LARGE)
        before = len(replies)
        assert await queue.replay(letters) == 12
        assert len(replies) - before >= 12 * len(LARGE) // (READ_BYTES + len(LARGE))


async def test_an_exchange_is_bounded_in_entries(server: RedisServer, replies: list[int]) -> None:
    """However small they are."""
    async with await open_queue(server.url) as queue:
        feeder = Feeder(queue)
        for start in range(0, 3 * CHUNK, CHUNK):
            await feeder.append(*[report(f"k{start + i}") for i in range(CHUNK)])
        replies.clear()
        assert len(await queue.peek(FIRST, 10 * CHUNK)) == 3 * CHUNK
        assert len(replies) == 4


async def test_what_others_put_there_is_shown_and_stays(server: RedisServer) -> None:
    """A letter without backend or message cannot be put back; one of a stream that is no more goes
    into the default one, and bytes that are no message are buried again, with the same reason."""
    async with await open_queue(server.url) as queue:
        command = server.command
        command("XADD", "{osmo}:dead", "*", "hello", "world")
        command("XADD", "{osmo}:dead", "*", "b", "east", "m", b"\xc1", "s", "former", "n", "\u0663")
        command("XADD", STREAM, "*", "odd", b"\x1b[31m\xff")
        (entry,) = await queue.peek(FIRST, 10)
        assert (entry.message, entry.raw) == (None, b"odd \x1b[31m\xff")
        strange, other = await queue.dead_letters(10)
        assert (other.attempt, other.stream, other.backend) == (0, "former", "east")
        assert await queue.replay([strange.id, other.id]) == 1
        assert [letter.id for letter in await queue.dead_letters(10)] == [strange.id]
        assert (await queue.status()).waiting["default"] == 1
        async with queue.consumer("readers", "w1") as consumer:
            reading = asyncio.create_task(consumer.receive(1))
            await has_buried(consumer, 2)
            letters = await queue.dead_letters(9)
            reading.cancel()
            await asyncio.wait([reading])
        assert {letter.raw for letter in letters[1:]} == {b"\xc1", b"odd \x1b[31m\xff"}
        assert await queue.drop([strange.id]) == 1


async def test_what_is_removed_by_hand_after_a_replay_is_missed(server: RedisServer) -> None:
    """What was put back is counted as what was appended is."""
    async with await open_queue(server.url) as queue:
        await Feeder(queue).append(report("a"), report("b"))
        async with queue.consumer("readers", "w1") as consumer:
            await consumer.settle([(each, Reject("no")) for each in await drain(consumer, 2)])
        assert await queue.replay([letter.id for letter in await queue.dead_letters(2)]) == 2
        (entry, _) = await queue.peek(FIRST, 2)
        server.command("XDEL", STREAM, entry.id)
        assert (await queue.status()).lost == 1


async def test_a_consumer_that_fell_silent_counts_for_a_lease(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while what it had is pending for its name."""
    monkeypatch.setattr(redis_queue, "BLOCK", 0.0)
    limits = current(QueueConfig(lease=0.1))
    async with await open_queue(server.url, limits) as queue:
        await Feeder(queue).append(report("a"))
        consumer = queue.consumer("readers", "w1")
        await drain(consumer, 1)
        assert (await queue.status()).consumers == 1
        await crash(consumer)
        async with asyncio.timeout(10):
            while (await queue.status()).consumers:
                pass
        assert sum((await queue.status()).pending.values()) == 1


@pytest.mark.parametrize("letter", ["1", "-", "+", "1-1-1", "1-*", "9" * 30 + "-0", "ä-1", "1- 1"])
async def test_what_is_no_id_names_no_letter(server: RedisServer, letter: str) -> None:
    """Whatever somebody types, it is nobody else's."""
    async with await open_queue(server.url) as queue:
        server.command("XADD", "{osmo}:dead", "1-1", "b", "east", "m", b"x")
        assert await queue.replay([letter]) == 0
        assert await queue.drop([letter]) == 0
        assert len(await queue.dead_letters(10, letter)) == 1


async def test_a_full_memory_refuses_and_loses_nothing(server: RedisServer) -> None:
    """What could not be put back is a dead letter still, and is put back later."""
    async with await open_queue(server.url) as queue:
        await Feeder(queue).append(*[report(f"k{i}") for i in range(5)])
        async with queue.consumer("readers", "w1") as consumer:
            await consumer.settle([(each, Reject("no")) for each in await drain(consumer, 5)])
        letters = [letter.id for letter in await queue.dead_letters(10)]
        server.command("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(QueueUnavailableError, match="takes no entries"):
            await queue.replay(letters)
        assert len(await queue.dead_letters(10)) == 5
        server.command("CONFIG", "SET", "maxmemory", "0")
        assert await queue.replay(letters) == 5
        assert await figures(queue) == (5, 0, 0)
        assert (await queue.status()).lost == 0
