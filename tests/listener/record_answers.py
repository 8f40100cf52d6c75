"""Records in `answers/` what a real API server says, in JSON and in protobuf.

KUBEBUILDER_ASSETS=… python -m tests.listener.record_answers
"""

import http.client
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from osmo_listener.kubernetes.answers import JSON, PROTOBUF
from osmo_simulator import api_server
from osmo_simulator.api_server import RealCluster

ANSWERS = Path(__file__).parent / "answers"
ENCODINGS = {"json": JSON, "pb": PROTOBUF}
CORE = "/api/v1"
OSMO = f"{CORE}/namespaces/{api_server.NAMESPACE}"
QUESTIONS = {
    "pods": f"{OSMO}/pods?limit=2",
    "nodes": f"{CORE}/nodes",
    "events": f"{OSMO}/events",
    "pods-watch": f"{OSMO}/pods?watch=1&timeoutSeconds=1&sendInitialEvents=true"
    "&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true",
    "nodes-watch": f"{CORE}/nodes?watch=1&timeoutSeconds=1&resourceVersion=0",
    "refusal": f"{OSMO}/pods?limit=2&continue=bm9uc2Vuc2U",
}
"""What is asked, by the name of the answer. The last one is refused."""


def pod(name: str) -> dict[str, Any]:
    """A task's pod as a user sends it."""
    labels = {"osmo.workflow_uuid": "w", "osmo.task_uuid": name, "other": "label"}
    resources = {"requests": {"cpu": "500m", "memory": "1Gi", "nvidia.com/gpu": "2"}}
    resources["limits"] = {"nvidia.com/gpu": "2"}
    return {
        "metadata": {"name": name, "labels": labels, "annotations": {"note": "grün ✓ 🚀"}},
        "spec": {
            "initContainers": [{"name": "init", "image": "busybox"}],
            "containers": [
                {"name": "task", "image": "busybox", "resources": resources},
                {"name": "osmo-ctrl", "image": "busybox"},
            ],
        },
    }


def container(name: str, **state: Any) -> dict[str, Any]:
    """The status of a container."""
    facts = {"image": "busybox", "imageID": "", "ready": False, "restartCount": 0}
    return {"name": name, "state": state} | facts


STATUS = {
    "phase": "Failed",
    "reason": "Evicted",
    "message": "The node was low on resource: memory. Grüße ✓",
    "podIP": "10.1.2.3",
    "podIPs": [{"ip": "10.1.2.3"}],
    "conditions": [
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-02T03:04:05Z"},
        {
            "type": "Ready",
            "status": "False",
            "reason": "ContainersNotReady",
            "message": "containers with unready status: [task]",
            "lastTransitionTime": "1969-12-31T23:59:59Z",
        },
        {"type": "DisruptionTarget", "status": "True", "lastTransitionTime": None},
    ],
    "initContainerStatuses": [container("init", terminated={"exitCode": 0, "reason": "Completed"})],
    "containerStatuses": [
        container("task", terminated={"exitCode": 137, "reason": "OOMKilled", "message": "killed"}),
        container("osmo-ctrl", waiting={"reason": "ImagePullBackOff", "message": "no such image"}),
        container("other", running={"startedAt": "2026-01-02T03:04:05Z"}),
        container("new", waiting={}),
    ],
}
NODE = {
    "metadata": {"name": "node-1", "labels": {"nvidia.com/gpu.product": "H100", "empty": ""}},
    "spec": {
        "unschedulable": True,
        "taints": [
            {"key": "k", "value": "v", "effect": "NoSchedule"},
            {"key": "k", "effect": "NoExecute", "timeAdded": "2026-01-02T03:04:05Z"},
        ],
    },
    "status": {
        "allocatable": {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "8", "odd": "1500m"},
        "capacity": {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "8", "odd": "2"},
        "conditions": [
            {"type": "Ready", "status": "Unknown", "lastHeartbeatTime": "2026-01-02T03:04:05Z"}
        ],
    },
}
OLDER_EVENT = {
    "metadata": {"name": "a.1"},
    "involvedObject": {"kind": "Pod", "namespace": api_server.NAMESPACE, "name": "a"},
    "reason": "BackOff",
    "message": "Back-off restarting failed container",
    "source": {"component": "kubelet", "host": "node-1"},
    "firstTimestamp": "2026-01-02T03:04:05Z",
    "lastTimestamp": "2026-01-02T03:05:06Z",
    "count": 4,
    "type": "Warning",
}
NEWER_EVENT = {
    "metadata": {"name": "a.2"},
    "involvedObject": {"kind": "Pod", "namespace": api_server.NAMESPACE, "name": "a"},
    "reason": "Scheduled",
    "message": "assigned",
    "type": "Normal",
    "action": "Binding",
    "eventTime": "2026-01-02T03:04:05.000001Z",
    "series": {"count": 3, "lastObservedTime": "2026-01-02T03:05:06.500000Z"},
    "reportingComponent": "kai-scheduler",
    "reportingInstance": "kai-0",
}


def fill(cluster: RealCluster) -> None:
    """Create what is listed."""
    for name in ("a", "b", "c"):
        cluster.request("POST", f"{OSMO}/pods", pod(name))
    cluster.request("PATCH", f"{OSMO}/pods/a/status", {"status": STATUS})
    cluster.request("POST", f"{CORE}/nodes", NODE)
    for each in (OLDER_EVENT, NEWER_EVENT):
        cluster.request("POST", f"{OSMO}/events", each)


def ask(cluster: RealCluster, question: str, encoding: str) -> bytes:
    """The body of an answer."""
    url = urlsplit(cluster.url)
    context = ssl.create_default_context(cafile=str(cluster.ca_file))
    connection = http.client.HTTPSConnection(
        url.hostname or "", url.port, context=context, timeout=30
    )
    try:
        headers = {"Authorization": f"Bearer {cluster.token}", "Accept": encoding}
        connection.request("GET", question, headers=headers)
        return connection.getresponse().read()
    finally:
        connection.close()


def main() -> None:
    """Record all."""
    ANSWERS.mkdir(exist_ok=True)
    with api_server.start() as cluster:
        fill(cluster)
        for name, question in QUESTIONS.items():
            for suffix, encoding in ENCODINGS.items():
                (ANSWERS / f"{name}.{suffix}").write_bytes(ask(cluster, question, encoding))


if __name__ == "__main__":
    main()
