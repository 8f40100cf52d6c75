"""One informer for several handlers: each is told as if it had an informer of its own."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from osmo_listener.informer import Informer, InformerConfig
from osmo_listener.informer.fanout import Branch, Fanout
from osmo_listener.informer.store import Change, ChangeType
from osmo_listener.listeners.objects import Pod
from osmo_listener.testing import FakeSource
from tests.helpers import eventually
from tests.listener.harness import INSTANT, Recorder, make_pod

ADDED, MODIFIED, DELETED, VANISHED, RESYNC = ChangeType


def is_running(pod: Pod) -> bool:
    """The condition of the branch under test."""
    return pod.status.phase == "Running"


class Fan:
    """An informer that tells two recorders: one of everything, one of running pods."""

    def __init__(self, source: FakeSource[Pod], config: InformerConfig = INSTANT) -> None:
        self.all, self.running = Recorder(), Recorder()
        self.everything: Branch[Pod] = Branch(self.all)
        self.branch = Branch(self.running, is_running)
        fanout = Fanout([self.everything, self.branch])
        self.informer: Informer[Pod] = Informer(source, fanout, config)

    def selected(self) -> dict[str, Pod]:
        """What the second recorder has to know, by name."""
        return {name: pod for name, pod in self.all.pods.items() if is_running(pod)}


@contextlib.asynccontextmanager
async def fan_out(source: FakeSource[Pod], config: InformerConfig = INSTANT) -> AsyncIterator[Fan]:
    fan = Fan(source, config)
    task = asyncio.create_task(fan.informer.run())
    try:
        await fan.informer.synced()
        yield fan
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_first_list() -> None:
    """Each handler is told of its objects, and `synced` with its own count."""
    source: FakeSource[Pod] = FakeSource()
    for name, phase in (("a", "Running"), ("b", "Pending"), ("c", "Running")):
        source.add(make_pod(name, phase))
    async with fan_out(source) as fan:
        assert sorted(fan.all.pods) == ["a", "b", "c"]
        assert sorted(fan.running.pods) == ["a", "c"]
        assert fan.all.syncs == [(source.version, 3)]
        assert fan.running.syncs == [(source.version, 2)]
        names = {pod.metadata.name for pod in fan.branch.among(fan.informer.store.values())}
        assert names == {"a", "c"}


async def test_object_that_comes_and_goes_by_the_condition() -> None:
    """Beginning to fulfil the condition is ADDED, ceasing to is DELETED with the last state that
    did, and what happens outside of it is not told."""
    source: FakeSource[Pod] = FakeSource()
    source.add(make_pod("a", "Pending"))
    async with fan_out(source) as fan:
        for phase in ("Unknown", "Running", "Running", "Failed", "Succeeded"):
            source.modify(make_pod("a", phase))
        source.delete(make_pod("a"))
        await eventually(lambda: not fan.all.pods)
        assert [type_ for type_, _ in fan.all.told("a")] == [ADDED, *[MODIFIED] * 5, DELETED]
        told = [(c.type, c.old, c.new) for c in fan.running.changes]
        assert [type_ for type_, _, _ in told] == [ADDED, MODIFIED, DELETED]
        assert told[0][1] is None
        assert told[2][1:] == (told[1][2], None)
        assert [c.resource_version for c in fan.running.changes] == [103, 104, 105]


async def test_deletion_whose_final_state_is_outside_the_condition() -> None:
    """Who was told of an object is told of its end, whatever its final state says."""
    changes: list[Change[Pod]] = []
    branch = Branch(Recorder(), is_running)
    known, last = make_pod("a", "Running", version=5), make_pod("a", "Failed", version=7)
    changes += branch.select([Change(ADDED, None, known, 5)])
    changes += branch.select([Change(DELETED, last, None, 7)])
    assert changes == [Change(ADDED, None, known, 5), Change(DELETED, last, None, 7)]
    assert len(branch) == 0
    assert branch.select([Change(DELETED, known, None, 9)]) == []


def with_resync(seconds: float) -> InformerConfig:
    """Without delays, and with a resync."""
    return InformerConfig(reflector=INSTANT.reflector, resync_interval=seconds)


async def test_resync_is_told_to_those_who_know_the_object() -> None:
    """Each handler is shown its objects once more, and no other."""
    source: FakeSource[Pod] = FakeSource()
    source.add(make_pod("a", "Running"))
    source.add(make_pod("b", "Pending"))
    async with fan_out(source, with_resync(0.001)) as fan:
        await eventually(lambda: (RESYNC, "Pending") in fan.all.told("b"))
        await eventually(lambda: (RESYNC, "Running") in fan.running.told("a"))
        assert fan.running.told("b") == []


async def test_restored_cluster_is_told_to_all() -> None:
    """Each handler hears that versions went back, then its objects, then `synced`."""
    source: FakeSource[Pod] = FakeSource()
    source.add(make_pod("a", "Running"))
    async with fan_out(source) as fan:
        source.restore([make_pod("b", "Running", version=40), make_pod("c", version=41)], 50)
        await eventually(lambda: len(source.watched_from) == 2)
        source.bookmark()
        await eventually(lambda: len(fan.running.syncs) == 2)
        for recorder in (fan.all, fan.running):
            assert recorder.calls[-3:] == ["regressed", "changed", "synced"]
        assert list(fan.running.pods) == ["b"]
        assert fan.running.syncs[-1] == (50, 1)


async def test_handlers_are_told_one_after_the_other() -> None:
    """While the first one is busy the second one is not told, and nothing is read."""
    source: FakeSource[Pod] = FakeSource()
    async with fan_out(source) as fan:
        fan.all.gate.clear()
        source.add(make_pod("a", "Running"))
        await eventually(lambda: fan.all.pods)
        for _ in range(20):
            await asyncio.sleep(0)
        assert not fan.running.pods
        fan.all.gate.set()
        await eventually(lambda: fan.running.pods)


VERBS = ("write", "delete", "recreate", "reset", "expire", "end")
steps = st.lists(
    st.tuples(
        st.sampled_from(VERBS),
        st.sampled_from("abc"),
        st.sampled_from(["Running", "Pending", "Failed"]),
    ),
    max_size=25,
)


UNSEEN = [
    ("write", "a", "Running"),
    ("write", "b", "Running"),
    ("reset", "", ""),
    ("expire", "", ""),
    ("write", "c", "Running"),
]
"""The second pod is forgotten by the history before a watch has shown it."""


@settings(max_examples=100, deadline=None)
@example(UNSEEN)
@given(steps)
def test_each_handler_knows_its_part(script: Sequence[tuple[str, str, str]]) -> None:
    """Whatever happens, gaps in the watch included, a handler's changes fit each other and lead to
    the objects that fulfil its condition."""

    async def play() -> None:
        source: FakeSource[Pod] = FakeSource()
        live: dict[str, Pod] = {}
        uid = 0
        async with fan_out(source) as fan:
            for verb, name, phase in script:
                if verb == "reset":
                    source.reset_watch()
                elif verb == "expire":
                    source.expire()
                elif verb == "end":
                    source.end_watch()
                else:
                    if verb != "write" and name in live:
                        source.delete(live.pop(name))
                    if verb == "write" and name in live:
                        pod = make_pod(name, phase, uid=live[name].metadata.uid)
                        live[name] = source.modify(pod)
                    elif verb != "delete":
                        uid += 1
                        live[name] = source.add(make_pod(name, phase, uid=f"uid-{uid}"))
                if uid % 2:
                    await asyncio.sleep(0)
            await eventually(lambda: fan.all.pods == live)
            await eventually(lambda: fan.running.pods == fan.selected())
            assert len(fan.branch) == len(fan.running.pods)
            assert len(fan.everything) == len(live)

    asyncio.run(play())


async def test_failure_of_one_handler_ends_the_informer() -> None:
    """An error of a handler is not hidden from the informer's owner."""

    class Failing(Recorder):
        async def synced(self, resource_version: int, count: int) -> None:
            raise LookupError("no")

    fanout = Fanout([Branch[Pod](Failing()), Branch[Pod](after := Recorder())])
    informer: Informer[Pod] = Informer(FakeSource(), fanout, INSTANT)
    with pytest.raises(LookupError, match="no"):
        await informer.run()
    assert after.syncs == []


def test_states_are_passed_on_as_they_are() -> None:
    """A change of an object that stays within the condition is not touched."""
    branch = Branch(Recorder(), is_running)
    old = make_pod("a", "Running", version=5)
    new = msgspec.structs.replace(old, metadata=make_pod("a", version=6).metadata)
    branch.select([Change(ADDED, None, old, 5)])
    change = Change(MODIFIED, old, new, 6)
    assert branch.select([change])[0] is change
    gone = Change(VANISHED, new, None, 9)
    assert branch.select([gone])[0] is gone
