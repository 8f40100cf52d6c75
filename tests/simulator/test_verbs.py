"""Verbs leave what a cluster would: each status, and each refusal."""

import pytest

from osmo_simulator.cluster import Cluster
from osmo_simulator.errors import StatusError
from osmo_simulator.lifecycle import FAILURES, Outcome
from osmo_simulator.verbs import ClusterVerbs


@pytest.fixture
def cluster() -> ClusterVerbs:
    """With one node."""
    cluster = ClusterVerbs(Cluster())
    cluster.add_node("node-0")
    return cluster


def test_a_workflow_is_its_pods(cluster: ClusterVerbs) -> None:
    """Pending, with the labels by which a listener knows them; each workflow has another uuid."""
    first, second = cluster.start_workflow(tasks=2), cluster.start_workflow()
    assert [pod.name for pod in first.pods] == ["workflow-0-task-0", "workflow-0-task-1"]
    assert second.uuid == "workflow-1"
    assert cluster.pod("workflow-0-task-1") is first.pods[1]
    pod = first.pods[1].object
    assert pod["status"]["phase"] == "Pending"
    assert pod["metadata"]["labels"] == {
        "osmo.workflow_uuid": "workflow-0",
        "osmo.task_uuid": "task-1",
        "osmo.retry_id": "0",
    }


def test_a_pod_runs_where_there_is_room(cluster: ClusterVerbs) -> None:
    """On a node that is not cordoned, unless the test says where."""
    one, two, three = cluster.start_workflow(tasks=3).pods
    cluster.add_node("node-1")
    cluster.node("node-0").cordon()
    one.run()
    cluster.node("node-0").uncordon()
    two.run()
    three.run("node-1")
    assert [pod.object["spec"]["nodeName"] for pod in (one, two, three)] == [
        *("node-1", "node-0", "node-1")
    ]
    assert one.object["status"]["phase"] == "Running"
    assert one.object["status"]["podIP"] != two.object["status"]["podIP"]
    with pytest.raises(ValueError, match="bound to node-1 already"):
        three.run("node-0")


def test_a_pod_that_has_no_node_says_so(cluster: ClusterVerbs) -> None:
    """Rather than run nowhere."""
    cluster.node("node-0").remove()
    (pod,) = cluster.start_workflow().pods
    with pytest.raises(LookupError, match="add one with `add_node`"):
        pod.run()


@pytest.mark.parametrize("outcome", FAILURES, ids=lambda outcome: outcome.name)
def test_a_pod_fails_in_each_way(cluster: ClusterVerbs, outcome: Outcome) -> None:
    """Pending or running; what the cluster notes of it is an event. What fails to start cannot have
    run."""
    pending, running = cluster.start_workflow(tasks=2).pods
    running.run()
    assert pending.fail(outcome.name) == outcome
    assert pending.object["spec"]["nodeName"] == "node-0"
    if outcome.runs:
        running.fail(outcome.name)
        assert running.object["status"] == {
            **pending.object["status"],
            **{name: running.object["status"][name] for name in ("hostIP", "podIP", "podIPs")},
        }
    else:
        with pytest.raises(ValueError, match=f"runs: it cannot end by '{outcome.name}'"):
            running.fail(outcome.name)
    messages = [event["message"] for event in cluster.state.list("events")]
    assert messages.count(f"Task ended: {outcome.name}") == 1 + outcome.runs


def test_an_unknown_way_to_fail_is_refused(cluster: ClusterVerbs) -> None:
    """With the names of those that there are."""
    (pod,) = cluster.start_workflow().pods
    with pytest.raises(LookupError, match="no pod fails by 'boredom': there are admission, "):
        pod.fail("boredom")
    assert pod.object["status"]["phase"] == "Pending"


def test_a_pod_ends_well_and_goes(cluster: ClusterVerbs) -> None:
    """And then no verb does anything to it."""
    (pod,) = cluster.start_workflow().pods
    assert pod.succeed().status == "COMPLETED"
    assert pod.object["status"]["phase"] == "Succeeded"
    for verb in (pod.run, pod.succeed, pod.fail):
        with pytest.raises(ValueError, match="has ended: it is Succeeded"):
            verb()
    pod.delete()
    with pytest.raises(StatusError, match="not found"):
        pod.run()


def test_a_node_changes(cluster: ClusterVerbs) -> None:
    """Its conditions, one at a time, and its labels."""
    node = cluster.node("node-0")
    count = len(node.object["status"]["conditions"])
    node.set_condition("Ready", "False", "KubeletStopped")
    node.label(**{"pool": "a", "kubernetes.io/arch": None})
    conditions = {each["type"]: each for each in node.object["status"]["conditions"]}
    assert conditions["Ready"]["status"] == "False"
    assert conditions["Ready"]["reason"] == "KubeletStopped"
    assert len(conditions) == count
    assert node.object["metadata"]["labels"]["pool"] == "a"
    assert "kubernetes.io/arch" not in node.object["metadata"]["labels"]
