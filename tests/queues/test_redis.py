"""What is particular to `redis://`: its server's fitness, its entries and consumers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.crc import key_slot

from osmo_transport._polling import BusyPoll
from osmo_transport.errors import QueueRefusedError
from osmo_transport.queues.abc import QueueConfig
from osmo_transport.queues.delivery import Ack, Delivery, Reject
from osmo_transport.queues.redis.consumer import RedisConsumer
from osmo_transport.queues.redis.keys import Keys
from osmo_transport.queues.redis.member import MOST_UNSEEN
from osmo_transport.queues.redis.queue import RedisQueue, durability, inspect, open_queue
from osmo_transport.session.admission import PRODUCER_MEMORY
from osmo_transport.testing.contracts.queue_suite import LOST, STORED, drain, figures, keys
from osmo_transport.testing.feeder import Feeder, report
from osmo_transport.testing.kinds import FIGURE, FIRST
from osmo_transport.testing.redis_server import RedisServer
from tests.helpers import eventually
from tests.queues.harness import current, name_in_redis

CONFIG = QueueConfig(claim_interval=0.02, retry_base=0.02, max_attempts=3)
SHORT = QueueConfig(claim_interval=0.02, lease=0.05)
STREAM = f"{{osmo}}:stream:{FIRST}"


@asynccontextmanager
async def opened(server: RedisServer, config: QueueConfig = CONFIG) -> AsyncIterator[RedisQueue]:
    server.flush()
    async with await open_queue(server.url, current(config)) as queue:
        yield queue


async def take(consumer: RedisConsumer, count: int) -> list[Delivery]:
    """Receive `count` deliveries, and no more."""
    taken: list[Delivery] = []
    async with asyncio.timeout(20):
        while len(taken) < count:
            taken += await consumer.receive(count - len(taken))
    return taken


def suspend(consumer: RedisConsumer) -> None:
    """Let a consumer stop renewing, as if its process were stopped for a while."""
    assert consumer._renewer is not None
    consumer._renewer.cancel()


async def test_namespaces_share_nothing(redis_server: RedisServer) -> None:
    """Queues of two namespaces in one database are two queues."""
    url = f"{redis_server.url}?namespace=other"
    async with opened(redis_server) as one, await open_queue(url, current(CONFIG)) as two:
        await Feeder(one).append(report("a"))
        assert await figures(two) == (0, 0, 0)


def test_every_key_has_one_hash_tag() -> None:
    """All keys of a queue are in one slot of a Redis Cluster."""
    found = Keys.of("osmo", ["pods", "nodes"])
    names = [found.epoch, found.producers, found.opened, found.strangers, found.borders]
    names += [found.counts, found.dead, found.due("pods"), *found.streams.values()]
    assert len(set(names)) == 10
    assert len({key_slot(name.encode()) for name in names}) == 1


# Fitness


@pytest.mark.parametrize("version", ["6.0.16", "5.0.14", "6.1"])
def test_refuses_an_old_server(version: str) -> None:
    """Before 6.2 there is no XAUTOCLAIM."""
    with pytest.raises(QueueRefusedError, match=r"6\.2"):
        inspect({"redis_version": version})


@pytest.mark.parametrize("version", ["6.2.0", "7.0.15", "8.0-rc1", "10.0"])
def test_takes_a_newer_server(version: str) -> None:
    """From 6.2 on every version will do."""
    inspect({"redis_version": version, "maxmemory_policy": "noeviction"})


@pytest.mark.parametrize(
    ("append_only", "appendfsync", "level"),
    [
        (False, [b"appendfsync", b"always"], "memory"),
        (True, [b"appendfsync", b"everysec"], "process"),
        (True, [b"appendfsync", b"always"], "disk"),
        (True, None, "process"),
    ],
)
def test_names_the_durability(append_only: bool, appendfsync: object, level: str) -> None:
    """The level follows from AOF and its fsync; a server that does not tell gets the lesser."""
    assert durability(append_only, appendfsync) == level


# Entries


async def test_buries_what_it_cannot_read(redis_server: RedisServer) -> None:
    """An entry that is no message, or not even ours, is a dead letter with its bytes, and the next
    one is delivered."""
    async with opened(redis_server) as queue, queue.consumer("workers", "w1") as consumer:
        redis_server.command("XADD", STREAM, "*", "b", "east", "m", b"\xff\x00not msgpack")
        redis_server.command("XADD", STREAM, "*", "foreign", "field")
        redis_server.command("XADD", STREAM, "*", "b", b"\xff", "m", b"\x80")
        await Feeder(queue).append(report("good"))
        (delivery,) = await drain(consumer, 1)
        assert delivery.message.key == "good"
        await consumer.settle([(delivery, Ack())])
        waiting = asyncio.create_task(consumer.receive(1))
        dead = "{osmo}:dead"
        await eventually(lambda: redis_server.command("XLEN", dead) == 3)
        waiting.cancel()
        assert await figures(queue) == (0, 0, 3)
        first, second, _ = await queue.dead_letters(10)
        assert (first.raw, first.backend, first.message) == (b"\xff\x00not msgpack", "east", None)
        assert "cannot be read" in first.reason
        assert b"foreign" in second.raw
        assert b"field" in second.raw


async def test_a_rejected_message_keeps_its_bytes(redis_server: RedisServer) -> None:
    """A dead letter holds exactly what was stored."""
    async with opened(redis_server) as queue, queue.consumer("workers", "w1") as consumer:
        await Feeder(queue).append(report("a"))
        ((_, fields),) = redis_server.command("XRANGE", STREAM, "-", "+")
        (delivery,) = await drain(consumer, 1)
        await consumer.settle([(delivery, Reject("no"))])
        (letter,) = await queue.dead_letters(1)
        assert letter.raw == fields[3]


# Consumers


async def test_reclaims_all_of_a_dead_consumer(redis_server: RedisServer) -> None:
    """More than a thousand entries of a dead consumer all come, though others hold many that are
    young, and new entries come in between."""
    config = QueueConfig(claim_interval=0.02, lease=0.5)
    async with opened(redis_server, config) as queue:
        feeder = Feeder(queue)
        for start in range(0, 2000, 100):
            await feeder.append(*[report(f"k{i}") for i in range(start, start + 100)])
        young, dead = queue.consumer("workers", "young"), queue.consumer("workers", "dead")
        await take(young, 400)
        held = await take(dead, 1200)
        await take(young, 400)
        suspend(dead)
        async with queue.consumer("workers", "w1") as consumer:
            taken: list[Delivery] = []
            async with asyncio.timeout(20):
                while len(taken) < len(held):
                    taken += await consumer.receive(50)
                    await feeder.append(report("new"))
            reclaimed = [d for d in taken if d.message.key != "new"]
            async with asyncio.timeout(20):
                while len(reclaimed) < len(held):
                    reclaimed += [d for d in await consumer.receive(50) if d.message.key != "new"]
            assert sorted(keys(reclaimed)) == sorted(keys(held))
            assert {delivery.attempt for delivery in reclaimed} == {2}


async def test_a_paused_consumer_cannot_settle(redis_server: RedisServer) -> None:
    """Who slept longer than his lease neither settles nor takes back what another holds now."""
    async with opened(redis_server, SHORT) as queue:
        await Feeder(queue).append(report("a"), report("b"))
        async with (
            queue.consumer("workers", "w1") as paused,
            queue.consumer("workers", "w2") as two,
        ):
            stale = await drain(paused, 2)
            suspend(paused)
            fresh = await drain(two, 2)
            await paused.settle([(stale[0], Ack()), (stale[1], Reject("stale"))])
            assert await figures(queue) == (0, 2, 0)
            assert await paused._member.renew(FIRST, [stale[0].id]) == {stale[0].id}
            await two.settle([(delivery, Ack()) for delivery in fresh])
            assert await figures(queue) == (0, 0, 0)


async def test_consumers_do_not_pile_up(redis_server: RedisServer) -> None:
    """Who leaves with nothing pending is removed at once, who died and lost his entries later."""

    def names() -> set[bytes]:
        return {
            fields[1] for fields in redis_server.command("XINFO", "CONSUMERS", STREAM, "workers")
        }

    async with opened(redis_server, SHORT) as queue:
        await Feeder(queue).append(report("a"))
        died, left = queue.consumer("workers", "died"), queue.consumer("workers", "left")
        await drain(died, 1)
        await Feeder(queue, "b2").append(report("b"))
        await left.settle([(delivery, Ack()) for delivery in await drain(left, 1)])
        theirs = {name_in_redis(consumer).encode() for consumer in (died, left)}
        assert names() == theirs
        await left.aclose()
        (name,) = names()
        assert name == name_in_redis(died).encode()
        suspend(died)
        await died._member.reader.abort()
        async with queue.consumer("workers", "w1") as consumer:
            assert keys(await drain(consumer, 1)) == ["a"]
            waiting = asyncio.create_task(consumer.receive(1))
            await eventually(lambda: name not in names())
            waiting.cancel()


async def test_a_lost_script_comes_back_between_batches(redis_server: RedisServer) -> None:
    """SCRIPT FLUSH between calls is not noticed, and the order of one producer's batches holds."""
    async with opened(redis_server) as queue:
        feeder = Feeder(queue)
        await feeder.open()
        for _ in range(5):
            redis_server.command("SCRIPT", "FLUSH")
            batches = [feeder.batch(report("a"))]
            batches.append(feeder.batch(report("b"), first=batches[0].last + 1))
            assert {outcome.value for outcome in await queue.append(batches)} == {"stored"}
            await feeder.open()
        assert await figures(queue) == (10, 0, 0)
        await eventually(lambda: redis_server.command("XLEN", STREAM) == 10)


