"""The operator as a whole: who is let in, and what listeners are told."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from osmo_credentials.tokens import NamedToken, TokenFile, hash_of, new_token
from osmo_operator import service
from osmo_operator.config import OperatorConfig
from osmo_operator.names import Names
from osmo_operator.service import run_operator
from osmo_reports import Directory, Registration, open_directory
from osmo_reports.bodies import encode_introduction
from osmo_reports.directory import RULES_KIND, decode_rules, redis
from osmo_reports.errors import BackendTakenError
from osmo_transport import (
    NEW,
    BackoffConfig,
    ClientConfig,
    Greeting,
    Identity,
    Limits,
    Producer,
    QueueUnavailableError,
    ServerConfig,
    SessionConfig,
    TokenConfig,
    UsageError,
    connect,
    new_message,
    open_queue,
)
from osmo_transport.message import new_id
from osmo_transport.testing.contracts.queue_suite import PATIENCE
from osmo_transport.testing.patience import patience
from osmo_transport.testing.redis_server import RedisServer

ONE = encode_introduction(Registration("uid-1", "osmo", "1.0"))
TWO = encode_introduction(Registration("uid-2", "osmo", "1.0"))


@pytest.fixture(params=["memory", "redis"])
def queue_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A queue that several can open."""
    if request.param == "memory":
        yield f"memory://{new_id()}"
    else:
        with RedisServer() as server:
            yield server.url


@asynccontextmanager
async def serving(
    queue_url: str,
    replicas: int = 1,
    config: ServerConfig | None = None,
    auth: tuple[str, ...] = (),
) -> AsyncIterator[tuple[Directory, list[str]]]:
    """Operators of one queue; the directory beside it, and where each listens."""
    stop = asyncio.Event()
    server = config or ServerConfig()
    operator = OperatorConfig(
        queue=queue_url, listen=("ws://127.0.0.1:0",), server=server, auth=auth
    )
    async with await open_directory(queue_url) as directory, asyncio.TaskGroup() as tasks:
        urls = []
        for _ in range(replicas):
            ready: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
            tasks.create_task(run_operator(operator, stop, ready.set_result))
            urls += await ready
        yield directory, urls
        stop.set()


async def test_the_queue_knows_by_which_credential_each_was_let_in(
    queue_url: str, tmp_path: Path
) -> None:
    """So that whoever asks is told, wherever the operator runs."""
    token = new_token()
    entry = NamedToken("cluster-a", hash_of(token), ("a",), datetime.now(UTC))
    file = tmp_path / "tokens.json"
    file.write_bytes(msgspec.json.encode(TokenFile((entry,))))
    presents = ClientConfig(token=TokenConfig(file=tmp_path / "token"))
    (tmp_path / "token").write_text(token)
    async with (
        serving(queue_url, auth=(f"token?file={file}",)) as (_, (url,)),
        connect(url, backend="a", config=presents, introduction=ONE) as client,
        await open_queue(queue_url) as queue,
    ):
        await client.epoch_after(0)
        (standing,) = await queue.producers(10)
        assert standing.holder is not None
        assert standing.holder.credential == "token cluster-a"


async def test_a_second_cluster_of_the_same_name_is_refused(queue_url: str) -> None:
    """By every operator, with both uids, for good; the first one goes on."""
    async with serving(queue_url, replicas=2) as (directory, (here, there)):
        async with connect(here, backend="a", introduction=ONE) as first:
            await first.epoch_after(0)
            async with connect(there, backend="a", source="x", introduction=TWO) as second:
                with pytest.raises(UsageError, match=r"uid-1.*uid-2"):
                    await second.epoch_after(0)
            async with connect(there, backend="b", introduction=TWO) as third:
                await third.epoch_after(0)
            await first.send(new_message("update_pod", "key", b""))
            await first.flush()
        with pytest.raises(BackendTakenError):
            await directory.register("a", Registration("uid-2"))


