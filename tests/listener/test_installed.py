"""Which listeners there are: ours, and by entry points everybody's."""

from dataclasses import replace
from typing import Any

import pytest

from osmo_listener.installed import listener_types
from osmo_listener.listeners.registry import EVENT, NODE, USAGE, WORKFLOW
from osmo_transport import UsageError
from osmo_transport.registry import Group, named


def install(monkeypatch: pytest.MonkeyPatch, **others: object) -> None:
    """Beside ours, as if packages had these entry points."""

    def load(group: Group, name: str) -> Any:
        return others[name] if name in others else named(group, name)

    monkeypatch.setattr("osmo_listener.installed.named", load)


def test_ours_are_found() -> None:
    """Each once, in the order in which they are named."""
    types = listener_types(["event", "node", "usage", "workflow", "node"])
    assert types == {"event": EVENT, "node": NODE, "usage": USAGE, "workflow": WORKFLOW}
    assert list(types) == ["event", "node", "usage", "workflow"]


def test_others_are_found_beside_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the names of their entry points."""
    jobs = replace(NODE, kind="job_state")
    install(monkeypatch, jobs=jobs)
    assert listener_types(["jobs", "node"]) == {"jobs": jobs, "node": NODE}


def test_two_that_report_the_same_kind_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each one's snapshot would delete the other's rows."""
    install(monkeypatch, mine=replace(WORKFLOW))
    with pytest.raises(UsageError, match="'workflow' and 'mine' both report update_pod"):
        listener_types(["workflow", "mine"])
    assert listener_types(["mine"])["mine"].kind == "update_pod"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("strange", "no listener is called 'strange': there are event, node"),
        ("mine", "is str, and no"),
    ],
)
def test_what_is_no_listener_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    """Before anything runs."""
    install(monkeypatch, mine="text")
    with pytest.raises(UsageError, match=text):
        listener_types([name])
