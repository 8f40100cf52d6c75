"""Every directory keeps the contract; Redis in both layouts, in the preferred version and in the
oldest supported one."""

import logging
from contextlib import aclosing

import pytest

from osmo_reports import Directory, Registration, open_directory
from osmo_reports.directory import MAX_BACKENDS, Claim, RuleSet, redis
from osmo_reports.errors import BackendTakenError
from osmo_reports.testing.directory_contract import DirectoryContract
from osmo_transport.errors import QueueUnavailableError, UnknownSchemeError, UsageError
from osmo_transport.queues.redis.client import RedisClient
from osmo_transport.testing.contracts.queue_suite import PATIENCE
from osmo_transport.testing.patience import patience
from osmo_transport.testing.redis_server import RedisServer


class TestMemoryDirectory(DirectoryContract):
    """`memory://NAME`."""

    async def open(self, max_backends: int = MAX_BACKENDS) -> Directory:
        return await open_directory(f"memory://{self.name}", max_backends=max_backends)


class InRedis(DirectoryContract):
    """`redis://`."""

    server: RedisServer
    options = ""

    @pytest.fixture(autouse=True)
    def _at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(redis, "CLAIMS_INTERVAL", 0.01)

    async def open(self, max_backends: int = MAX_BACKENDS) -> Directory:
        url = f"{self.server.url}?namespace={self.name}{self.options}"
        return await open_directory(url, max_backends=max_backends)


class TestRedisDirectory(InRedis):
    """Beside a queue in our own layout."""

    @pytest.fixture(autouse=True)
    def _server(self, redis_server: RedisServer) -> None:
        self.server = redis_server


class TestOldestRedisDirectory(InRedis):
    """The same on the oldest supported server."""

    @pytest.fixture(autouse=True)
    def _server(self, oldest_redis_server: RedisServer) -> None:
        self.server = oldest_redis_server


class TestOsmoLayout(TestRedisDirectory):
    """Beside a queue in the deployed layout."""

    options = "&layout=osmo"


class TestOldestOsmoLayout(TestOldestRedisDirectory):
    """The same on the oldest supported server."""

    options = "&layout=osmo"


async def test_without_a_name_it_is_its_openers_own() -> None:
    """`memory://` opened twice are two directories."""
    async with (
        await open_directory("memory://") as one,
        await open_directory("memory://") as two,
    ):
        await one.register("a", Registration("uid"))
        assert await two.backends() == {}


async def test_a_name_is_shared_while_it_is_open() -> None:
    """After the last opener is gone it begins anew, as the queue beside it."""
    one = await open_directory("memory://shared directory")
    await one.register("a", Registration("uid"))
    await one.aclose()
    del one
    async with await open_directory("memory://shared directory") as again:
        assert await again.backends() == {}


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
async def test_versions_rise_by_the_stores_own_clock(server: RedisServer, scheme: str) -> None:
    """Also after the store was wiped: those who ask need not agree on the time."""
    url = server.url.replace("redis", scheme)
    async with await open_directory(url) as directory:
        before = await directory.set_rules("a", {"Ready": "True"})
        newer = await directory.set_rules("a", {"Ready": "False"})
        server.flush()
        assert await directory.rules() == {}
        after = await directory.set_rules("a", {"Ready": "True"})
        seconds, _ = server.command("TIME")
        assert newer.version > before.version
        assert after.version >= before.version
        assert after.version // 1000 in (int(seconds) - 1, int(seconds))


