"""Clusters to run against: the simulator as a program, and a real API server where there is one."""

import contextlib
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from osmo_listener.listeners.objects import Pod
from osmo_listener.listeners.workflow import WorkflowConfig
from osmo_pipeline.verify import Difference, differences, expected_tasks
from osmo_simulator.api_server import ApiError, Session
from osmo_simulator.builders import make_pod, task_labels
from osmo_worker.store import Task

PODS = "/api/v1/namespaces/osmo/pods"
MERGE = "application/merge-patch+json"

PHASES: list[dict[str, Any]] = [
    {"phase": "Pending"},
    {"phase": "Running", "podIP": "10.0.0.1"},
    {"phase": "Running", "podIP": "10.0.0.2", "message": "restarted on another address"},
    {"phase": "Succeeded"},
    {"phase": "Failed", "reason": "Evicted", "message": "the node is out of memory"},
]


@dataclass(frozen=True)
class Backend:
    """A cluster to run against: requests of ours, and a kubeconfig for the listener."""

    session: Session
    kubeconfig: Path


class Churn:
    """Pods that come, change and go, as a seed has it; each call is one step of a few requests."""

    def __init__(self, session: Session, seed: int) -> None:
        self._session = session
        self._random = random.Random(seed)
        self._next = 0
        self._phase: dict[str, int] = {}

    def create(self, count: int) -> None:
        """Create so many pods."""
        for _ in range(count):
            name, self._next = f"pod-{self._next}", self._next + 1
            labels = task_labels(f"workflow-{self._next // 4}", f"task-{self._next}")
            self._session.request("POST", PODS, make_pod(name, labels=labels))
            self._phase[name] = 0

    def step(self, changes: int) -> None:
        """Move some pods on, delete one and create one."""
        for name in self._random.sample(sorted(self._phase), changes):
            phase = self._phase[name]
            if phase >= 3:
                continue
            self._phase[name] = phase + 1 if phase < 2 else self._random.choice((3, 4))
            status = {"status": PHASES[self._phase[name]]}
            self._session.request("PATCH", f"{PODS}/{name}/status", status, content_type=MERGE)
        name = self._random.choice(sorted(self._phase))
        with contextlib.suppress(ApiError):
            self._session.request("DELETE", f"{PODS}/{name}", {"gracePeriodSeconds": 0})
        del self._phase[name]
        self.create(1)


def cluster_pods(session: Session) -> list[Pod]:
    """Every pod that the API server has now."""
    listed = session.request("GET", PODS)
    return [msgspec.json.decode(json.dumps(item), type=Pod) for item in listed["items"]]


def wrong_rows(session: Session, rows: list[Task]) -> list[Difference]:
    """How the rows differ from the cluster."""
    expected = expected_tasks(cluster_pods(session), WorkflowConfig())
    return list(differences(expected, rows))
