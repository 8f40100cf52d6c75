"""What Redis may do to the queue: die, forget, fill up, refuse, hang."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from osmo_transport.errors import QueueError, QueueRefusedError, QueueUnavailableError
from osmo_transport.queues.abc import AppendOutcome, Consumer, QueueConfig
from osmo_transport.queues.delivery import Ack, Delivery, Outcome, Reject, Retry
from osmo_transport.queues.redis import client
from osmo_transport.queues.redis.address import RacedConnection
from osmo_transport.queues.redis.queue import RedisQueue, open_queue
from osmo_transport.queues.redis.replies import Replies
from osmo_transport.testing.contracts.queue_suite import drain, figures, is_silent, keys
from osmo_transport.testing.feeder import Feeder, report
from osmo_transport.testing.kinds import FIRST, OTHER
from osmo_transport.testing.redis_server import RedisServer
from tests.helpers import eventually
from tests.queues.harness import cluster_of_one, current, name_in_redis

CONFIG = QueueConfig(claim_interval=0.02, retry_base=0.02, max_attempts=3)
STORED, _, LOST = AppendOutcome
STREAM = f"{{osmo}}:stream:{FIRST}"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@asynccontextmanager
async def opened(server: RedisServer, config: QueueConfig = CONFIG) -> AsyncIterator[RedisQueue]:
    async with await open_queue(server.url, current(config)) as queue:
        yield queue


async def patiently(call: Any, *arguments: Any) -> Any:
    """Call until the store is available, as every user of a queue does."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await call(*arguments)
            except QueueUnavailableError:
                await asyncio.sleep(0.01)


async def drain_patiently(consumer: Consumer, count: int) -> list[Delivery]:
    taken: list[Delivery] = []
    while len(taken) < count:
        taken += await patiently(consumer.receive, 100)
    return taken


async def waits(task: "asyncio.Task[Any]") -> bool:
    done, _ = await asyncio.wait([task], timeout=0.05)
    return not done


async def test_is_not_there() -> None:
    """No server: the queue is unavailable, and the text tells where it was looked for."""
    with pytest.raises(QueueUnavailableError, match=r"redis://127\.0\.0\.1:1/0"):
        await open_queue("redis://127.0.0.1:1", current(CONFIG))


