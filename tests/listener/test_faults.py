"""The informer on a server that misbehaves on demand, over real HTTP."""

import pytest

from osmo_listener.informer.store import ChangeType
from osmo_listener.kubernetes.config import ListMode, ListWatchConfig, Resource
from osmo_listener.kubernetes.listwatch import ListWatch
from osmo_listener.listeners.objects import Pod
from osmo_simulator.faults import AnyFault, Cut, Drop, Fail, Gone, Hang, Slow, Throttle
from tests.helpers import eventually
from tests.listener.clusters import PODS, Simulated
from tests.listener.harness import running

NAMES = tuple(f"pod-{number}" for number in range(12))


def source_of(cluster: Simulated, mode: ListMode = ListMode.PAGES) -> ListWatch[Pod]:
    config = ListWatchConfig(mode=mode, first_page_size=2, page_size=4, silence=0.3)
    return ListWatch(cluster.credentials(), Resource(path=PODS, type=Pod), config)


@pytest.mark.parametrize(
    ("mode", "verb"),
    [(ListMode.PAGES, "list"), (ListMode.PAGES, "watch"), (ListMode.STREAM, "watch")],
)
@pytest.mark.parametrize(
    "fault",
    [
        Drop(),
        Cut(after_bytes=0),
        Cut(after_bytes=700),
        Fail(code=500),
        Fail(code=503),
        Slow(delay=0.05),
    ],
    ids=repr,
)
async def test_trouble(simulated: Simulated, fault: AnyFault, verb: str, mode: ListMode) -> None:
    """Whatever happens to two requests, be they lists or watches, the changes before, during and
    after them are all told, and nothing twice."""
    await simulated.create(*NAMES)
    simulated.simulator.faults.inject(_on(fault, verb))
    async with running(source_of(simulated, mode)) as (informer, recorder):
        await informer.synced()
        await simulated.set_phase("pod-0", "Running")
        await simulated.delete("pod-1")
        await simulated.create("new")
        await eventually(lambda: "new" in recorder.pods)
        truth = await simulated.pods()
        got = {n: (p.metadata.uid, p.metadata.resource_version) for n, p in recorder.pods.items()}
        assert got == truth
        assert isinstance(fault, Slow) or not simulated.simulator.faults.waiting()
        assert informer.status().lists == 1


def _on(fault: AnyFault, verb: str) -> AnyFault:
    fields = {name: getattr(fault, name) for name in fault.__struct_fields__}
    return type(fault)(**fields | {"verb": verb, "resource": "pods", "count": 2})


@pytest.mark.parametrize("as_event", [False, True])
async def test_gone(simulated: Simulated, as_event: bool) -> None:
    """410, as a status and as an event, leads to a list that finds the missed delete."""
    await simulated.create(*NAMES)
    async with running(source_of(simulated)) as (informer, recorder):
        await informer.synced()
        simulated.simulator.faults.inject(Gone(verb="watch", as_event=as_event))
        simulated.simulator.disconnect("watch")
        await simulated.delete("pod-1")
        await eventually(lambda: len(recorder.syncs) == 2)
        assert recorder.told("pod-1")[-1][0] is ChangeType.VANISHED
        assert informer.status().failures["ExpiredError"] == 1


async def test_gone_in_the_middle_of_a_list(simulated: Simulated) -> None:
    """410 for the second page begins the list anew."""
    await simulated.create(*NAMES)
    simulated.simulator.faults.inject(Slow(verb="list", delay=0.0))
    simulated.simulator.faults.inject(Gone(verb="list"))
    async with running(source_of(simulated)) as (informer, recorder):
        await informer.synced()
        assert recorder.pods.keys() == set(NAMES)
        assert informer.status().failures == {"ExpiredError": 1}


async def test_throttle(simulated: Simulated) -> None:
    """429 is waited out, and the watch goes on without a list."""
    await simulated.create(*NAMES)
    async with running(source_of(simulated)) as (informer, recorder):
        await informer.synced()
        simulated.simulator.faults.inject(Throttle(verb="watch", retry_after=0))
        simulated.simulator.disconnect("watch")
        await simulated.create("new")
        await eventually(lambda: "new" in recorder.pods)
        assert informer.status().lists == 1
        assert informer.status().failures["ThrottledError"] == 1


async def test_restart_with_compaction(simulated: Simulated) -> None:
    """A server that restarts and has forgotten its history is listed again, with all deletes."""
    await simulated.create(*NAMES)
    async with running(source_of(simulated)) as (informer, recorder):
        await informer.synced()
        simulated.simulator.faults.inject(Drop(verb="watch", count=3))
        simulated.simulator.disconnect("watch")
        await simulated.delete("pod-2")
        await simulated.set_phase("pod-3", "Failed")
        await simulated.simulator.restart(down=0.05)
        await eventually(lambda: "pod-2" not in recorder.pods)
        await eventually(lambda: recorder.pods["pod-3"].status.phase == "Failed")
        truth = await simulated.pods()
        assert recorder.pods.keys() == truth.keys()


async def test_silent_server(simulated: Simulated) -> None:
    """A watch that hangs after its head is replaced; without bookmarks nobody is told."""
    await simulated.create(*NAMES)
    simulated.simulator.faults.inject(Hang(verb="watch", after_bytes=0))
    async with running(source_of(simulated)) as (informer, recorder):
        await informer.synced()
        await simulated.create("new")
        await eventually(lambda: "new" in recorder.pods)
        assert informer.status().failures == {}
        assert informer.status().lists == 1


async def test_revoked_token(simulated: Simulated) -> None:
    """401 and 403 in mid-run are waited out; nothing is forgotten meanwhile."""
    await simulated.create(*NAMES)
    async with running(source_of(simulated)) as (informer, recorder):
        await informer.synced()
        for code in (401, 403):
            simulated.simulator.faults.inject(Fail(verb="watch", code=code, count=2))
        simulated.simulator.disconnect("watch")
        await simulated.delete("pod-0")
        await eventually(lambda: "pod-0" not in recorder.pods)
        failures = informer.status().failures
        assert (failures["UnauthorizedError"], failures["ForbiddenError"]) == (2, 2)
        assert informer.status().lists == 1