async def test_forgets_producers_that_nobody_asks_for_any_more(redis_server: RedisServer) -> None:
    """After a season, when another one comes: who is there all the same starts anew."""
    now = 1_800_000_000.0
    async with await open_queue(
        redis_server.url + "?namespace=forgets", current(CONFIG), wall=lambda: now
    ) as queue:
        old, kept = Feeder(queue, "old"), Feeder(queue, "kept")
        for feeder in (old, kept):
            assert await feeder.append(report("a")) is STORED
        now += PRODUCER_MEMORY - 1
        assert (await kept.open()).sequence == 1
        now += 2
        first = old.state
        assert await Feeder(queue, "new").append(report("b")) is STORED
        assert redis_server.command("HLEN", "{forgets}:producers") == 2
        assert redis_server.command("ZCARD", "{forgets}:producers:opened") == 2
        assert await kept.append(report("c")) is STORED
        assert await old.append(report("d")) is LOST
        assert (await old.open()).epoch > first.epoch
        assert await old.append(report("d")) is STORED


async def test_a_backlog_is_read_in_few_exchanges(redis_server: RedisServer) -> None:
    """What one stream has fills what was asked for, in the order in which it came; those that are
    empty are looked at together, and give what comes into them."""
    reads, count = 4, 4 * MOST_UNSEEN
    async with opened(redis_server) as queue, queue.consumer("workers", "w1") as consumer:
        feeder = Feeder(queue)
        await feeder.append(*[report(f"early {i}") for i in range(count)])
        await consumer.receive(count)  # by now it knows how large they are, and what is empty
        await feeder.append(*[report(f"{i:05}") for i in range(count)])
        before = _reads(redis_server)
        taken = await consumer.receive(count)
        assert [delivery.message.key for delivery in taken] == [f"{i:05}" for i in range(count)]
        assert _reads(redis_server) - before <= 3 * reads
        await feeder.append(*[report(f"late {i}") for i in range(count)], report("last", FIGURE))
        assert "last" in [delivery.message.key for delivery in await consumer.receive(count)]