@pytest.mark.parametrize("layout", ["own", "osmo"])
async def test_who_follows_notices_that_the_store_lost_all(
    server: RedisServer, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though a store that was wiped wakes nobody."""
    monkeypatch.setattr(redis, "CLAIMS_INTERVAL", 0.01)
    monkeypatch.setattr(redis, "BLOCK", 0.01)
    async with await open_directory(f"{server.url}?layout={layout}") as directory:
        await directory.set_rules("a", {"Ready": "True"})
        await directory.register("a", Registration("uid"))
        async with (
            patience(PATIENCE),
            aclosing(directory.follow_rules()) as rules,
            aclosing(directory.follow_claims()) as claims,
        ):
            assert set(await anext(rules)) == set(await anext(claims)) == {"a"}
            server.flush()
            assert not await anext(rules)
            assert not await anext(claims)


async def test_what_came_while_it_was_read_is_missed_when_it_is_lost(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the store looks then as it did before."""
    monkeypatch.setattr(redis, "CLAIMS_INTERVAL", 0.01)
    monkeypatch.setattr(redis, "BLOCK", 0.01)
    async with (
        await open_directory(server.url) as directory,
        await open_directory(server.url) as other,
    ):
        assert isinstance(directory, redis.RedisDirectory)
        read_claims, read_rules = directory.claims, directory._read

        async def claims() -> dict[str, Claim]:
            await other.register("a", Registration("uid"))
            return await read_claims()

        async def rules(client: RedisClient) -> dict[str, RuleSet]:
            await other.set_rules("a", {"Ready": "True"})
            return await read_rules(client)

        async with (
            patience(PATIENCE),
            aclosing(directory.follow_claims()) as followed_claims,
            aclosing(directory.follow_rules()) as followed_rules,
        ):
            with monkeypatch.context() as meanwhile:
                meanwhile.setattr(directory, "claims", claims)
                assert set(await anext(followed_claims)) == {"a"}
            server.flush()
            assert not await anext(followed_claims)
            with monkeypatch.context() as meanwhile:
                meanwhile.setattr(directory, "_read", rules)
                assert set(await anext(followed_rules)) == {"a"}
            server.flush()
            assert not await anext(followed_rules)


async def test_a_name_without_times_counts_as_taken_first(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a store that an operator wrote who kept none: its cluster keeps the name, until it is
    forgotten. What somebody wrote by hand keeps nobody from the others."""
    monkeypatch.setattr(redis, "MAX_FREED", 1)
    async with await open_directory(server.url) as directory:
        server.command("HSET", "{osmo}:backends", "a", 'uid-1\n{"cluster_uid":"uid-1"}')
        server.command("HSET", "{osmo}:backends:since", "b", "no times")
        with pytest.raises(BackendTakenError):
            await directory.register("a", Registration("uid-2"))
        old = await directory.claims()
        assert old == {"a": Claim(Registration("uid-1"))}
        assert not await directory.register("a", Registration("uid-1"))
        assert await directory.forget("a")
        await directory.restore_claims(old)
        assert await directory.register("a", Registration("uid-2"))
        server.command("HSET", "{osmo}:backends", "c", "no cluster")
        assert not await directory.register("c", Registration("uid-3"))
        await directory.restore_claims({"c": Claim(Registration("uid-2"), 1)})
        assert {name: each.cluster_uid for name, each in (await directory.backends()).items()} == {
            "a": "uid-2",
            "c": "uid-2",
        }


async def test_rules_that_cannot_be_read_are_left_out(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """What somebody wrote by hand keeps nobody from those of the other backends."""
    async with await open_directory(server.url) as directory:
        kept = await directory.set_rules("a", {"Ready": "True"})
        for name, text in (("b", "no number"), ("c", "7 no JSON"), ("d", '8 {"Ready": 1}')):
            server.command("HSET", "{osmo}:rules", name, text)
        assert await directory.rules() == {"a": kept}
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len([text for text in warnings if "cannot be read" in text]) == 3


async def test_a_server_that_is_away_is_told() -> None:
    """At the first call: nothing is asked of it before."""
    async with await open_directory("redis://127.0.0.1:1") as directory:
        with pytest.raises(QueueUnavailableError):
            await directory.backends()


async def test_refuses_a_wrong_url() -> None:
    """One that no directory is beside, or that is none."""
    with pytest.raises(UnknownSchemeError, match=r"beside the queue.* memory://.*redis://"):
        await open_directory("other://h")
    with pytest.raises(UsageError):
        await open_directory("redis://h:port")
    with pytest.raises(UsageError):
        await open_directory("memory://name/path")
