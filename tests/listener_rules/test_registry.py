"""The registry of listeners."""

import pytest

from osmo_listener.installed import listener_types
from osmo_listener.listeners.registry import Surroundings, shared_pods
from tests.listener_rules.harness import T0, make_pod

LISTENERS = listener_types(["workflow", "node", "usage", "event"])


@pytest.mark.parametrize("name", LISTENERS)
def test_every_listener_starts_with_an_empty_snapshot(name: str) -> None:
    """What the registry makes is a listener: of an empty cluster it reports the end at most."""
    entry = LISTENERS[name]
    listener = entry.create(Surroundings(namespace="osmo"))
    listener.restart(1)
    messages = [(m.kind, m.key) for m in listener.snapshot([], 1, T0)]
    ends = {"event": [], "node": [("node_inventory", "nodes")]}
    assert messages == ends.get(name, [("snapshot_end", entry.kind)])
    assert list(listener.listed([], 2, T0)) == [] or name == "node"


@pytest.mark.parametrize(
    ("name", "path", "fields"),
    [
        ("node", "/api/v1/nodes", ""),
        (
            "usage",
            "/api/v1/pods",
            "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed",
        ),
        ("event", "/api/v1/namespaces/osmo/events", ""),
    ],
)
def test_what_the_others_watch(name: str, path: str, fields: str) -> None:
    """As the API server is asked for it."""
    resource = LISTENERS[name].resource("osmo")
    assert (resource.path, resource.label_selector, resource.field_selector) == (path, "", fields)


def test_one_watch_can_serve_two() -> None:
    """All pods, of which the workflow listener is told those that it would watch by itself."""
    assert shared_pods("osmo").path == "/api/v1/pods"
    assert shared_pods("osmo").namespace is None


def test_workflow_watches_the_pods_that_run_tasks() -> None:
    """The workflow listener's part of the registry, as the API server is asked for it."""
    resource = LISTENERS["workflow"].resource("osmo")
    assert resource.path == "/api/v1/namespaces/osmo/pods"
    assert resource.label_selector == "osmo.task_uuid,osmo.workflow_uuid"
    assert resource.field_selector == ""
    assert resource.type is type(make_pod())
