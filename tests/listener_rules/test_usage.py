"""The usage listener, rule by rule; a case's id names the section that asks for it."""

import pytest
from msgspec.structs import astuple

from osmo_listener.listeners.objects import UsagePod
from osmo_transport.message import Version
from tests.listener_rules.usage_harness import (
    FLUSH,
    T0,
    ZEROS,
    World,
    cores,
    cpus,
    decode,
    make_pod,
    shown,
)

LEAVING: dict[str, tuple[UsagePod | None, int]] = {
    "3.4 succeeds": (make_pod("a", cores(1), phase="Succeeded", rv=2), 2),
    "3.4 fails": (make_pod("a", cores(1), phase="Failed", rv=2), 2),
    "3.4 is deleted": (None, 2),
    "3.4 leaves its node": (make_pod("a", cores(1), node="", rv=2), 2),
}


@pytest.mark.parametrize(("new", "version"), LEAVING.values(), ids=LEAVING)
def test_zeros_once_after_the_last_pod(new: UsagePod | None, version: int) -> None:
    """3.4: when the last pod no longer counts, zeros are sent once, and never again."""
    world = World()
    world.synced(pod := make_pod("a", cores(1)))
    world.change(pod, new, version)
    assert shown(world.flush()) == {"n1": (ZEROS, ZEROS)}
    world.change(pod, new, version)
    assert world.flush() == []
    assert world.listener.next_deadline() is None


def test_3_4_added_once_by_uid() -> None:
    """3.4: a pod that is told again counts once; another of its name counts for itself."""
    world = World()
    world.synced(pod := make_pod("a", cores(1)))
    world.add(pod)
    world.change(pod, make_pod("a", cores(1), rv=2))
    assert world.flush() == []
    world.add(make_pod("a", cores(1), uid="other", rv=3))
    assert cpus(world.flush()) == {"n1": ("2", "0")}


def test_replaced_pod() -> None:
    """A pod that took the name of another takes its place, told in one change."""
    world = World()
    world.synced(old := make_pod("a", cores(1)))
    world.change(old, make_pod("a", cores(4), uid="new", node="n2", rv=3))
    assert cpus(world.flush()) == {"n2": ("4", "0"), "n1": ("0", "0")}


def test_final_state_does_not_matter() -> None:
    """What is subtracted is what was added, whatever the last state of the pod says."""
    world = World()
    world.synced(make_pod("a", cores(1)), make_pod("b", cores(2)))
    world.change(make_pod("a", cores(7), node="n9", phase="Failed", rv=3), None)
    assert cpus(world.flush()) == {"n1": ("2", "0")}


def test_unknown_pod_that_goes() -> None:
    """The end of a pod that never counted changes nothing."""
    world = World()
    world.synced(make_pod("a", cores(1)))
    world.change(make_pod("b", cores(1)), None)
    assert world.flush() == []


def test_resize_in_place() -> None:
    """Requests that change while the pod runs are followed."""
    world = World()
    world.synced(pod := make_pod("a", cores(1)))
    world.change(pod, make_pod("a", cores(3), rv=2))
    assert cpus(world.flush()) == {"n1": ("3", "0")}


def test_moved_pod() -> None:
    """A pod on another node leaves the first one, whose total is not harmed."""
    world = World()
    pod, other = make_pod("a", cores(1)), make_pod("b", cores(2))
    world.synced(pod, other)
    world.change(pod, make_pod("a", cores(1), node="n2", rv=2))
    assert cpus(world.flush()) == {"n1": ("2", "0"), "n2": ("1", "0")}


def test_3_4_flush_interval() -> None:
    """3.4: changes are collected until the interval is over, then each node is sent once."""
    world = World()
    world.synced(make_pod("a", cores(1)), make_pod("b", cores(1), node="n2"))
    assert world.listener.next_deadline() is None
    for number in range(10):
        world.add(make_pod(f"c{number}", cores(1), node=f"n{1 + number % 2}", rv=10 + number))
    assert world.listener.next_deadline() == T0 + FLUSH
    assert world.listener.due(T0 + FLUSH - 0.1) == []
    assert cpus(world.listener.due(T0 + FLUSH)) == {"n1": ("6", "0"), "n2": ("6", "0")}
    assert world.listener.next_deadline() is None


