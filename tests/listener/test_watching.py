"""The informer as a library: one resource, in a loop."""

import asyncio
from collections.abc import AsyncIterator

import anyio
import pytest

from osmo_listener.errors import ForbiddenError
from osmo_listener.informer import Change, ChangeType, Objects, follow
from osmo_listener.listeners.objects import Pod
from osmo_listener.testing import FakeSource
from tests.helpers import eventually
from tests.listener.harness import INSTANT, make_pod

Told = tuple[ChangeType, str, str]
ADDED, MODIFIED, DELETED = ChangeType.ADDED, ChangeType.MODIFIED, ChangeType.DELETED


def told(change: Change[Pod]) -> Told:
    """A change in short."""
    pod = change.new or change.old
    assert pod is not None
    return change.type, pod.metadata.name, pod.status.phase


async def take(changes: AsyncIterator[Change[Pod]], count: int) -> list[Told]:
    """The next changes."""
    return [told(await anext(changes)) for _ in range(count)]


@pytest.fixture
def source() -> FakeSource[Pod]:
    """Three pods."""
    source: FakeSource[Pod] = FakeSource()
    for name in "abc":
        source.add(make_pod(name))
    return source


async def test_it_begins_with_all_that_there_is(source: FakeSource[Pod]) -> None:
    """The store is complete at once; the loop tells each object and then what follows."""
    async with follow(source) as pods:
        assert len(pods) == 3
        changes = aiter(pods)
        assert await take(changes, 3) == [(ADDED, name, "Pending") for name in "abc"]
        source.modify(make_pod("a", "Running"))
        source.delete(make_pod("b"))
        assert await take(changes, 2) == [(MODIFIED, "a", "Running"), (DELETED, "b", "Pending")]
        assert pods.status().synced


async def test_an_empty_list_is_known_too(source: FakeSource[Pod]) -> None:
    """It enters although there is nothing to tell."""
    async with follow(FakeSource[Pod]()) as pods:
        assert len(pods) == 0


async def test_what_no_retry_mends_is_raised_at_once(source: FakeSource[Pod]) -> None:
    """As what it is, and not in a group."""
    source.fail(ForbiddenError("no rights", code=403))
    with pytest.raises(ForbiddenError, match="no rights"):
        async with follow(source):
            raise AssertionError("it has entered")


async def test_the_loops_own_error_stays_as_it_is(source: FakeSource[Pod]) -> None:
    """The body raises, the watch ends, and nothing wraps the error."""

    async def fail() -> None:
        async with follow(source) as pods:
            async for _ in pods:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()


async def test_a_slow_loop_slows_the_informer_and_misses_nothing(source: FakeSource[Pod]) -> None:
    """While a change is not taken no further one is read, and then each comes in its order."""
    async with follow(source) as pods:
        changes = aiter(pods)
        await take(changes, 3)
        for phase in ("Running", "Succeeded", "Failed"):
            source.modify(make_pod("a", phase))
            await eventually(lambda: pods.store.get("osmo/a") != make_pod("a"))
        assert await take(changes, 3) == [
            (MODIFIED, "a", phase) for phase in ("Running", "Succeeded", "Failed")
        ]


async def test_without_a_loop_the_store_follows(source: FakeSource[Pod]) -> None:
    """Nobody has to iterate who only looks."""
    async with follow(source) as pods:
        source.delete(make_pod("a"))
        await eventually(lambda: len(pods) == 2)
        source.delete(make_pod("b"))
        await eventually(lambda: len(pods) == 1)


async def test_a_loop_that_was_left_holds_nobody_up(source: FakeSource[Pod]) -> None:
    """Neither the store nor a loop that begins later, which is told of all anew."""
    async with follow(source) as pods:
        async for _ in pods:
            break
        source.modify(make_pod("a", "Running"))
        source.delete(make_pod("b"))
        await eventually(lambda: len(pods) == 2)
        assert await take(aiter(pods), 2) == [(ADDED, "a", "Running"), (ADDED, "c", "Pending")]


async def test_two_loops_are_told_the_same(source: FakeSource[Pod]) -> None:
    """Each from where it began."""
    async with follow(source) as pods:
        one, two = aiter(pods), aiter(pods)
        assert await take(one, 3) == await take(two, 3)
        source.modify(make_pod("a", "Running"))
        first, second = await asyncio.gather(take(one, 1), take(two, 1))
        assert first == second == [(MODIFIED, "a", "Running")]


async def test_a_loop_of_another_task_ends_with_the_watch(source: FakeSource[Pod]) -> None:
    """It does not wait for what nobody will tell."""

    async def names(pods: Objects[Pod]) -> list[Told]:
        return [told(change) async for change in pods]

    async with follow(source) as pods:
        reading = asyncio.create_task(names(pods))
        for _ in range(10):
            await asyncio.sleep(0)
    assert len(await reading) == 3
    assert [told(change) async for change in pods] == await reading


async def test_a_missed_deletion_is_told(source: FakeSource[Pod]) -> None:
    """As VANISHED: what was known of it may not be its end."""
    async with follow(source, INSTANT) as pods:
        changes = aiter(pods)
        await take(changes, 3)
        source.fail(ForbiddenError("no rights for a while", code=403))
        source.reset_watch()
        source.delete(make_pod("c"))
        source.expire()
        assert await take(changes, 1) == [(ChangeType.VANISHED, "c", "Pending")]


async def test_it_ends_in_a_cancel_scope(source: FakeSource[Pod]) -> None:
    """While it waits for the first list, in the body and in a loop; nothing goes on running."""
    before = asyncio.all_tasks()
    source.hold_lists()
    with anyio.move_on_after(0.01) as waiting:
        async with follow(source):
            raise AssertionError("it has entered")
    source.release_lists()
    with anyio.CancelScope() as inside:
        async with follow(source):
            inside.cancel()
            await anyio.sleep_forever()
    with anyio.CancelScope() as looping:
        async with follow(source) as pods:
            async for change in pods:
                if told(change)[1] == "c":
                    looping.cancel()
    assert waiting.cancelled_caught
    assert inside.cancelled_caught
    assert looping.cancelled_caught
    await eventually(lambda: asyncio.all_tasks() == before)