async def test_is_no_redis() -> None:
    """Something else on the port: unavailable, not a traceback of the client library."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as other:
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(QueueUnavailableError):
            await open_queue(f"redis://127.0.0.1:{port}", current(CONFIG))


@pytest.mark.parametrize("wiped", [False, True])
async def test_is_killed_and_comes_back(wiped: bool) -> None:
    """SIGKILL and restart: with its files nothing acknowledged is gone, without them the producer
    is told; the same objects go on."""
    # Else a busy disk lets Redis answer before it has written.
    with RedisServer(appendonly="yes", appendfsync="always") as server:
        async with opened(server) as queue, queue.consumer("workers", "w1") as consumer:
            feeder = Feeder(queue)
            await feeder.append(*[report(f"k{i}") for i in range(10)])
            taken = await drain(consumer, 4, limit=4)
            await consumer.settle([(taken[0], Ack())])
            server.kill()
            more = feeder.batch(report("k10"))
            with pytest.raises(QueueUnavailableError):
                await queue.append([more])
            with pytest.raises(QueueUnavailableError):
                await consumer.settle([(taken[1], Ack())])
            waiting = asyncio.create_task(drain_patiently(consumer, 1 if wiped else 7))
            assert await waits(waiting)
            server.restart(wiped=wiped)
            assert await patiently(queue.append, [more]) == [LOST if wiped else STORED]
            if wiped:
                # Each of its connections finds out by itself that it is broken.
                await patiently(feeder.open)
                assert await feeder.append(report("k10")) is STORED
                assert keys(await waiting) == ["k10"]
                assert await patiently(figures, queue) == (0, 1, 0)
            else:
                rest = await waiting
                assert keys(rest) == [f"k{i}" for i in range(4, 11)]
                await consumer.settle([(delivery, Ack()) for delivery in [*taken, *rest]])
                assert await patiently(figures, queue) == (0, 0, 0)


@pytest.mark.parametrize("how", ["FLUSHALL", "DEL", "DESTROY", "SCRIPT"])
async def test_forgets_under_a_waiting_consumer(server: RedisServer, how: str) -> None:
    """A flush, a deleted stream, a destroyed group, lost scripts: a consumer that waits goes on by
    itself, and gets what is appended afterwards."""
    async with opened(server) as queue, queue.consumer("workers", "w1") as consumer:
        feeder = Feeder(queue)
        await feeder.append(report("before"))
        (held,) = await drain(consumer, 1)
        waiting = asyncio.create_task(drain_patiently(consumer, 1))
        assert await waits(waiting)
        commands = {
            "FLUSHALL": ("FLUSHALL",),
            "DEL": ("DEL", STREAM),
            "DESTROY": ("XGROUP", "DESTROY", STREAM, "workers"),
            "SCRIPT": ("SCRIPT", "FLUSH"),
        }
        server.command(*commands[how])
        if how == "FLUSHALL":
            assert await feeder.append(report("after")) is LOST
            await feeder.open()
        assert await feeder.append(report("after")) is STORED
        assert keys(await waiting) == ["after"]
        await consumer.settle([(held, Ack())])
        assert await figures(queue) == (0, 1, 0)


async def test_loses_a_consumer_by_hand(server: RedisServer) -> None:
    """DELCONSUMER with entries pending would lose them: they are found and delivered again."""
    async with opened(server) as queue, queue.consumer("workers", "w1") as consumer:
        await Feeder(queue).append(report("a"), report("b"))
        gone = queue.consumer("workers", "gone")
        await drain(gone, 2)
        server.command("XGROUP", "DELCONSUMER", STREAM, "workers", name_in_redis(gone))
        again = await drain(consumer, 2)
        assert keys(again) == ["a", "b"]
        await consumer.settle([(delivery, Ack()) for delivery in again])
        assert await figures(queue) == (0, 0, 0)
        await gone.aclose()


async def test_loses_pending_entries_by_hand(server: RedisServer) -> None:
    """Entries that somebody deletes while they are pending are counted as lost, and hold up
    nobody."""
    config = QueueConfig(claim_interval=0.02, lease=0.05)
    async with opened(server, config) as queue:
        await Feeder(queue).append(*[report(f"k{i}") for i in range(5)])
        crashed = queue.consumer("workers", "w1")
        taken = await drain(crashed, 5)
        await crashed._member.reader.abort()
        assert crashed._renewer is not None
        crashed._renewer.cancel()
        server.command("XDEL", STREAM, *[d.id for d in taken[1:4]])
        async with queue.consumer("workers", "w2") as consumer:
            assert keys(await drain(consumer, 2)) == ["k0", "k4"]
            assert (await queue.status()).lost == 3
        await crashed.aclose()


async def test_is_full(server: RedisServer) -> None:
    """At `maxmemory` nothing is acknowledged and nothing lost: workers drain, dead letters wait."""
    async with opened(server) as queue, queue.consumer("workers", "w1") as consumer:
        feeder = Feeder(queue)
        await feeder.append(*[report(f"k{i}") for i in range(4)])
        first, second, *rest = await drain(consumer, 4)
        server.config("maxmemory", "1")
        batch = feeder.batch(report("late"))
        with pytest.raises(QueueUnavailableError, match="maxmemory"):
            await queue.append([batch])
        pairs: list[tuple[Delivery, Outcome]]
        pairs = [(first, Ack()), (second, Reject("no")), *[(d, Retry("x", 0.0)) for d in rest]]
        with pytest.raises(QueueUnavailableError):
            await consumer.settle(pairs)
        assert await figures(queue) == (0, 3, 0)
        server.config("maxmemory", "0")
        await consumer.settle(pairs)
        assert await queue.append([batch]) == [STORED]
        assert sorted(keys(await drain(consumer, 3))) == ["k2", "k3", "late"]
        assert await figures(queue) == (0, 3, 1)


async def test_cannot_write_its_disk() -> None:
    """MISCONF: unavailable until the disk is back, nothing acknowledged and nothing lost."""
    with RedisServer() as server:
        server.config("save", "3600 1000000")
        async with opened(server) as queue, queue.consumer("workers", "w1") as consumer:
            feeder = Feeder(queue)
            await feeder.append(report("a"))
            (delivery,) = await drain(consumer, 1)
            server.break_disk()
            await _saved(server, "err")
            batch = feeder.batch(report("b"))
            with pytest.raises(QueueUnavailableError, match=r"(?i)misconf|snapshot"):
                await queue.append([batch])
            with pytest.raises(QueueUnavailableError):
                await consumer.settle([(delivery, Ack())])
            server.mend_disk()
            await _saved(server, "ok")
            assert await queue.append([batch]) == [STORED]
            await consumer.settle([(delivery, Ack())])
            assert keys(await drain(consumer, 1)) == ["b"]


async def _saved(server: RedisServer, result: str) -> None:
    server.command("BGSAVE")
    wanted = f"rdb_last_bgsave_status:{result}".encode()
    await eventually(lambda: wanted in server.command("INFO", "persistence"))


async def test_becomes_a_replica(server: RedisServer) -> None:
    """READONLY after a failover: unavailable on a new connection each time, until it is a primary
    again."""
    async with opened(server) as queue, queue.consumer("workers", "w1") as consumer:
        feeder = Feeder(queue)
        await feeder.append(report("a"))
        (delivery,) = await drain(consumer, 1)
        server.command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(QueueUnavailableError):
            await feeder.append(report("b"))
        with pytest.raises(QueueUnavailableError):
            await consumer.settle([(delivery, Ack())])
        server.command("REPLICAOF", "NO", "ONE")
        await consumer.settle([(delivery, Ack())])
        assert await feeder.append(report("b")) is STORED


async def test_hangs(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not answer in time is unavailable; what it answers late confuses nobody,
    and what it did nevertheless is not done twice."""
    async with opened(server) as queue, queue.consumer("workers", "w1") as consumer:
        feeder = Feeder(queue)
        await feeder.open()
        monkeypatch.setattr(client, "COMMAND_TIMEOUT", 0.05)
        server.command("CLIENT", "PAUSE", 300)
        batch = feeder.batch(report("a"))
        with pytest.raises(QueueUnavailableError, match="did not answer"):
            await queue.append([batch])
        assert await patiently(queue.append, [batch]) == [STORED]
        assert keys(await drain_patiently(consumer, 1)) == ["a"]
        assert await figures(queue) == (0, 1, 0)


