"""The informer towards its owner: order, back pressure, resync, synced state."""

import asyncio
from dataclasses import replace

import pytest

from osmo_listener.informer import Informer, InformerConfig
from osmo_listener.informer.store import ChangeType
from osmo_listener.listeners.objects import Pod
from osmo_listener.testing import FakeSource
from tests.helpers import eventually
from tests.listener.harness import QUICK, Recorder, Time, make_pod, running


def cluster(pods: int, page_size: int = 2) -> FakeSource[Pod]:
    source: FakeSource[Pod] = FakeSource(page_size=page_size)
    for number in range(pods):
        source.add(make_pod(f"pod-{number:04}"))
    return source


async def test_first_page_is_told_before_the_second_comes() -> None:
    """The owner hears of the first objects while the list is still going on."""
    source = cluster(4)
    source.hold_lists()
    async with running(source) as (informer, recorder):
        await eventually(lambda: recorder.pods)
        assert len(recorder.pods) == 2
        assert not informer.status().synced
        source.release_lists()
        await informer.synced()
        assert len(recorder.pods) == 4


async def test_synced_comes_after_every_object() -> None:
    """`synced` is told once the last page was, with the list's version and the count."""
    source = cluster(5)
    async with running(source) as (informer, recorder):
        await informer.synced()
        assert recorder.calls == ["changed", "synced"]
        assert recorder.syncs == [(source.version, 5)]
        assert informer.status().synced
        assert informer.resource_version == source.version


async def test_empty_cluster_is_synced() -> None:
    """A list without objects is a list: the owner is told so."""
    async with running(cluster(0)) as (informer, recorder):
        await informer.synced()
        assert recorder.calls == ["synced"]
        assert recorder.syncs == [(100, 0)]


async def test_store_is_ahead_of_the_handler() -> None:
    """While the handler is told of a change, the store shows it already."""
    source = cluster(1)
    async with running(source) as (informer, recorder):
        await informer.synced()
        recorder.gate.clear()
        source.modify(make_pod("pod-0000", "Running"))
        await eventually(lambda: recorder.told("pod-0000")[-1][1] == "Running")
        pod = informer.store.get("osmo/pod-0000")
        assert pod is not None
        assert pod.status.phase == "Running"
        assert informer.resource_version == source.version


async def test_slow_handler_stops_the_reading() -> None:
    """While the handler is busy nothing more is read, so nothing piles up; later it comes."""
    source = cluster(1)
    async with running(source) as (informer, recorder):
        await informer.synced()
        recorder.gate.clear()
        source.add(make_pod("first"))
        await eventually(lambda: "first" in recorder.pods)
        for number in range(50):
            source.add(make_pod(f"later-{number}"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(informer.store) == 2
        recorder.gate.set()
        await eventually(lambda: len(recorder.pods) == 52)


async def test_resync_shows_every_object_again() -> None:
    """At the interval each object is told once more, in slices, as RESYNC."""
    source, time = cluster(1200, page_size=500), Time()
    config = replace(InformerConfig(), resync_interval=300.0)
    async with running(source, config, time) as (informer, recorder):
        await informer.synced()
        await eventually(lambda: len(recorder.changes) >= 2400)
        again = recorder.changes[1200:2400]
        assert {change.type for change in again} == {ChangeType.RESYNC}
        assert {c.new.metadata.name for c in again if c.new} == recorder.pods.keys()
        assert all(c.old is c.new for c in again)
        assert time.slept[0] == 300.0


async def test_resync_does_not_begin_before_the_list_is_complete() -> None:
    """Until synced there is nothing to show again."""
    source, time = cluster(4), Time()
    source.expire_lists(10)
    async with running(source, replace(InformerConfig(), resync_interval=300.0), time) as (
        informer,
        recorder,
    ):
        await informer.synced()
        assert {change.type for change in recorder.changes} == {ChangeType.ADDED}


async def test_resync_shows_what_is_true_at_its_turn() -> None:
    """An object that changes or goes while a resync waits for its turn is shown as it is then, or
    not at all."""
    source = cluster(600, page_size=600)
    config = replace(QUICK, resync_interval=0.005)
    async with running(source, config) as (informer, recorder):
        await informer.synced()
        recorder.gate.clear()
        await eventually(lambda: len(recorder.changes) == 600 + 500)
        source.delete(make_pod("pod-0599"))
        source.modify(make_pod("pod-0598", "Running"))
        recorder.gate.set()
        await eventually(lambda: recorder.told("pod-0598")[-1] == (ChangeType.RESYNC, "Running"))
        assert recorder.told("pod-0599")[-1][0] is ChangeType.DELETED


async def test_failing_handler_ends_the_informer() -> None:
    """What the handler raises reaches the informer's owner as it is."""

    class Failing(Recorder):
        async def synced(self, resource_version: int, count: int) -> None:
            raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        await Informer(cluster(1), Failing(), QUICK).run()


async def test_cancel_leaves_nothing_behind() -> None:
    """A cancelled informer leaves no task, wherever it was."""
    before = asyncio.all_tasks()
    for steps in range(40):
        source = cluster(3)
        task = asyncio.create_task(Informer(source, Recorder()).run())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == before


async def test_status_tells_of_silence() -> None:
    """The seconds since the server was last heard of grow, and a bookmark resets them."""
    source, time = cluster(1), Time()
    async with running(source, replace(InformerConfig(), resync_interval=None), time) as (
        informer,
        _,
    ):
        await informer.synced()
        time.now += 50
        assert informer.status().silence == 50
        source.bookmark()
        await eventually(lambda: informer.status().silence == 0)
        assert informer.status().watches == 1
