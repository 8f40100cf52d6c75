"""Semantics 2.2: the conditions of a pod that users see."""

import pytest

from osmo_reports.bodies import Condition, UpdatePod, encode_body
from osmo_transport import Version, new_message
from osmo_worker.store import StateStore, shown_conditions
from tests.worker.harness import apply


@pytest.mark.parametrize(
    ("type_", "status", "shown"),
    [
        ("PodScheduled", True, True),
        ("PodScheduled", False, True),
        ("Initialized", True, True),
        ("Initialized", False, False),
        ("Ready", True, True),
        ("Ready", False, False),
        ("ContainersReady", True, False),
        ("ContainersReady", False, False),
        ("DisruptionTarget", False, True),
        ("example.com/Anything", False, True),
        ("", False, True),
    ],
)
def test_a_condition_is_shown_or_not(type_: str, status: bool, shown: bool) -> None:
    """2.2: all but ContainersReady, and Initialized and Ready when they are false."""
    condition = Condition(type_, status)
    assert shown_conditions([condition]) == ((condition,) if shown else ())


async def test_a_row_has_the_shown_conditions_in_their_order(store: StateStore) -> None:
    """With all that they say; a row without any has none."""
    conditions = (
        Condition("Ready", False, "ContainersNotReady", "containers with unready status: [a]"),
        Condition("PodScheduled", True, timestamp="2026-01-02T03:04:05Z"),
        Condition("ContainersReady", False),
        Condition("Initialized", True, "PodCompleted", "a\0b"),
    )
    for task, some in (("a", conditions), ("b", conditions[2:3]), ("c", ())):
        body = encode_body(UpdatePod("flow", task, 0, "RUNNING", conditions=some))
        await apply(store, new_message("update_pod", task, body, version=Version(1, 1)))
    first, *others = await store.tasks()
    assert first.conditions == (
        Condition("PodScheduled", True, timestamp="2026-01-02T03:04:05Z"),
        Condition("Initialized", True, "PodCompleted", "a\ufffdb"),
    )
    assert [task.conditions for task in others] == [(), ()]
