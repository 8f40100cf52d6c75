"""The informer against the simulator and a real API server: what passes on both is Kubernetes."""

import random

import pytest

from osmo_listener.errors import NotFoundError, UnauthorizedError, UntrustedError
from osmo_listener.informer import Informer
from osmo_listener.informer.store import ChangeType
from osmo_listener.kubernetes.config import Encoding, ListMode, ListWatchConfig, Resource
from osmo_listener.kubernetes.listwatch import ListWatch
from osmo_listener.listeners.objects import Pod
from tests.helpers import eventually
from tests.listener.clusters import PODS, Cluster, Proxy
from tests.listener.harness import QUICK, Recorder, running

Names = dict[str, tuple[str, str]]


def source_of(
    cluster: Cluster,
    config: ListWatchConfig | None = None,
    *,
    port: int | None = None,
    path: str = PODS,
    label_selector: str = "",
    field_selector: str = "",
) -> ListWatch[Pod]:
    resource = Resource(
        path=path, type=Pod, label_selector=label_selector, field_selector=field_selector
    )
    return ListWatch(cluster.credentials(port=port), resource, config)


def known(recorder: Recorder) -> Names:
    """What a reader of the changes knows, in the form of `Cluster.pods`."""
    return {
        name: (pod.metadata.uid, pod.metadata.resource_version)
        for name, pod in recorder.pods.items()
    }


@pytest.mark.parametrize("encoding", Encoding)
@pytest.mark.parametrize("mode", ListMode)
async def test_existing_pods(cluster: Cluster, mode: ListMode, encoding: Encoding) -> None:
    """Every pod that exists is told, over several pages or as a stream, and then that it is all."""
    await cluster.create(*(f"pod-{number:03}" for number in range(60)), padding=2000)
    config = ListWatchConfig(mode=mode, encoding=encoding, first_page_size=5, page_size=20)
    source = source_of(cluster, config)
    async with running(source) as (informer, recorder):
        await informer.synced()
        assert known(recorder) == await cluster.pods()
        assert {change.type for change in recorder.changes} == {ChangeType.ADDED}
        assert recorder.calls == ["changed", "synced"]
        await cluster.create("later")
        await eventually(lambda: "later" in recorder.pods)
        assert informer.status().failures == {}


@pytest.mark.parametrize("encoding", Encoding)
async def test_changes(cluster: Cluster, encoding: Encoding) -> None:
    """Creation, each status and the deletion of a pod are told in their order."""
    source = source_of(cluster, ListWatchConfig(encoding=encoding))
    async with running(source) as (informer, recorder):
        await informer.synced()
        await cluster.create("a")
        for phase in ("Running", "Succeeded"):
            await cluster.set_phase("a", phase)
        await cluster.delete("a")
        await eventually(lambda: recorder.told("a") and "a" not in recorder.pods)
        told = recorder.told("a")
        assert told[0] == (ChangeType.ADDED, "Pending")
        assert told[-1] == (ChangeType.DELETED, "Succeeded")
        phases = [phase for _, phase in told]
        assert phases == sorted(phases, key=["Pending", "Running", "Succeeded"].index)
        assert set(phases) == {"Pending", "Running", "Succeeded"}
        versions = [change.resource_version for change in recorder.changes]
        assert versions == sorted(set(versions))


async def test_selectors(cluster: Cluster) -> None:
    """Only pods that the server selects are known; one that no longer is selected is gone."""
    await cluster.create("a", "b", labels={"app": "osmo"})
    await cluster.create("other")
    source = source_of(cluster, label_selector="app", field_selector="status.phase=Pending")
    async with running(source) as (informer, recorder):
        await informer.synced()
        assert recorder.pods.keys() == {"a", "b"}
        await cluster.set_phase("a", "Running")
        await eventually(lambda: recorder.pods.keys() == {"b"})
        assert recorder.changes[-1].type is ChangeType.DELETED