def test_change_after_a_quiet_time_is_due_at_once() -> None:
    """The interval is between two flushes: after a long quiet time nobody waits."""
    world = World()
    world.synced()
    world.now += 10 * FLUSH
    world.add(make_pod("a", cores(1)))
    deadline = world.listener.next_deadline()
    assert deadline is not None
    assert deadline <= world.now
    assert cpus(world.listener.due(world.now)) == {"n1": ("1", "0")}
    world.add(make_pod("b", cores(1), rv=2))
    assert world.listener.next_deadline() == world.now + FLUSH


def test_clock_that_is_set_back() -> None:
    """A change is sent within the interval even if the clock went back by hours."""
    world = World()
    world.synced()
    world.now -= 7200
    world.add(make_pod("a", cores(1)))
    assert world.listener.next_deadline() == world.now + FLUSH


def test_first_flush_is_the_snapshot() -> None:
    """Nothing is sent of half a list; when it is complete, nobody waits for the interval."""
    world = World()
    pods = [make_pod("a", cores(1)), make_pod("b", cores(2), node="n2")]
    world.add(*pods)
    assert world.listener.next_deadline() is None
    assert world.flush() == []
    messages = world.snapshot(*pods)
    assert cpus(messages) == {"n1": ("1", "0"), "n2": ("2", "0")}
    assert (decode(messages[-1]).kind, decode(messages[-1]).count) == ("update_node_usage", 2)
    assert world.flush() == []


def test_repeat_is_not_sent() -> None:
    """A flush that would say what was said last says nothing."""
    world = World()
    world.synced(make_pod("a", cores(1)))
    world.add(pod := make_pod("b", cores(1), rv=2))
    world.change(pod, None, 3)
    assert world.flush() == []


def test_node_whose_pod_came_and_went_is_not_sent() -> None:
    """Of a node that was not reported there are no zeros to tell."""
    world = World()
    world.synced()
    world.add(pod := make_pod("a", cores(1)))
    world.change(pod, None, 2)
    assert world.flush() == []
    assert world.listener.next_deadline() is None


def test_versions_rise() -> None:
    """Reports are numbered: the versions of pods, whatever they are, do not enter."""
    world = World()
    world.add(pod := make_pod("a", cores(1), rv=50))
    first, end = world.snapshot(pod)
    assert first.version == Version(1, 1)
    assert (end.kind, end.key, end.version) == (
        "snapshot_end",
        "update_node_usage",
        Version(1, 50),
    )
    world.hostnames["n1"] = "h1"
    world.listener.node_changed("n1")
    (second,) = world.flush()
    assert second.version == Version(1, 2)
    world.add(make_pod("b", cores(1), rv=40), make_pod("c", node="n2", rv=41))
    assert [message.version for message in world.flush()] == [Version(1, 3), Version(1, 4)]
    world.change(pod, None, 2**62)
    (last,) = world.flush()
    assert last.version == Version(1, 5)


def test_forgotten_node_has_a_higher_version_when_it_returns() -> None:
    """After its zeros a node is forgotten, and still its next report is the newer one."""
    world = World()
    world.synced(pod := make_pod("a", cores(1), rv=5))
    world.change(pod, None, 5)
    (zeros,) = world.flush()
    world.add(make_pod("b", cores(1), rv=5))
    (back,) = world.flush()
    assert astuple(back.version) > astuple(zeros.version)


def test_new_epoch_sends_everything_again() -> None:
    """After a restart every node that has pods is sent with the new epoch, changed or not."""
    world = World()
    pods = [make_pod("a", cores(1)), make_pod("b", cores(2), node="n2")]
    world.synced(*pods)
    world.listener.restart(2)
    world.add(make_pod("c", cores(4), rv=2))
    assert world.listener.next_deadline() is None
    assert world.flush() == []
    messages = world.snapshot(*pods)
    assert cpus(messages) == {"n1": ("1", "0"), "n2": ("2", "0")}
    assert {message.version.epoch for message in messages} == {2}
    assert decode(messages[-1]).count == 2


