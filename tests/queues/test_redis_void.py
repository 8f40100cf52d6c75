"""What a consumer of Redis has in hand when the store loses its memory is void; what is left of it
in the store is delivered again, each under the attempt that was counted for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from osmo_transport.queues.abc import QueueConfig
from osmo_transport.queues.delivery import Ack, Reject, Retry
from osmo_transport.queues.redis.consumer import _START, RedisConsumer
from osmo_transport.queues.redis.queue import RedisQueue, open_queue
from osmo_transport.testing.contracts.queue_suite import drain, figures, keys
from osmo_transport.testing.feeder import Feeder, report
from osmo_transport.testing.kinds import FIRST
from osmo_transport.testing.redis_server import RedisServer
from tests.queues.harness import Clock, current, name_in_redis

CONFIG = QueueConfig(claim_interval=5.0, lease=3600.0, max_attempts=5)
STREAM = f"{{osmo}}:stream:{FIRST}"
EPOCH = "{osmo}:epoch"


@asynccontextmanager
async def consuming(server: RedisServer) -> AsyncIterator[tuple[RedisQueue, RedisConsumer]]:
    """A queue on a clock that stands still, and a consumer of it."""
    async with (
        await open_queue(server.url, current(CONFIG), clock=Clock()) as queue,
        queue.consumer("workers", "w1") as consumer,
    ):
        yield queue, consumer


def counted(server: RedisServer) -> list[int]:
    """The attempts of the pending entries, as Redis counts them."""
    return [n for *_, n in server.command("XPENDING", STREAM, "workers", "-", "+", 100)]


async def test_a_delivery_of_an_earlier_memory_removes_nothing(server: RedisServer) -> None:
    """Nor buries it: what has its id by now, and is pending for the same member, is another."""
    async with consuming(server) as (queue, consumer):
        await Feeder(queue).append(report("a"), report("b"))
        before = await drain(consumer, 2)
        entries = server.command("XRANGE", STREAM, "-", "+")
        server.command("FLUSHDB")
        server.command("SET", EPOCH, "another")
        for entry_id, fields in entries:
            server.command("XADD", STREAM, entry_id, *fields)
        server.command("XGROUP", "CREATE", STREAM, "workers", "0")
        name = name_in_redis(consumer)
        server.command("XREADGROUP", "GROUP", "workers", name, "STREAMS", STREAM, ">")
        await consumer.settle([(before[0], Ack()), (before[1], Reject("no"))])
        assert server.command("XLEN", STREAM) == 2
        assert counted(server) == [1, 1]
        assert await queue.dead_letters(1) == []


async def test_what_was_in_hand_is_delivered_again(server: RedisServer) -> None:
    """Handed out or waiting for its next try; what was handed out before settles nothing."""
    async with consuming(server) as (queue, consumer):
        feeder = Feeder(queue)
        await feeder.append(report("a"), report("b"))
        before = await drain(consumer, 2)
        await consumer.settle([(before[1], Retry("later", after=60.0))])
        server.command("SET", EPOCH, "another")
        await feeder.open()
        await feeder.append(report("c"))
        assert keys(await consumer.receive(10)) == ["c"]
        await consumer.settle([(before[0], Ack())])
        assert await figures(queue) == (0, 3, 0)
        await feeder.append(report("d"))
        assert keys(await consumer.receive(10)) == ["a", "b", "d"]


async def test_what_was_read_and_not_handed_out_is_not_handed_out_twice(
    server: RedisServer,
) -> None:
    """It belongs to the memory before, and comes with what is read again."""
    async with consuming(server) as (queue, consumer):
        feeder = Feeder(queue)
        await feeder.append(report("a"), report("b"))
        await consumer._member.join()
        await consumer._take_everywhere(100)
        server.command("SET", EPOCH, "another")
        await consumer._rest(0.0)
        await feeder.open()
        await feeder.append(report("c"))
        assert keys(await consumer.receive(10)) == ["a", "b", "c"]
        assert counted(server) == [1, 1, 1]


async def test_a_read_that_never_arrived_is_counted_once(server: RedisServer) -> None:
    """However often its entries are looked for, here and in Redis; a retry is one more."""
    async with consuming(server) as (queue, consumer):
        await Feeder(queue).append(report("a"))
        await consumer._member.join()
        await consumer._member.read_new(1, [FIRST])
        for _ in range(3):
            consumer._unsure = {FIRST: _START}
            consumer._held.clear()
            (delivery,) = await consumer.receive(1)
            assert (delivery.attempt, counted(server)) == (1, [1])
        await consumer.settle([(delivery, Retry("again", after=0.0))])
        (delivery,) = await consumer.receive(1)
        assert (delivery.attempt, counted(server)) == (2, [2])


async def test_a_read_that_never_arrived_is_no_attempt_of_who_leaves(server: RedisServer) -> None:
    """He gives it back as if he had never had it."""
    async with consuming(server) as (queue, leaving):
        await Feeder(queue).append(report("a"))
        await leaving._member.join()
        await leaving._member.read_new(1, [FIRST])
        await leaving.aclose()
        async with queue.consumer("workers", "w2") as consumer:
            (delivery,) = await consumer.receive(1)
            assert (delivery.attempt, counted(server)) == (1, [1])


async def test_what_was_tried_too_often_is_given_up_when_it_is_found(server: RedisServer) -> None:
    """As where those before had more attempts than this one gives: it is not handed out again."""
    async with consuming(server) as (queue, consumer):
        feeder = Feeder(queue)
        await feeder.append(report("a"))
        await consumer._member.join()
        ((_, entry_id, *_),) = (await consumer._member.read_new(1, [FIRST])).found
        who = (STREAM, "workers", name_in_redis(consumer))
        most = CONFIG.max_attempts
        server.command("XCLAIM", *who, 0, entry_id, "RETRYCOUNT", most + 1, "JUSTID")
        consumer._unsure = {FIRST: _START}
        await feeder.append(report("b"))
        assert keys(await consumer.receive(10)) == ["b"]
        (letter,) = await queue.dead_letters(10)
        assert (letter.message and letter.message.key, letter.attempt) == ("a", most)
        assert f"delivered {most} times" in letter.reason


async def test_what_cannot_be_read_is_given_back_as_if_it_had_not_been(server: RedisServer) -> None:
    """With what was handed out: neither was an attempt."""
    async with consuming(server) as (queue, leaving):
        await Feeder(queue).append(report("a"))
        server.command("XADD", STREAM, "*", "foreign", "field")
        assert keys(await leaving.receive(100)) == ["a"]
        assert counted(server) == [1, 1]
        await leaving.aclose()
        assert counted(server) == [0, 0]
