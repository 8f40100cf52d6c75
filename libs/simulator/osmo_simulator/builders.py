"""Realistic objects for scenarios, tests and benchmarks."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from osmo_simulator.resources import Object

TYPICAL_PADDING = 10_000
"""The padding that makes a pod of `make_pod` about 14 kB of JSON once it ran, the size of a
usual task's pod in production."""

WORKFLOW_LABEL = "osmo.workflow_uuid"
TASK_LABEL = "osmo.task_uuid"
RETRY_LABEL = "osmo.retry_id"

INIT_CONTAINER = "osmo-init"
CONTROL_CONTAINER = "osmo-ctrl"

_REGISTRY = "registry.example.com/osmo"
_GPUS = 8


def task_labels(workflow_uuid: str, task_uuid: str, retry_id: int = 0) -> dict[str, str]:
    """The labels that make a pod a workflow's task."""
    return {
        WORKFLOW_LABEL: workflow_uuid,
        TASK_LABEL: task_uuid,
        RETRY_LABEL: str(retry_id),
    }


def make_pod(
    name: str,
    *,
    namespace: str = "osmo",
    labels: Mapping[str, str] | None = None,
    container: str = "task",
    node: str = "",
    status: Mapping[str, Any] | None = None,
    padding: int = 0,
) -> Object:
    """A task's pod: an init container, the user's container and the control container.

    Pods share their containers, so that many of them fit into memory: copy before you change one.

    Args:
        name: the pod's name.
        namespace: the pod's namespace.
        labels: for example `task_labels(...)`.
        container: the name of the user's container.
        node: where the pod is bound; empty leaves it unbound.
        status: the pod's status; None is a pod that was just created.
        padding: about how many bytes of environment variables to add, see `TYPICAL_PADDING`.
    """
    spec: dict[str, Any] = {
        "initContainers": _INIT_CONTAINERS,
        "containers": _containers(container, padding),
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "serviceAccountName": "default",
        "securityContext": {},
        "schedulerName": "kai-scheduler",
        "priorityClassName": "osmo-normal",
        "tolerations": _TOLERATIONS,
        "volumes": [
            {"name": "osmo", "emptyDir": {}},
            {"name": "osmo-data", "emptyDir": {}},
            {"name": "osmo-login", "secret": {"secretName": f"{name}-login", "defaultMode": 420}},
        ],
    }
    if node:
        spec["nodeName"] = node
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels or {})},
        "spec": spec,
        "status": dict(status) if status is not None else {"phase": "Pending"},
    }


def make_node(name: str, *, labels: Mapping[str, str] | None = None, now: str = "") -> Object:
    """A GPU node that is ready; `now` (RFC 3339) is when it became so."""
    quantities = {
        "cpu": "128",
        "ephemeral-storage": "1843269236Ki",
        "memory": "2113542352Ki",
        "nvidia.com/gpu": str(_GPUS),
        "pods": "110",
    }
    healthy = {
        "MemoryPressure": ("False", "KubeletHasSufficientMemory"),
        "DiskPressure": ("False", "KubeletHasNoDiskPressure"),
        "PIDPressure": ("False", "KubeletHasSufficientPID"),
        "Ready": ("True", "KubeletReady"),
    }
    times = {"lastHeartbeatTime": now, "lastTransitionTime": now} if now else {}
    return {
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "node.kubernetes.io/instance-type": "gpu.8x",
                "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
                **(labels or {}),
            },
        },
        "spec": {"providerID": f"simulator://{name}"},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": _address(name)},
                {"type": "Hostname", "address": name},
            ],
            "allocatable": quantities,
            "capacity": quantities,
            "conditions": [
                {"type": kind, "status": status, "reason": reason, "message": reason, **times}
                for kind, (status, reason) in healthy.items()
            ],
            "nodeInfo": {
                "architecture": "amd64",
                "containerRuntimeVersion": "containerd://1.7.24",
                "kernelVersion": "6.8.0-45-generic",
                "kubeletVersion": "v1.37.0",
                "operatingSystem": "linux",
                "osImage": "Ubuntu 24.04.1 LTS",
            },
        },
    }


def make_event(
    pod: Object,
    reason: str,
    message: str,
    *,
    now: str,
    warning: bool = False,
    source: str = "kubelet",
) -> Object:
    """A cluster event about a pod, which happened at `now` (RFC 3339)."""
    metadata = pod["metadata"]
    return {
        "metadata": {
            "generateName": f"{metadata['name']}.",
            "namespace": metadata["namespace"],
        },
        "involvedObject": {
            "kind": "Pod",
            "apiVersion": "v1",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata.get("uid", ""),
        },
        "reason": reason,
        "message": message,
        "type": "Warning" if warning else "Normal",
        "source": {"component": source},
        "reportingComponent": source,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }


def _container(
    name: str, image: str, environment: list[dict[str, str]], *, gpus: int = 0
) -> dict[str, Any]:
    resources = {"cpu": "8" if gpus else "1", "memory": "64Gi" if gpus else "1Gi"}
    if gpus:
        resources["nvidia.com/gpu"] = str(gpus)
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/osmo/run/bin/osmo_exec"],
        "args": ["-socketPath", "/osmo/data/socket/data.sock", "-runLocation", "/osmo/run"],
        "env": environment,
        "resources": {"limits": resources, "requests": resources},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "volumeMounts": [
            {"name": "osmo", "mountPath": "/osmo/run"},
            {"name": "osmo-data", "mountPath": "/osmo/data"},
            {"name": "osmo-login", "mountPath": "/osmo/login", "readOnly": True},
        ],
    }


@cache
def _containers(name: str, padding: int) -> list[dict[str, Any]]:
    # Each entry is 100 bytes of JSON, with its comma.
    environment = [
        {"name": f"OSMO_SETTING_{number:06}", "value": f"{number:06}".ljust(58, "x")}
        for number in range(padding // 100)
    ]
    return [
        _container(name, f"{_REGISTRY}/train:24.10-py3", environment, gpus=1),
        _container(CONTROL_CONTAINER, f"{_REGISTRY}/client:6.0", []),
    ]


def _address(name: str) -> str:
    number = sum(ord(letter) * (index + 1) for index, letter in enumerate(name)) % 65536
    return f"10.0.{number // 256}.{number % 256}"


_INIT_CONTAINERS = [_container(INIT_CONTAINER, f"{_REGISTRY}/init-container:6.0", [])]
_TOLERATIONS = [
    {
        "key": f"node.kubernetes.io/{trouble}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": 300,
    }
    for trouble in ("not-ready", "unreachable")
]
