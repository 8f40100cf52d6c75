"""What operators know of the backends' names outlives the memory of the queue's store."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from osmo_operator.names import Names
from osmo_reports import Directory, Registration, open_directory
from osmo_reports.directory import redis
from osmo_reports.errors import BackendTakenError
from osmo_transport import BackoffConfig, QueueUnavailableError
from osmo_transport.testing.redis_server import RedisServer
from tests.helpers import eventually

ONE, TWO = Registration("uid-1", "osmo", "1.0"), Registration("uid-2", "osmo", "1.0")


@pytest.fixture(params=["own", "osmo"])
def url(
    request: pytest.FixtureRequest, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> str:
    """A queue of a server of its own, in each layout."""
    monkeypatch.setattr(redis, "CLAIMS_INTERVAL", 0.01)
    return f"{server.url}?layout={request.param}"


class Door:
    """Notes who has to come again."""

    def __init__(self) -> None:
        self.dismissed: list[str] = []

    def dismiss(self, backend: str, reason: str) -> None:
        """See `osmo_operator.names.Door`."""
        assert "uid-1" in reason
        self.dismissed.append(backend)


@asynccontextmanager
async def opened(url: str, of_credential: int = 1000) -> AsyncIterator[tuple[Names, Directory]]:
    """The names as a new operator knows them, and its directory."""
    async with await open_directory(url) as directory:
        yield Names(directory, BackoffConfig(base=0.001), of_credential), directory


@asynccontextmanager
async def keeping(names: Names) -> AsyncIterator[list[str]]:
    """Lets it learn of every name, and put them back; who had to come to the door again."""
    door = Door()
    task = asyncio.create_task(names.keep(door))
    try:
        yield door.dismissed
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_wrong_cluster_cannot_take_a_name_that_an_operator_knows(
    url: str, server: RedisServer
) -> None:
    """Though the store has forgotten it, and before anybody has noticed that."""
    async with opened(url) as (names, directory):
        async with keeping(names):
            await names.register("a", ONE)
            await eventually(lambda: "a" in names.known)
            known = names.known
        server.flush()
        with pytest.raises(BackendTakenError, match=r"uid-1.*uid-2"):
            await names.register("a", TWO)
        assert await directory.claims() == known
        await names.register("a", ONE)


async def test_every_operator_agrees_after_the_store_was_wiped(
    url: str, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where one that knew nothing has let a wrong cluster in meanwhile, who has to go; each
    tells it once."""
    async with opened(url) as (here, directory), opened(url) as (there, _), opened(url) as (new, _):
        async with keeping(here), keeping(there):
            for name in ("a", "freed"):
                await here.register(name, ONE)
            await directory.forget("freed")
            before = await directory.claims()
            await eventually(lambda: here.known == there.known == before)
        server.flush()
        await new.register("a", TWO)
        await new.register("b", TWO)
        taken = (await directory.claims())["b"]
        await new.register("a", Registration())
        async with keeping(new) as dismissed, keeping(here) as others, keeping(there):
            after = before | {"b": taken}
            await eventually(lambda: new.known == here.known == there.known == after)
            await eventually(lambda: dismissed)
            assert (dismissed, others) == (["a"], [])
        assert await directory.claims() == after
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert 1 <= errors.count("the queue lost to whom the names of 1 backend belong") <= 2


@pytest.mark.parametrize("is_wiped", [False, True])
async def test_a_forgotten_name_stays_free(url: str, server: RedisServer, is_wiped: bool) -> None:
    """Though an operator that was cut off meanwhile knows who had it, and the store has perhaps
    forgotten that it was freed: one that was not tells both."""
    async with opened(url) as (late, directory), opened(url) as (names, _):
        async with keeping(late), keeping(names):
            await late.register("a", ONE)
            await eventually(lambda: "a" in late.known and "a" in names.known)
        async with keeping(names):
            await directory.forget("a")
            await eventually(lambda: names.known["a"].registration is None)
        if is_wiped:
            server.flush()
        async with keeping(late), keeping(names):
            await eventually(lambda: late.known == names.known)
        assert await directory.backends() == {}
        await late.register("a", TWO)
        assert await directory.backends() == {"a": TWO}


async def test_what_may_not_be_put_back_is_still_known(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """That it may not is told, and it is tried again at the next change."""
    monkeypatch.setattr(redis, "CLAIMS_INTERVAL", 0.01)
    server.command("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@all", "-evalsha")
    url = server.url.replace("//", "//reader:pw@")
    async with await open_directory(server.url) as directory, opened(url) as (names, _):
        async with keeping(names):
            await directory.register("a", ONE)
            await eventually(lambda: "a" in names.known)
            known = names.known
            server.flush()
            await eventually(lambda: "are not put back" in caplog.text)
            assert names.known == known
            server.command("ACL", "SETUSER", "reader", "+evalsha")
            await directory.register("b", TWO)
            await eventually(lambda: "b" in names.known)
        assert (await directory.claims())["a"] == known["a"]


async def test_a_credential_takes_so_many_names(url: str) -> None:
    """At whichever operator; others have room, and a name that is freed may be taken."""
    one, two = Registration("u", credential="token one"), Registration("u", credential="token two")
    async with (
        opened(url, 2) as (here, directory),
        opened(url, 2) as (there, _),
        keeping(here),
        keeping(there),
    ):
        for name in "ab":
            await here.register(name, one)
        with pytest.raises(QueueUnavailableError, match="token one has taken the names of 2 back"):
            await here.register("c", one)
        await eventually(lambda: {"a", "b"} == there.known.keys() == here.known.keys())
        for names in (here, there):
            with pytest.raises(QueueUnavailableError, match="max_credential_backends"):
                await names.register("c", one)
            await names.register("a", two)
        assert (await directory.backends())["a"].credential == "token one"
        await there.register("c", two)
        await there.register("d", Registration("u"))
        await directory.forget("a")
        await eventually(lambda: here.known["a"].registration is None)
        await here.register("a", one)
