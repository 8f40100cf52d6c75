"""The cluster's state and history, without HTTP, against a model that keeps everything."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osmo_simulator.cluster import Cluster, ClusterConfig
from osmo_simulator.errors import StatusError
from osmo_simulator.options import ListOptions
from osmo_simulator.watch import ObjectEncoder, Watch

Step = tuple[str, str, str]
Objects = dict[str, Any]

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["create", "label", "delete"]),
        st.sampled_from("abc"),
        st.sampled_from("xy"),
    ),
    max_size=25,
)
SELECTORS = st.sampled_from(["", "app=x", "app!=x", "app in (x,y)"])


def apply(cluster: Cluster, step: Step) -> None:
    """Do a step, if it can be done."""
    verb, name, label = step
    try:
        if verb == "create":
            metadata = {"name": name, "namespace": "osmo", "labels": {"app": label}}
            cluster.create("pods", {"metadata": metadata})
        elif verb == "label":
            patch = {"metadata": {"labels": {"app": label}}}
            cluster.patch("pods", name, patch, namespace="osmo")
        else:
            cluster.delete("pods", name, namespace="osmo")
    except StatusError as exc:
        if exc.code not in {404, 409}:
            raise


def state(cluster: Cluster, selector: str = "") -> Objects:
    """The selected pods by name."""
    return {pod["metadata"]["name"]: pod for pod in cluster.list("pods", labels=selector)}


def follow(watch: Watch, known: Objects) -> Objects:
    """The state after a watch's events, each of which must fit the state before it."""
    while chunk := watch.read():
        for line in chunk.splitlines():
            event = json.loads(line)
            obj = {k: v for k, v in event["object"].items() if k not in {"kind", "apiVersion"}}
            name = obj["metadata"]["name"]
            assert (event["type"] == "ADDED") == (name not in known)
            if event["type"] == "DELETED":
                del known[name]
            else:
                known[name] = obj
    return known


def watch_from(cluster: Cluster, version: int, selector: str) -> Watch:
    """A watch of pods; version 0 begins with the state."""
    store = cluster.store("pods")
    options = ListOptions(version=version, labels=selector, watch=True)
    return Watch(cluster, store, "osmo", options, ObjectEncoder(store.resource))


@settings(max_examples=100)
@given(steps=STEPS, selector=SELECTORS, start=st.integers(0, 25))
def test_list_and_watch_give_the_state(steps: list[Step], selector: str, start: int) -> None:
    """Whoever lists at any moment and then watches arrives at the cluster's state, also through a
    selector that objects enter and leave; so does a watch that begins with the state."""
    cluster = Cluster()
    for step in steps[:start]:
        apply(cluster, step)
    known, version = state(cluster, selector), cluster.version
    live = watch_from(cluster, version, selector)
    whole = watch_from(cluster, 0, selector)
    for step in steps[start:]:
        apply(cluster, step)
    assert follow(live, dict(known)) == state(cluster, selector)
    assert follow(watch_from(cluster, version, selector), dict(known)) == state(cluster, selector)
    assert follow(whole, {}) == state(cluster, selector)


@settings(max_examples=100)
@given(steps=STEPS)
def test_every_past_state_can_be_listed(steps: list[Step]) -> None:
    """The state at each version is what was there at that version."""
    cluster = Cluster()
    seen = {cluster.version: state(cluster)}
    for step in steps:
        apply(cluster, step)
        seen[cluster.version] = state(cluster)
    for version, expected in seen.items():
        found = [v.object for v in cluster.store("pods").at(version)]
        assert {pod["metadata"]["name"]: pod for pod in found} == expected
        assert found == sorted(found, key=lambda pod: str(pod["metadata"]["name"]))


@settings(max_examples=100)
@given(steps=STEPS)
def test_encoded_bytes_are_the_object(steps: list[Step]) -> None:
    """The bytes that versions share always spell the version's own object."""
    cluster = Cluster()
    for step in steps:
        apply(cluster, step)
        for version in cluster.store("pods").current():
            assert json.loads(b"{" + b"".join(version.parts) + b"}") == version.object
            assert version.object["metadata"]["resourceVersion"] == str(version.number)


