"""The comparison of a store with a cluster finds every kind of difference, and no other."""

from datetime import UTC, datetime

import msgspec
import pytest

from osmo_listener.listeners.objects import Pod
from osmo_listener.listeners.workflow import WorkflowConfig
from osmo_pipeline.verify import differences, expected_tasks
from osmo_reports.bodies import UpdatePod
from osmo_worker.store import Task

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def pod(phase: str = "Running", name: str = "p") -> Pod:
    return msgspec.convert(
        {
            "metadata": {
                "name": name,
                "namespace": "osmo",
                "uid": name,
                "resourceVersion": "5",
                "labels": {"osmo.workflow_uuid": "w", "osmo.task_uuid": name},
            },
            "spec": {"nodeName": "n1", "containers": [{"name": "c"}]},
            "status": {"phase": phase, "podIP": "10.0.0.1"},
        },
        Pod,
    )


def row(body: UpdatePod, **changes: object) -> Task:
    fields = {
        "backend": "b",
        "terminal": False,
        "concluded": False,
        "status_since": NOW,
        "created_at": None,
        "updated_at": NOW,
        "deleted_at": None,
        "epoch": 1,
        "resource_version": 5,
        "status_epoch": 1,
        "status_resource_version": 5,
        **{f: getattr(body, f) for f in ("workflow_uuid", "task_uuid", "retry_id", "status")},
        **{f: getattr(body, f) for f in ("message", "node", "container", "pod_ip", "pod")},
        "conditions": body.conditions,
        "exit_code": None if body.exit_code == -1 else body.exit_code,
        **changes,
    }
    return Task(**fields)  # type: ignore[arg-type]


@pytest.fixture
def expected() -> dict[str, UpdatePod]:
    return expected_tasks([pod()], WorkflowConfig())


def test_equal_rows_do_not_differ(expected: dict[str, UpdatePod]) -> None:
    """A store that says what the cluster says has no differences."""
    assert list(differences(expected, [row(body) for body in expected.values()])) == []


def test_a_missing_row_differs(expected: dict[str, UpdatePod]) -> None:
    """A live pod without a row is found."""
    (found,) = differences(expected, [])
    assert found == ("w/p/0", "no row, and the pod is RUNNING")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("status", "SCHEDULING"),
        ("exit_code", 1),
        ("message", "x"),
        ("node", "n2"),
        ("container", "d"),
        ("pod_ip", "10.0.0.2"),
        ("pod", "osmo/q"),
        ("conditions", ({"type": "Ready", "status": True},)),
    ],
)
def test_a_stale_column_differs(expected: dict[str, UpdatePod], column: str, value: object) -> None:
    """Each compared column is compared."""
    (body,) = expected.values()
    (found,) = differences(expected, [row(body, **{column: value})])
    assert found.problem.startswith(f"{column} is ")


def test_a_row_of_a_pod_that_is_gone_differs(expected: dict[str, UpdatePod]) -> None:
    """A live row without a pod is found; one that is marked deleted is not."""
    (body,) = expected.values()
    (found,) = differences({}, [row(body)])
    assert found == ("w/p/0", "the row says RUNNING, and the pod is gone")
    assert list(differences({}, [row(body, deleted_at=NOW)])) == []


def test_a_live_pod_marked_deleted_differs(expected: dict[str, UpdatePod]) -> None:
    """A row marked deleted does not count as the row of a live pod."""
    (body,) = expected.values()
    (found,) = differences(expected, [row(body, deleted_at=NOW)])
    assert found.problem == "no row, and the pod is RUNNING"


def test_an_end_that_was_told_is_not_taken_back(expected: dict[str, UpdatePod]) -> None:
    """A terminal row of a pod that has recovered is as it should be; the other way round is not."""
    (body,) = expected.values()
    ended = row(body, status="FAILED", terminal=True, exit_code=1)
    assert list(differences(expected, [ended])) == []
    over = expected_tasks([pod("Succeeded")], WorkflowConfig())
    assert [d.problem for d in differences(over, [row(body)])] == [
        "status is 'RUNNING' and should be 'COMPLETED'",
        "exit_code is None and should be 0",
    ]


def test_of_a_pod_in_an_unknown_state_nothing_is_expected(expected: dict[str, UpdatePod]) -> None:
    """No report is made of it, so that its row says what was told before, if there is one."""
    unknown = expected_tasks([pod("Unknown")], WorkflowConfig())
    assert unknown.keys() == expected.keys()
    assert list(differences(unknown, [])) == []
    assert list(differences(unknown, [row(body) for body in expected.values()])) == []
