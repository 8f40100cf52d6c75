"""The node listener over a cluster's life: deletions, new rules, snapshots and inventories; 3.3 is
the number of the rule for nodes."""

import logging

import pytest

from osmo_listener.listeners import NodeListener
from osmo_reports.bodies import decode_body
from osmo_reports.fitting import MAX_INVENTORY
from osmo_transport import Limits, Refusal, Version
from osmo_transport.message import Message, encode_message
from tests.listener_rules.harness import T0
from tests.listener_rules.nodes import (
    EPOCH,
    READY,
    Listed,
    Sent,
    gone,
    make_listener,
    make_node,
    see,
    sent,
)


@pytest.fixture
def listener() -> NodeListener:
    """A listener with the default settings, in epoch 7, that draws nothing but zeros."""
    return make_listener()


def test_deletion(listener: NodeListener) -> None:
    """3.3: the last state once more, marked as deleted, with the version of the event; then the
    node is forgotten."""
    see(listener, make_node(rv=1))
    last = make_node(rv=5, unschedulable=True)
    (message,) = listener.on_change(last, None, 5, T0)
    body = decode_body(message.kind, message.payload)
    assert message.version == Version(EPOCH, 5)
    assert (body.deleted, body.available, body.hostname) == (True, False, "host-n1")
    assert gone(listener, last, 6) == []
    assert listener.next_deadline() is None
    assert sent(listener.snapshot([], 6, T0)) == [Listed((EPOCH, 6), ())]


def test_recreated_under_the_same_name(listener: NodeListener) -> None:
    """However the informer tells it, what remains is the new node."""
    old, new = make_node(uid="1", rv=3), make_node(uid="2", rv=5)
    # as a deletion and an addition
    see(listener, old)
    assert gone(listener, old, 4) == [Sent("n1", (EPOCH, 4), deleted=True)]
    assert see(listener, new) == [Sent("n1", (EPOCH, 5))]
    # as one change: a body that is the same needs no report
    newer = make_node(uid="3", rv=8)
    assert sent(listener.on_change(new, newer, 8, T0)) == []
    # the deletion of the old one after that
    assert gone(listener, new, 7) == []
    assert gone(listener, newer, 9) == [Sent("n1", (EPOCH, 9), deleted=True)]


def test_a_successor_outranks_a_deletion_that_was_raised(listener: NodeListener) -> None:
    """The deletion's version may be above the one that the new node comes with."""
    see(listener, make_node(uid="1", rv=3))
    for rules in ({"Ready": "False"}, {"Ready": "True"}, {"Ready": "False"}):
        listener.set_rules(rules, T0)
    assert gone(listener, make_node(uid="1", rv=4), 4) == [
        Sent("n1", (EPOCH, 7), available=False, deleted=True)
    ]
    assert see(listener, make_node(uid="2", rv=5)) == [Sent("n1", (EPOCH, 8), available=False)]


def test_new_rules_are_applied_at_once(listener: NodeListener) -> None:
    """3.3: every node is judged anew, and reported if that changes the verdict, with a version of
    its own."""
    see(listener, make_node("a", rv=1, conditions=READY | {"Gpu": "False"}))
    see(listener, make_node("b", rv=2))
    see(listener, make_node("c", rv=3, conditions=READY | {"Gpu": "False"}, unschedulable=True))
    rules = {"Gpu": "True"}
    assert sent(listener.set_rules(rules, T0)) == [Sent("a", (EPOCH, 2), available=False)]
    assert listener.set_rules(dict(rules), T0) == []
    assert sent(listener.set_rules({}, T0)) == [Sent("a", (EPOCH, 3), available=True)]
    # the next event of that version says something new again
    assert see(listener, make_node("a", rv=3, unschedulable=True)) == [Sent("a", (EPOCH, 4), False)]