@pytest.mark.parametrize("step", ["its turn", "a connection"])
async def test_hangs_before_anything_is_sent(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Who waits for his turn, or for a connection, is told in time as well."""
    hanging = asyncio.Event()

    async def hang(*_: Any) -> None:
        hanging.set()
        await asyncio.Event().wait()

    async with opened(server) as queue:
        feeder = Feeder(queue)
        await feeder.open()
        batch = feeder.batch(report("a"))
        if step == "its turn":
            monkeypatch.setattr(Replies, "exchange", hang)
            first = asyncio.create_task(queue.append([batch]))
            await hanging.wait()
        else:
            await queue._appending.abort()
            monkeypatch.setattr(RacedConnection, "connect", hang)
        monkeypatch.setattr(client, "COMMAND_TIMEOUT", 0.01)
        with pytest.raises(QueueUnavailableError, match="did not answer"):
            async with asyncio.timeout(5):
                await queue.append([batch])
        monkeypatch.undo()
        if step == "its turn":
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
        assert await queue.append([batch]) == [STORED]


async def test_cuts_every_connection(server: RedisServer) -> None:
    """CLIENT KILL under a waiting consumer: it is told, and goes on with a new connection."""
    async with opened(server) as queue, queue.consumer("workers", "w1") as consumer:
        waiting = asyncio.create_task(consumer.receive(1))
        assert await waits(waiting)
        server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        with pytest.raises(QueueUnavailableError):
            await waiting
        feeder = Feeder(queue)
        await patiently(feeder.open)
        await feeder.append(report("a"))
        assert keys(await drain_patiently(consumer, 1)) == ["a"]


async def test_evicts(server: RedisServer) -> None:
    """An evicting policy is refused with what to change: at start, on a new connection, and when
    the figures are asked for."""
    async with opened(server) as queue:
        feeder = Feeder(queue)
        await feeder.append(report("a"))
        server.config("maxmemory-policy", "allkeys-lru")
        with pytest.raises(QueueRefusedError, match="maxmemory-policy noeviction"):
            await open_queue(server.url, current(CONFIG))
        with pytest.raises(QueueRefusedError):
            await queue.status()
        server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        with pytest.raises(QueueError):
            await feeder.append(report("b"))
        with pytest.raises(QueueRefusedError):
            await feeder.append(report("b"))
        server.config("maxmemory-policy", "noeviction")
        assert await feeder.append(report("b")) is STORED


async def test_holds_other_data(server: RedisServer) -> None:
    """Keys of another kind under the queue's names: refused, and the text offers a way out."""
    server.command("SET", STREAM, "mine")
    async with opened(server) as queue:
        with pytest.raises(QueueRefusedError, match="namespace"):
            await Feeder(queue).append(report("a"))


async def test_connections_stay_few(server: RedisServer) -> None:
    """However often calls are cancelled, each object keeps to its own connections."""
    async with opened(server) as queue, queue.consumer("workers", "w1") as consumer:
        feeder = Feeder(queue)
        for i in range(20):
            assert await is_silent(consumer, 0.005)
            await feeder.append(report(f"k{i}"))
            for delivery in await drain(consumer, 1):
                await consumer.settle([(delivery, Ack())])
        # Three of the queue, two of the consumer, and the asker's.
        await eventually(lambda: len(server.command("CLIENT", "LIST").splitlines()) <= 6)


async def test_every_key_is_in_one_slot() -> None:
    """On a Redis Cluster everything works against the node that holds the queue's slot."""
    with await cluster_of_one() as server:
        async with opened(server) as queue, queue.consumer("workers", "w1") as consumer:
            await Feeder(queue).append(report("a"), report("b", OTHER), report("c"))
            one, two, three = await drain(consumer, 3)
            await consumer.settle([(one, Ack()), (two, Reject("no")), (three, Retry("x", 0.0))])
            (again,) = await drain(consumer, 1)
            assert again.attempt == 2
            assert await figures(queue) == (0, 1, 1)


async def test_reads_nothing_any_more(server: RedisServer) -> None:
    """A call that is given up leaves no socket behind with what could not be written."""
    queue = await open_queue(server.url, current(CONFIG))
    assert isinstance(queue, RedisQueue)
    feeder = Feeder(queue)
    await feeder.append(report("first"))
    batch = feeder.batch(*(report(f"key-{n}", payload=bytes(1_000_000)) for n in range(20)))
    connection: Any = queue._appending._connection
    transport = connection._writer.transport
    server.hang()
    try:
        appending = asyncio.create_task(queue.append([batch]))
        await eventually(lambda: transport.get_write_buffer_size() > 1_000_000)
        appending.cancel()
        await asyncio.wait([appending])
        await asyncio.sleep(0)
        assert transport.get_write_buffer_size() == 0
        assert transport.get_extra_info("socket").fileno() == -1
    finally:
        server.resume()
    await queue.aclose()
