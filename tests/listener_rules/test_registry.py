"""The registry of listeners."""

import pytest

from osmo_listener.listeners import LISTENERS, ListenersConfig
from tests.listener_rules.harness import T0, make_pod


@pytest.mark.parametrize("name", LISTENERS)
def test_every_listener_starts_with_an_empty_snapshot(name: str) -> None:
    """What the registry makes is a listener: of an empty cluster it reports the end alone."""
    entry = LISTENERS[name]
    listener = entry.create(ListenersConfig())
    listener.restart(1)
    (end,) = listener.snapshot([], 1, T0)
    assert (end.kind, end.key) == ("snapshot_end", entry.kind)
    assert listener.next_deadline() is None


def test_workflow_watches_the_pods_that_run_tasks() -> None:
    """The workflow listener's part of the registry, as the API server is asked for it."""
    resource = LISTENERS["workflow"].resource("osmo")
    assert resource.path == "/api/v1/namespaces/osmo/pods"
    assert resource.label_selector == "osmo.task_uuid,osmo.workflow_uuid"
    assert resource.field_selector == ""
    assert resource.type is type(make_pod())
