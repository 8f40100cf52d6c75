"""Whose lease is renewed, whose ends, and who is told that it is his turn."""

import asyncio
from collections.abc import Collection, Sequence
from functools import partial

import pytest

from osmo_transport import QueueUnavailableError
from osmo_transport._places import Hold, Places
from osmo_transport.queues.delivery import Producer
from osmo_transport.queues.leases import Renewal
from tests.helpers import eventually

ONE, TWO = Producer("backend", "one"), Producer("backend", "two")
LEASE = 12.0


class Book:
    """A store that notes what it is asked, and clients that are heard of when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.holds: list[Hold] = []
        self.asked: list[Renewal] = []
        self.free: set[Producer] = set()
        self.away = False
        self.defects = 0
        """How often it will fail in a way that no store may."""
        self.wanted: list[set[Producer]] = []
        self.places = Places(self.renew, LEASE, lambda: self.holds, lambda: self.now)

    async def renew(
        self, renewals: Sequence[Renewal], wanted: Collection[Producer]
    ) -> Collection[Producer]:
        if self.away:
            raise QueueUnavailableError("the store is away")
        if self.defects:
            self.defects -= 1
            raise KeyError(self.defects)
        self.asked += renewals
        self.wanted.append(set(wanted))
        return self.free & set(wanted)

    async def look(self) -> list[Renewal]:
        """What one look at the leases asks for."""
        self.asked = []
        await self.places._look()
        return self.asked


async def test_a_lease_is_renewed_with_signs_of_life_alone() -> None:
    """From when its holder was heard of, and not more often than every two seconds."""
    book = Book()
    book.holds = [Hold(ONE, "c1", 100.0)]
    assert await book.look() == []
    book.now = 105.0
    assert await book.look() == []
    book.holds = [Hold(ONE, "c1", 101.0)]
    assert await book.look() == []
    book.holds = [Hold(ONE, "c1", 104.0)]
    assert await book.look() == [Renewal(ONE, "c1", LEASE - 1.0)]
    assert await book.look() == []


async def test_who_has_gone_is_told_once() -> None:
    """With what is left of his time; while the store is away it is kept, until nobody waits for him
    any more."""
    book = Book()
    book.places.end(ONE, "c1", 2.0)
    book.places.end(TWO, "c2", 0.0)
    book.away = True
    assert await book.look() == []
    book.now += 1.5
    book.away = False
    assert await book.look() == [Renewal(ONE, "c1", 0.5), Renewal(TWO, "c2", 0.0)]
    assert await book.look() == []
    book.places.end(ONE, "c1", 2.0)
    book.away = True
    book.now += 2.0 + LEASE
    assert await book.look() == []
    book.away = False
    assert await book.look() == []


async def test_a_renewal_that_failed_is_tried_again() -> None:
    """Nothing counts as told that the store has not answered."""
    book = Book()
    book.holds = [Hold(ONE, "c1", 100.0)]
    await book.look()
    book.holds, book.now = [Hold(ONE, "c1", 103.0)], 103.0
    book.away = True
    await book.look()
    book.away = False
    assert await book.look() == [Renewal(ONE, "c1", LEASE)]


async def test_who_waits_is_woken_for_a_place_that_is_free() -> None:
    """At once when a client of this server has gone; one that gives up waiting is forgotten."""
    book = Book()
    running = asyncio.create_task(book.places.run())
    waiting = [asyncio.create_task(book.places.vacancy(each)) for each in (ONE, ONE, TWO, TWO)]
    await asyncio.sleep(0)
    waiting[3].cancel()
    book.free = {ONE}
    book.places.end(ONE, "c1", 0.0)
    await eventually(lambda: waiting[0].done() and waiting[1].done())
    assert not waiting[2].done()
    assert set(book.places._waiting) == {TWO}
    for task in (running, waiting[2]):
        task.cancel()
    await asyncio.gather(running, *waiting, return_exceptions=True)
    assert not book.places._waiting


async def test_who_goes_costs_nothing_of_all_the_others() -> None:
    """Between two looks the store is told who has gone, and asked for those alone who wait for
    him: however many hold a place, wait, or go."""
    book = Book()
    running = asyncio.create_task(book.places.run())
    waiting = [asyncio.create_task(book.places.vacancy(each)) for each in (ONE, TWO)]
    await eventually(lambda: book.wanted == [{ONE, TWO}])
    book.holds = [Hold(TWO, "c2", 0.0)]
    looks = 0

    def holds() -> list[Hold]:
        nonlocal looks
        looks += 1
        return book.holds

    book.places._holds = holds
    for number in range(10):
        book.places.end(ONE, f"c{number}", 0.0)
        await eventually(partial(lambda count: len(book.wanted) == count, number + 2))
    assert book.wanted[1:] == [{ONE}] * 10
    assert looks == 0
    book.now += 1.0
    book.places.end(ONE, "c", 0.0)
    await eventually(lambda: looks == 1)
    for task in (running, *waiting):
        task.cancel()
    await asyncio.gather(running, *waiting, return_exceptions=True)


async def test_a_defect_of_a_store_ends_no_renewals(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged; whoever waits is woken when the store is right again."""
    book = Book()
    book.defects, book.free = 2, {ONE}
    running = asyncio.create_task(book.places.run())
    waiting = asyncio.create_task(book.places.vacancy(ONE))
    for _ in range(3):
        book.places.end(TWO, "c2", 0.0)
        await eventually(lambda: not book.places._gone.is_set())
    book.places.end(ONE, "c1", 0.0)
    await eventually(waiting.done)
    assert caplog.text.count("a defect of this program") == 2
    running.cancel()
    await asyncio.wait([running])
