"""What no waiting mends is told as such, where an outage would be waited for; and the other way."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio.connection import Connection

from osmo_reports import Registration, open_directory
from osmo_transport import (
    Ack,
    ClosedError,
    QueueRefusedError,
    QueueUnavailableError,
    UsageError,
    batch_of,
    open_queue,
)
from osmo_transport.queues.redis.queue import RedisQueue
from osmo_transport.testing.feeder import Feeder, report
from osmo_transport.testing.redis_server import RedisServer
from tests.addresses import NAME, black_hole, two_addresses

USED = (
    *("info", "script|load", "evalsha", "get", "set", "hget", "hset", "hdel", "hgetall", "hlen"),
    *("hmget", "hincrby", "zadd", "zrem", "zrangebyscore", "xadd", "xlen", "xrange", "xrevrange"),
    *("xread", "xreadgroup", "xack", "xdel", "xtrim", "xpending", "xclaim", "xautoclaim", "xinfo"),
    *("xgroup", "time", "del", "config|get"),
)
"""Commands that a queue and a directory need."""


@pytest.mark.parametrize("missing", ["info", "evalsha", "set", "hset", "zadd", "xadd"])
async def test_a_missing_right_is_told(redis_server: RedisServer, missing: str) -> None:
    """By the command that the user may not do, at the start or at the first use of it."""
    redis_server.reset()
    rights = [f"+{name}" for name in USED if name != missing]
    redis_server.command("ACL", "SETUSER", "osmo", "reset", "on", ">pw", "~{osmo}:*", *rights)
    url = redis_server.url.replace("//", "//osmo:pw@")
    try:
        with pytest.raises(QueueRefusedError, match="does not let the URL's user do this"):
            await use(url)
    finally:
        redis_server.command("ACL", "DELUSER", "osmo")


async def use(url: str) -> None:
    """Everything that a queue and a directory do in a life."""
    async with await open_queue(url) as queue:
        await Feeder(queue).append(report("a"))
        async with queue.consumer("workers", "w") as consumer:
            (delivery,) = await consumer.receive(1)
            await consumer.settle([(delivery, Ack())])
        assert not sum((await queue.status()).waiting.values())
        async with await open_directory(url) as directory:
            await directory.set_rules("b", {"Ready": "True"})
            await directory.register("b", Registration("uid"))
            await directory.forget("b")


async def test_the_rights_that_are_needed_are_enough(redis_server: RedisServer) -> None:
    """For everything that a queue does in a life."""
    redis_server.reset()
    rights = [f"+{name}" for name in USED]
    redis_server.command("ACL", "SETUSER", "osmo", "reset", "on", ">pw", "~{osmo}:*", *rights)
    url = redis_server.url.replace("//", "//osmo:pw@")
    try:
        await use(url)
    finally:
        redis_server.command("ACL", "DELUSER", "osmo")


async def test_a_database_that_is_not_there_is_told(redis_server: RedisServer) -> None:
    """It will not be there later either."""
    with pytest.raises(QueueRefusedError, match="there is no such database"):
        await open_queue(redis_server.url.replace("/0", "/99"))


async def test_a_server_that_is_no_redis_is_told() -> None:
    """With what to look at: it may be there later, but hardly at this port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(QueueUnavailableError, match="does not answer as Redis does: look at"):
            await open_queue(f"redis://127.0.0.1:{port}")


@pytest.mark.parametrize(
    "option", ["ssl_ca_certs=/nowhere/ca.pem", "ssl_cert_reqs=bogus", "ssl_certfile=/nowhere"]
)
async def test_tls_options_that_cannot_be_used_are_told(option: str) -> None:
    """Before anybody is connected to."""
    with pytest.raises(UsageError, match="TLS options of the queue's URL cannot be used"):
        await open_queue(f"rediss://127.0.0.1:1?{option}")


async def test_a_file_that_is_no_certificate_is_told(tmp_path: Path) -> None:
    """As one that is not there."""
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(UsageError, match="TLS options of the queue's URL cannot be used"):
        await open_queue(f"rediss://h:1?ssl_ca_certs={tmp_path / 'ca.pem'}")


async def test_a_dead_first_address_holds_up_nobody(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one of the name gets its turn beside it, within the time of one command."""
    redis_server.reset()
    with black_hole(redis_server.port), two_addresses(monkeypatch):
        url = redis_server.url.replace("127.0.0.1", NAME)
        async with await open_queue(url) as queue:
            await Feeder(queue).append(report("a"))


async def test_what_others_put_among_the_dead_letters_is_shown(redis_server: RedisServer) -> None:
    """As far as it can be read: it hides nothing of the rest."""
    async with await open_queue(redis_server.url) as queue:
        redis_server.command("XADD", "{osmo}:dead", "*", "hello", "world")
        redis_server.command("XADD", "{osmo}:dead", "*", "i", "1-0", "n", "x", "m", b"\xff")
        strange, other = await queue.dead_letters(10)
        assert (strange.entry, strange.message, strange.raw) == ("", None, b"hello world")
        assert (other.entry, other.attempt, other.raw) == ("1-0", 0, b"\xff")


async def test_what_waits_for_its_turn_is_not_done_after_the_end(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would open a connection that nobody closes."""
    queue = await open_queue(redis_server.url)
    assert isinstance(queue, RedisQueue)
    client = queue._appending
    began, go_on = asyncio.Event(), asyncio.Event()
    read = client._read

    async def slow(connection: Connection) -> Any:
        began.set()
        await go_on.wait()
        return await read(connection)

    monkeypatch.setattr(client, "_read", slow)
    feeder = Feeder(queue)
    await feeder.open()
    state = feeder.state
    calls = [
        asyncio.create_task(queue.append([batch_of(feeder.producer, state, 1, [report("a")])]))
        for _ in range(2)
    ]
    await began.wait()
    await queue.aclose()
    go_on.set()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(outcomes[1], ClosedError)
    assert client._connection is None