def test_a_wrong_rule_is_logged_once(
    listener: NodeListener, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning for each wrong rule of a new set, and none when the same set comes again."""
    rules = {"(": "x", "[": "y", "Ready": "True"}
    listener.set_rules(rules, T0)
    listener.set_rules(rules, T0)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "the rule (=x" in caplog.messages[0]
    assert "the rule [=y" in caplog.messages[1]


def test_rules_leave_to_the_snapshot_what_is_not_reported(listener: NodeListener) -> None:
    """After a restart nothing was sent, so no verdict changed; the snapshot has the new rules."""
    see(listener, make_node())
    listener.restart(EPOCH + 1)
    assert listener.set_rules({"Ready": "False"}, T0) == []
    assert sent(listener.snapshot([make_node()], 9, T0)) == [
        Sent("n1", (EPOCH + 1, 1), available=False),
        Listed((EPOCH + 1, 9), ("n1",)),
    ]


def test_snapshot(listener: NodeListener) -> None:
    """Every node that is not yet reported in this epoch, then the names of all, sorted."""
    b, a = make_node("b", rv=4), make_node("a", rv=2)
    see(listener, b)
    assert sent(listener.snapshot([b, a], 4, T0)) == [
        Sent("a", (EPOCH, 2)),
        Listed((EPOCH, 4), ("a", "b")),
    ]
    listener.restart(EPOCH + 1)
    assert listener.next_deadline() is None
    assert sent(listener.snapshot([b, a], 9, T0)) == [
        Sent("b", (EPOCH + 1, 4)),
        Sent("a", (EPOCH + 1, 2)),
        Listed((EPOCH + 1, 9), ("a", "b")),
    ]


def test_an_empty_cluster_has_an_empty_inventory(listener: NodeListener) -> None:
    """So that the rows of nodes which went while nobody watched are removed."""
    assert sent(listener.snapshot([], 3, T0)) == [Listed((EPOCH, 3), ())]


def test_changes_in_the_middle_of_a_snapshot(listener: NodeListener) -> None:
    """A node that changed, came or went meanwhile is told once, and the inventory knows of it."""
    a, b, c = make_node("a", rv=1), make_node("b", rv=2), make_node("c", rv=3)
    snapshot = listener.snapshot([a, b, c], 3, T0)
    assert sent([next(snapshot)]) == [Sent("a", (EPOCH, 1))]
    see(listener, make_node("b", rv=4, unschedulable=True))
    gone(listener, c, 5)
    see(listener, make_node("d", rv=6))
    assert sent(snapshot) == [Listed((EPOCH, 6), ("a", "b", "d"))]


def test_a_restart_ends_a_snapshot(listener: NodeListener) -> None:
    """Nothing of an older epoch is made after it, and no inventory of half a cluster."""
    nodes = [make_node("a"), make_node("b", rv=2)]
    snapshot = listener.snapshot(nodes, 2, T0)
    next(snapshot)
    listener.restart(EPOCH + 1)
    assert list(snapshot) == []
    finished = listener.snapshot(nodes, 2, T0)
    assert [next(finished).key, next(finished).key] == ["a", "b"]
    listener.restart(EPOCH + 2)
    assert list(finished) == []


def test_what_a_snapshot_no_longer_holds_is_gone(listener: NodeListener) -> None:
    """It is reported as deleted, in case that it was reported in this epoch."""
    see(listener, make_node("a", rv=2))
    assert sent(listener.snapshot([], 3, T0)) == [
        Sent("a", (EPOCH, 3), deleted=True),
        Listed((EPOCH, 3), ()),
    ]


def test_an_inventory_after_every_list(listener: NodeListener) -> None:
    """3.3: of the nodes as of that list, deletions that it brought taken into account."""
    a, b, c = make_node("a", rv=1), make_node("b", rv=2), make_node("c", rv=5)
    list(listener.snapshot([a, b], 2, T0))
    see(listener, c)
    gone(listener, a, 6)
    assert sent(listener.listed([b, c], 6, T0)) == [Listed((EPOCH, 6), ("b", "c"))]
    assert sent(listener.listed([b, c], 6, T0)) == [Listed((EPOCH, 6), ("b", "c"))]


def test_an_inventory_is_a_border(listener: NodeListener) -> None:
    """No report before it is newer, and no news after it is as old, even where versions were raised
    above the cluster's own."""
    a, b = make_node("a", rv=1), make_node("b", rv=2)
    list(listener.snapshot([a, b], 2, T0))
    for rules in ({"Ready": "False"}, {"Ready": "True"}):
        listener.set_rules(rules, T0)
    assert sent(listener.listed([a, b], 2, T0)) == [Listed((EPOCH, 4), ("a", "b"))]
    assert see(listener, make_node("c", rv=3)) == [Sent("c", (EPOCH, 5))]
    assert gone(listener, a, 4) == [Sent("a", (EPOCH, 5), deleted=True)]
    assert see(listener, make_node("b", rv=5, unschedulable=True)) == [Sent("b", (EPOCH, 5), False)]


def test_verdicts_are_told_at_each_evaluation() -> None:
    """A labeller hears of every node that is seen, reported or not, and of those that went."""
    told: list[object] = []
    listener = NodeListener(
        on_verdict=lambda node, available: told.append((node.metadata.name, available)),
        on_gone=told.append,
    )
    a, b = make_node("a", rv=1), make_node("b", rv=2, unschedulable=True)
    list(listener.snapshot([a, b], 2, T0))
    assert told == [("a", True), ("b", False)]
    told.clear()
    see(listener, a)
    listener.set_rules({"Ready": "False"}, T0)
    assert told == [("a", True), ("a", False), ("b", False)]
    told.clear()
    listener.on_change(a, None, 3, T0)
    assert told == ["a"]


def inventory_of(messages: list[Message]) -> set[str]:
    """The names in an inventory that is told in parts: all of one version, each of its own key."""
    parts = [decode_body(message.kind, message.payload) for message in messages]
    assert {message.kind for message in messages} == {"node_inventory_part"}
    assert len({message.key for message in messages}) == len(messages)
    assert len({message.version for message in messages}) == 1
    assert {part.parts for part in parts} == {len(messages)}
    return {name for part in parts for name in part.nodes}


NAME = 240
"""Characters of a name; in an inventory it takes three bytes more, and so does its hostname."""
FITS = (MAX_INVENTORY - 30) // (2 * (NAME + 2))


@pytest.mark.parametrize("more", [0, 1])
def test_an_inventory_at_the_border(listener: NodeListener, more: int) -> None:
    """One message as long as it fits into one, else parts; each fits where messages are as large as
    they may be."""
    names = {f"n{number:0{NAME - 1}}" for number in range(FITS + more)}
    nodes = [make_node(name, labels={"kubernetes.io/hostname": name[::-1]}) for name in names]
    told = list(listener.snapshot(nodes, 9, T0))[len(nodes) :]
    assert all(len(encode_message(message)) <= Limits().message_bytes for message in told)
    if more:
        assert len(told) > 1
        assert inventory_of(told) == names
        assert told[0].version == Version(EPOCH, 9)
    else:
        (whole,) = told
        assert MAX_INVENTORY - 2 * NAME < len(whole.payload) <= MAX_INVENTORY
        assert set(decode_body(whole.kind, whole.payload).nodes) == names


def test_a_restart_between_two_parts(listener: NodeListener) -> None:
    """The rest is not told: the new epoch has an inventory of its own. A change is, as newer."""
    nodes = [make_node(f"n{number:0{NAME - 1}}") for number in range(2 * FITS)]
    told = listener.snapshot(nodes, 9, T0)
    assert all(next(told).kind == "update_node" for _ in nodes)
    (first,) = {next(told).version}
    assert see(listener, make_node("new", rv=3)) == [Sent("new", (EPOCH, 10))]
    assert {next(told).version} == {first}
    listener.restart(EPOCH + 1)
    assert list(told) == []


def test_an_inventory_that_is_too_large_for_the_link(listener: NodeListener) -> None:
    """What there is then is told in parts, newer than all that was reported, and so is each that
    follows."""
    *_, whole = listener.snapshot([make_node("a", rv=3), make_node("b", rv=4)], 9, T0)
    see(listener, make_node("c", rv=12))
    no = Refusal(whole.id, whole.kind, whole.key, "too large", whole.version)
    parts = listener.refused(no, T0)
    assert inventory_of(parts) == {"a", "b", "c"}
    assert parts[0].version == Version(EPOCH, 12)
    assert see(listener, make_node("c", rv=12, unschedulable=True)) == [
        Sent("c", (EPOCH, 13), available=False)
    ]
    part = Refusal(parts[0].id, parts[0].kind, parts[0].key, "too large", parts[0].version)
    assert listener.refused(part, T0) == []
    assert inventory_of(list(listener.listed([make_node("c", rv=12)], 20, T0))[2:]) == {"c"}
    listener.restart(EPOCH + 1)
    assert listener.refused(no, T0) == []