async def test_all_namespaces(cluster: Cluster) -> None:
    """Without a namespace the pods of all are known."""
    await cluster.create("a")
    async with running(source_of(cluster, path="/api/v1/pods")) as (informer, recorder):
        await informer.synced()
        assert "a" in recorder.pods


async def test_watches_that_end_by_themselves(cluster: Cluster) -> None:
    """Over the ends of watches nothing is lost, nothing is listed again, and no error is seen."""
    source = source_of(cluster, ListWatchConfig(watch_time=0.6))
    async with running(source) as (informer, recorder):
        await informer.synced()
        names: list[str] = []
        while informer.status().watches < 3:
            names.append(f"pod-{len(names)}")
            await cluster.create(names[-1])
            await eventually(lambda n=names[-1]: n in recorder.pods)  # type: ignore[misc]
        assert known(recorder) == await cluster.pods()
        assert (informer.status().lists, informer.status().failures) == (1, {})


async def test_churn_with_broken_connections(cluster: Cluster) -> None:
    """While pods come, change and go, and connections break, what is known ends up equal to the
    cluster without a second list."""
    draw = random.Random(7)
    alive = ["seed"]
    await cluster.create(*alive)
    async with Proxy(cluster.port).listening() as proxy:
        source = source_of(cluster, port=proxy.port)
        async with running(source) as (informer, recorder):
            await informer.synced()
            for step in range(60):
                choice = draw.random()
                if choice < 0.4 or not alive:
                    alive.append(f"pod-{step}")
                    await cluster.create(alive[-1])
                elif choice < 0.7:
                    await cluster.set_phase(draw.choice(alive), "Running")
                else:
                    await cluster.delete(alive.pop(draw.randrange(len(alive))))
                if step % 6 == 0:
                    proxy.drop()
            truth = await cluster.pods()
            await eventually(lambda: known(recorder) == truth)
            status = informer.status()
            assert status.lists == 1
            assert status.failures.keys() <= {"TruncatedError", "UnreachableError"}
            assert status.failures
        source.close()


async def test_broken_list(cluster: Cluster) -> None:
    """Connections that break during the list only delay it."""
    await cluster.create(*(f"pod-{number:03}" for number in range(40)), padding=10_000)
    async with Proxy(cluster.port).listening() as proxy:
        source = source_of(
            cluster, ListWatchConfig(first_page_size=1, page_size=8), port=proxy.port
        )
        async with running(source) as (informer, recorder):
            await eventually(lambda: recorder.pods)
            proxy.drop()
            await informer.synced()
            assert known(recorder) == await cluster.pods()
        source.close()


async def test_wrong_token(cluster: Cluster) -> None:
    """A token that the server refuses is an error at start."""
    credentials = cluster.credentials(token="wrong")
    source = ListWatch(credentials, Resource(path=PODS, type=Pod))
    with pytest.raises(UnauthorizedError, match="renew the token") as raised:
        await Informer(source, Recorder(), QUICK).run()
    assert "wrong" not in str(raised.value)
    source.close()


@pytest.mark.parametrize("mode", ListMode)
async def test_absent_namespace(cluster: Cluster, mode: ListMode) -> None:
    """So is a namespace that does not exist, before anybody hears that it is empty."""
    source = source_of(cluster, ListWatchConfig(mode=mode), path="/api/v1/namespaces/nowhere/pods")
    recorder = Recorder()
    with pytest.raises(NotFoundError, match="no namespace 'nowhere'"):
        await Informer(source, recorder, QUICK).run()
    assert recorder.calls == []
    source.close()


async def test_wrong_ca(cluster: Cluster) -> None:
    """A server whose certificate does not fit is refused at start."""
    credentials = cluster.credentials()
    if not credentials.secure:
        pytest.skip("the simulator speaks plain HTTP")
    credentials.ca = None
    source = ListWatch(credentials, Resource(path=PODS, type=Pod))
    with pytest.raises(UntrustedError, match="certificate-authority"):
        await Informer(source, Recorder(), QUICK).run()