def relabel(cluster: Cluster, count: int) -> None:
    """Make `count` changes of one pod."""
    for number in range(count):
        patch = {"metadata": {"labels": {"n": str(number)}}}
        cluster.patch("pods", "a", patch, namespace="osmo")


def changes_kept(cluster: Cluster) -> int:
    """How many changes of pods can still be read."""
    history = cluster.store("pods").history
    return len(history.after(history.compacted))


def test_history_is_bounded_by_count() -> None:
    """Old changes are forgotten, and asking for them is an error that names the bound."""
    cluster = Cluster(ClusterConfig(history_changes=100))
    before = cluster.version
    apply(cluster, ("create", "a", "x"))
    relabel(cluster, 5000)
    assert 100 <= changes_kept(cluster) < 400
    with pytest.raises(StatusError, match=f"too old resource version: {before}") as refused:
        cluster.store("pods").at(before)
    assert refused.value.code == 410


def test_history_is_bounded_by_bytes() -> None:
    """Large versions push old changes out earlier."""
    limit = 100_000
    cluster = Cluster(ClusterConfig(history_bytes=limit))
    apply(cluster, ("create", "a", "x"))
    for number in range(500):
        status = {"message": f"{number}".ljust(10_000)}
        cluster.patch_status("pods", "a", status, namespace="osmo")
    assert 0 < changes_kept(cluster) <= limit // 10_000


def test_one_resource_does_not_push_out_another() -> None:
    """Changes of events leave the history of pods alone, at the same versions."""
    cluster = Cluster(ClusterConfig(history_changes=10))
    before = cluster.version
    apply(cluster, ("create", "a", "x"))
    for number in range(1000):
        event = {"metadata": {"name": f"e{number}", "namespace": "osmo"}}
        cluster.create("events", event)
    assert len(cluster.store("pods").at(before)) == 0
    assert changes_kept(cluster) == 1


def test_unchanged_parts_cost_nothing() -> None:
    """A new status does not count, or keep, the bytes of the spec again."""
    cluster = Cluster()
    spec = {"image": "x" * 100_000}
    pod = {"metadata": {"name": "a", "namespace": "osmo"}, "spec": spec}
    cluster.create("pods", pod)
    cluster.patch_status("pods", "a", {"phase": "Running"}, namespace="osmo")
    version = cluster.store("pods").find("osmo", "a")
    assert version is not None
    assert version.size > 100_000
    assert version.replaced < 1000


def test_deleting_a_namespace_deletes_its_objects() -> None:
    """With a namespace goes all that it holds, and nothing else."""
    cluster = Cluster()
    for namespace in ("osmo", "default"):
        cluster.create("pods", {"metadata": {"name": "a", "namespace": namespace}})
        cluster.create("events", {"metadata": {"name": "e", "namespace": namespace}})
    cluster.delete("namespaces", "osmo")
    for plural in ("pods", "events"):
        assert [obj["metadata"]["namespace"] for obj in cluster.list(plural)] == ["default"]
    with pytest.raises(StatusError, match='namespaces "osmo" not found'):
        cluster.create("pods", {"metadata": {"name": "a", "namespace": "osmo"}})


def test_arguments_are_not_changed() -> None:
    """What goes in is not written to, so that a caller can use it again."""
    cluster = Cluster()
    pod = {"metadata": {"name": "a", "namespace": "osmo", "labels": {"app": "x"}}}
    copy = json.loads(json.dumps(pod))
    stored = cluster.create("pods", pod)
    patch = {"metadata": {"labels": {"app": "y"}}}
    cluster.patch("pods", "a", patch, namespace="osmo")
    assert pod == copy
    assert patch == {"metadata": {"labels": {"app": "y"}}}
    assert stored["metadata"]["labels"] == {"app": "x"}


def test_same_seed_same_uids() -> None:
    """Uids and generated names repeat with the seed, and differ without it."""

    def names(seed: int) -> list[str]:
        cluster = Cluster(ClusterConfig(seed=seed))
        body = {"metadata": {"generateName": "a-", "namespace": "osmo"}}
        pods = [cluster.create("pods", body) for _ in range(3)]
        return [pod["metadata"]["name"] + pod["metadata"]["uid"] for pod in pods]

    assert names(1) == names(1) != names(2)