def test_zeros_are_left_to_the_snapshot() -> None:
    """In a new epoch an empty node is not sent: the end of the snapshot clears its row."""
    world = World()
    world.synced(pod := make_pod("a", cores(1)))
    world.change(pod, None, 2)
    world.listener.restart(2)
    (end,) = world.snapshot()
    assert decode(end).count == 0
    assert world.listener.next_deadline() is None
    assert world.flush() == []


def test_snapshot_is_the_truth() -> None:
    """A snapshot takes over what is alive: of what is not, nothing counts any more."""
    world = World()
    world.add(make_pod("a", cores(1)), kept := make_pod("b", cores(2)))
    assert cpus(world.snapshot(kept, make_pod("c", cores(4), node="n2"))) == {
        "n1": ("2", "0"),
        "n2": ("4", "0"),
    }


def test_changes_during_a_snapshot() -> None:
    """The messages tell what is true when they are made, and the end counts each node once."""
    world = World()
    pods = [make_pod(name, cores(1), node=f"n-{name}") for name in "abc"]
    world.add(*pods)
    snapshot = world.listener.snapshot(pods, 9, world.now)
    assert cpus([next(snapshot)]) == {"n-a": ("1", "0")}
    world.change(pods[1], None, 10)
    world.add(make_pod("d", cores(1), node="n-d", rv=11))
    world.change(pods[2], make_pod("c", cores(5), node="n-c", rv=12))
    assert cpus(world.flush()) == {"n-d": ("1", "0"), "n-c": ("5", "0")}
    world.change(pods[2], make_pod("c", cores(6), node="n-c", rv=13))
    (end,) = snapshot
    assert decode(end).count == 3


def test_restart_ends_an_older_snapshot() -> None:
    """A snapshot of an epoch that is over says nothing more."""
    world = World()
    pods = [make_pod("a", cores(1)), make_pod("b", cores(1), node="n2")]
    world.add(*pods)
    snapshot = world.listener.snapshot(pods, 9, world.now)
    next(snapshot)
    world.listener.restart(2)
    assert list(snapshot) == []


def test_hostname() -> None:
    """3.4: the node is named as in its own reports, its name takes the place of an unknown one."""
    world = World()
    world.hostnames["n1"] = "host-1"
    pods = [make_pod("a", cores(1)), make_pod("b", cores(1), node="n2")]
    world.add(*pods)
    reports = [decode(message) for message in world.snapshot(*pods)[:-1]]
    assert [(body.node, body.hostname) for body in reports] == [("n1", "host-1"), ("n2", "n2")]


def test_hostname_that_becomes_known() -> None:
    """The node is sent again with it; while it stays the same, or is lost again, it is not."""
    world = World()
    world.synced(make_pod("a", cores(1)))
    world.listener.node_changed("n1")
    world.listener.node_changed("unheard-of")
    assert world.listener.next_deadline() is None
    world.hostnames["n1"] = "host-1"
    world.listener.node_changed("n1")
    (message,) = world.flush()
    assert (message.key, decode(message).hostname) == ("n1", "host-1")
    world.listener.node_changed("n1")
    del world.hostnames["n1"]
    world.listener.node_changed("n1")
    assert world.flush() == []


def test_message() -> None:
    """A report is of its kind, keyed by the node, never final, with the time of its making."""
    world = World()
    world.add(pod := make_pod("a", cores(1)))
    report, _ = world.snapshot(pod)
    assert (report.kind, report.key, report.final, report.timestamp) == (
        "update_node_usage",
        "n1",
        False,
        T0,
    )


def test_further_list_reports_nothing() -> None:
    """A further list has told its changes already."""
    world = World()
    world.synced(pod := make_pod("a", cores(1)))
    assert tuple(world.listener.listed([pod], 9, T0)) == ()