async def test_who_has_lost_its_name_is_turned_away(
    queue_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it was connected before the name was another cluster's, wherever that came."""
    monkeypatch.setattr(redis, "CLAIMS_INTERVAL", 0.01)
    async with (
        serving(queue_url) as (directory, (url,)),
        connect(url, backend="a", introduction=ONE) as first,
    ):
        epoch = await first.epoch_after(0)
        await directory.forget("a")
        await directory.register("a", Registration("uid-2"))
        async with patience(PATIENCE):
            with pytest.raises(UsageError, match=r"uid-2.*uid-1"):
                await first.epoch_after(epoch)


async def test_nobody_is_let_in_before_the_rules_are_known(
    queue_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listener would judge its nodes by others first: it is asked to come back."""
    monkeypatch.setattr(service, "RULES_TIMEOUT", 0.01)
    known = asyncio.Event()
    producer = Producer("a", "listener")
    greeting = Greeting(producer, "one", NEW, ONE)
    async with await open_queue(queue_url) as queue, await open_directory(queue_url) as directory:
        admit = service.admission(queue, Names(directory, BackoffConfig()), known)
        with pytest.raises(QueueUnavailableError, match="rules"):
            await admit(greeting)
        known.set()
        assert (await admit(greeting)).epoch > 0


async def test_a_name_is_taken_by_the_credential_that_the_door_knows(queue_url: str) -> None:
    """Whatever the listener says of it."""
    said = encode_introduction(Registration("uid-1", credential="somebody else"))
    known = asyncio.Event()
    known.set()
    async with await open_queue(queue_url) as queue, await open_directory(queue_url) as directory:
        admit = service.admission(queue, Names(directory, BackoffConfig()), known)
        for identity, expected in ((Identity("token x", ("a",)), "token x"), (None, "")):
            producer = Producer("a", "listener")
            await admit(Greeting(producer, "one", NEW, said)._replace(identity=identity))
            assert (await directory.backends())["a"].credential == expected


async def test_a_forgotten_backends_listeners_are_told_the_default(queue_url: str) -> None:
    """Those of the next cluster of that name, and whoever is still there."""
    async with serving(queue_url) as (directory, (url,)), connect(url, backend="a") as client:
        await directory.set_rules("a", {"Ready": "False"})
        version = (await client.push_after(RULES_KIND, 0)).version
        await directory.forget("a")
        push = await client.push_after(RULES_KIND, version)
        assert decode_rules(push.payload) == {"Ready": "True"}
        async with connect(url, backend="a", source="next", introduction=TWO) as second:
            assert await second.push_after(RULES_KIND, 0) == push


async def test_rules_reach_the_listeners_of_every_operator(queue_url: str) -> None:
    """On connect and at each change, whoever set them; of their own backend only."""
    async with (
        serving(queue_url, replicas=2) as (directory, (here, there)),
        connect(here, backend="a") as first,
        connect(there, backend="a", source="another") as second,
        connect(there, backend="b") as stranger,
    ):
        for client in (first, second, stranger):
            await client.epoch_after(0)
        version = 0
        for text in ("True", "False"):
            await directory.set_rules("a", {"Ready": text})
            for client in (first, second):
                push = await client.push_after(RULES_KIND, version)
                assert decode_rules(push.payload) == {"Ready": text}
            version = push.version
        async with connect(here, backend="a", source="late") as late:
            assert (await late.push_after(RULES_KIND, 0)).version == version
        await directory.set_rules("b", {"Ready": "Unknown"})
        push = await stranger.push_after(RULES_KIND, 0)
        assert decode_rules(push.payload) == {"Ready": "Unknown"}
        assert (await first.push_after(RULES_KIND, 0)).version == version


@pytest.mark.parametrize("layout", ["own", "osmo"])
async def test_rules_survive_the_queues_memory(layout: str) -> None:
    """Operators that know them put them back as they were; whoever connects later is told."""
    with RedisServer() as redis:
        async with serving(f"{redis.url}?layout={layout}", replicas=2) as (directory, urls):
            await directory.set_rules("a", {"Ready": "False"})
            await directory.set_rules("gone", {"Ready": "False"})
            await directory.forget("gone")
            before = await directory.rules()
            for url in urls:
                async with connect(url, backend="a", source=url) as client:
                    await client.push_after(RULES_KIND, before["a"].version - 1)
                async with connect(url, backend="gone", source=url) as client:
                    await client.push_after(RULES_KIND, before["gone"].version - 1)
            redis.flush()
            async with patience(PATIENCE), aclosing(directory.follow_rules()) as told:
                while await anext(told) != before:
                    pass
            for url in urls:
                async with connect(url, backend="a", source=new_id()) as late:
                    push = await late.push_after(RULES_KIND, 0)
                    assert push.version == before["a"].version


async def test_rules_that_are_too_long_are_told_to_nobody(
    queue_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Under narrow limits; with a word, and the other backends are told theirs."""
    small = Limits(message_bytes=64, batch_bytes=64)
    config = ServerConfig(session=SessionConfig(limits=small))
    async with (
        serving(queue_url, config=config) as (directory, (url,)),
        connect(url, backend="a") as client,
        connect(url, backend="b") as other,
    ):
        for each in (client, other):
            await each.epoch_after(0)
        await directory.set_rules("a", {"Ready": "x" * 200})
        await directory.set_rules("b", {"Ready": "False"})
        push = await other.push_after(RULES_KIND, 0)
        assert decode_rules(push.payload) == {"Ready": "False"}
    assert "the rules of a are not told" in caplog.text
