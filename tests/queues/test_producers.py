"""How many producers a queue remembers, and for how long: names that come and go do not pile up."""

import pytest

from osmo_transport.errors import FencedError, QueueUnavailableError
from osmo_transport.message import new_id
from osmo_transport.queues.abc import Queue, QueueConfig
from osmo_transport.queues.memory import queue as memory
from osmo_transport.queues.memory.queue import MemoryQueue
from osmo_transport.queues.redis import queue as redis
from osmo_transport.session import admission
from osmo_transport.session.admission import PRODUCER_MEMORY, STRANGER_MEMORY
from osmo_transport.testing.contracts.queue_suite import FENCED, LOST, STORED, figures
from osmo_transport.testing.feeder import Feeder, report
from osmo_transport.testing.redis_server import RedisServer

MOST = 5


class Store:
    """A queue on a wall clock that stands still, and what it remembers."""

    def __init__(self, server: RedisServer | None) -> None:
        self.now = 1_800_000_000.0
        self._server = server

    async def open(self) -> Queue:
        if self._server is None:
            return await memory.open_queue("memory://", QueueConfig(), wall=lambda: self.now)
        return await redis.open_queue(self._server.url, QueueConfig(), wall=lambda: self.now)

    def remembered(self, queue: Queue) -> tuple[int, ...]:
        """How many producers, times of their connecting, and backends there are."""
        if self._server is None:
            assert isinstance(queue, MemoryQueue)
            record = queue._store.producers
            return len(record._places), len(record._opened), len(record._borders)
        command = self._server.command
        producers = command("HLEN", "{osmo}:producers")
        opened = command("ZCARD", "{osmo}:producers:opened")
        return producers, opened, command("HLEN", "{osmo}:borders")


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Each kind of queue, that remembers `MOST` producers."""
    monkeypatch.setattr(admission, "MAX_PRODUCERS", MOST)
    monkeypatch.setattr(redis, "MAX_PRODUCERS", MOST)
    return Store(None if request.param == "memory" else request.getfixturevalue("server"))


def unheard_of(queue: Queue, count: int) -> list[Feeder]:
    """So many producers with names that nobody had before, each of another backend."""
    return [Feeder(queue, f"{new_id()} ü") for _ in range(count)]


async def test_who_never_appended_is_forgotten(store: Store) -> None:
    """After `STRANGER_MEMORY`, when another new one comes; nothing is left of it. Who appended is
    remembered, and goes on."""
    async with await store.open() as queue:
        known = Feeder(queue, "known")
        assert await known.append(report("a")) is STORED
        strangers = unheard_of(queue, MOST - 1)
        for stranger in strangers:
            await stranger.open()
        store.now += STRANGER_MEMORY - 1
        with pytest.raises(QueueUnavailableError, match=f"remembers {MOST} producers"):
            await Feeder(queue, "late").open()
        assert store.remembered(queue) == (MOST, MOST, MOST)
        store.now += 2
        late = Feeder(queue, "late")
        assert await late.append(report("b")) is STORED
        assert store.remembered(queue) == (2, 2, 2)
        assert await known.append(report("c")) is STORED
        assert (await known.open()).sequence == 2


async def test_a_stranger_that_comes_again_starts_anew(store: Store) -> None:
    """With a higher epoch than it had; what it appends under the old one is told to be lost."""
    async with await store.open() as queue:
        stranger = Feeder(queue, "stranger")
        first = await stranger.open()
        store.now += STRANGER_MEMORY + 1
        await Feeder(queue, "another").open()
        assert await stranger.append(report("a")) is LOST
        assert (await stranger.open()).epoch > first.epoch
        assert await stranger.append(report("a")) is STORED
        assert await figures(queue) == (1, 0, 0)


async def test_no_more_are_remembered_than_there_is_room_for(store: Store) -> None:
    """One more is turned away until there is a place, whatever it claims to know; those that are
    remembered are let in, appended or not, and still fence those before them."""
    async with await store.open() as queue:
        known = unheard_of(queue, MOST)
        for number, feeder in enumerate(known):
            if number % 2:
                assert await feeder.append(report("a")) is STORED
            else:
                await feeder.open()
        late = Feeder(queue, "late")
        for claimed in (late.state, known[1].state):
            with pytest.raises(QueueUnavailableError):
                await late.open(claimed)
        assert store.remembered(queue) == (MOST, MOST, MOST)
        for feeder in known:
            assert await feeder.open() == feeder.state
            successor = Feeder(queue, feeder.producer.backend)
            assert (await successor.open()).epoch > feeder.state.epoch
            assert await feeder.append(report("b")) is FENCED
            with pytest.raises(FencedError):
                await feeder.open()
        assert store.remembered(queue) == (MOST, MOST, MOST)


async def test_who_appended_is_forgotten_after_a_season(store: Store) -> None:
    """Since it connected last, not since it appended last; and not before."""
    async with await store.open() as queue:
        gone, kept = Feeder(queue, "gone"), Feeder(queue, "kept")
        for feeder in (gone, kept):
            assert await feeder.append(report("a")) is STORED
        store.now += PRODUCER_MEMORY - 1
        assert await gone.append(report("b")) is STORED
        await kept.open()
        await Feeder(queue, "another").open()
        assert store.remembered(queue)[0] == 3
        store.now += 2
        await Feeder(queue, "one more").open()
        assert await gone.append(report("c")) is LOST
        assert await kept.append(report("c")) is STORED


async def test_a_flood_of_names_is_forgotten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there were: after their time each new one makes room for more than itself."""
    for module in (admission, redis):
        monkeypatch.setattr(module, "MAX_PRODUCERS", 500)
    async with await store.open() as queue:
        for stranger in unheard_of(queue, 500):
            await stranger.open()
        store.now += STRANGER_MEMORY + 1
        for feeder in unheard_of(queue, 100):
            assert await feeder.append(report("a")) is STORED
        assert store.remembered(queue) == (100, 100, 100)