async def test_what_cannot_be_read_keeps_nothing_waiting(redis_server: RedisServer) -> None:
    """However much of it lies in a stream, what was found before it is handed over first."""
    async with opened(redis_server) as queue, queue.consumer("workers", "w1") as consumer:
        feeder = Feeder(queue)
        await feeder.append(report("early"))
        await take(consumer, 1)
        await feeder.append(report("good"))
        junk = "for i = 1, 9000 do redis.call('XADD', KEYS[1], '*', 'foreign', 'field') end"
        redis_server.command("EVAL", junk, "1", STREAM)
        before = _reads(redis_server)
        (delivery,) = await consumer.receive(10 * MOST_UNSEEN)
        assert delivery.message.key == "good"
        assert _reads(redis_server) - before < 20


async def test_entries_are_settled_in_any_order(redis_server: RedisServer) -> None:
    """Also those between which others stay in hand."""
    async with opened(redis_server) as queue, queue.consumer("workers", "w1") as consumer:
        await Feeder(queue).append(*[report(str(i)) for i in range(9)])
        taken = await take(consumer, 9)
        mixed = [taken[place] for place in (7, 2, 8, 0, 4)]
        await consumer.settle([(delivery, Ack()) for delivery in mixed])
        assert await figures(queue) == (0, 4, 0)
        await consumer.settle([(delivery, Ack()) for delivery in taken if delivery not in mixed])
        assert await figures(queue) == (0, 0, 0)


def _reads(server: RedisServer) -> int:
    """Reads of streams that the server was asked for since its start."""
    stats = server.command("INFO", "commandstats").decode()
    return sum(
        int(line.partition("calls=")[2].partition(",")[0])
        for line in stats.splitlines()
        if line.startswith("cmdstat_xreadgroup:")
    )


async def test_an_append_alone_is_waited_for_awake(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients wait for it; nobody waits for a worker's questions."""
    told: list[str] = []
    monkeypatch.setattr(BusyPoll, "expect", lambda _: told.append("expect"))
    monkeypatch.setattr(BusyPoll, "met", lambda _: told.append("met"))
    async with opened(redis_server) as queue, queue.consumer("workers", "w1") as consumer:
        await queue.status()
        assert told == []
        await Feeder(queue).append(report("a"))
        assert told == ["expect", "met"]
        (delivery,) = await drain(consumer, 1)
        await consumer.settle([(delivery, Ack())])
        assert told == ["expect", "met"]


async def test_the_first_report_waits_for_no_preparations(redis_server: RedisServer) -> None:
    """Connections are there and scripts are known when a producer was let in and a worker waits,
    so that neither its append nor its settlement takes longer than any other."""
    async with opened(redis_server) as queue, queue.consumer("workers", "w1") as consumer:
        redis_server.command("SCRIPT", "FLUSH")
        taking = asyncio.create_task(take(consumer, 1))
        feeder = Feeder(queue)
        await feeder.open()
        await eventually(lambda: b"cmd=xreadgroup" in redis_server.command("CLIENT", "LIST"))
        connected = redis_server.command("CLIENT", "LIST").count(b"\n")
        redis_server.command("CONFIG", "RESETSTAT")
        await feeder.append(report("a"))
        (delivery,) = await taking
        await consumer.settle([(delivery, Ack())])
        asked = redis_server.command("INFO", "commandstats")
        assert b"cmdstat_evalsha" in asked
        assert b"cmdstat_script" not in asked
        assert redis_server.command("CLIENT", "LIST").count(b"\n") == connected
        assert await figures(queue) == (0, 0, 0)
