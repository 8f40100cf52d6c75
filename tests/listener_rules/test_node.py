"""What the node listener sends and when, case by case; 3.3 is the number of the rule for nodes."""

import msgspec
import pytest

from osmo_listener.listeners import NodeListener
from osmo_listener.listeners.node import NodeConfig
from osmo_listener.listeners.objects import Node, NodeTaint, Quantity
from osmo_reports.bodies import NodeInventory, Taint, UpdateNode, decode_body
from osmo_reports.conditions import DEFAULT_RULES
from osmo_transport.message import Version
from tests.listener_rules.harness import T0
from tests.listener_rules.nodes import EPOCH, READY, TTL, Sent, make_listener, make_node, see, sent

TAINT = NodeTaint("k", "v", "NoSchedule", "2026-01-02T03:04:05Z")


@pytest.fixture
def listener() -> NodeListener:
    """A listener with the default settings, in epoch 7, that draws nothing but zeros."""
    return make_listener()


def body_of(node: Node) -> UpdateNode:
    """What is reported of a node at first sight."""
    (message,) = make_listener().on_change(None, node, 1, T0)
    body: UpdateNode = decode_body(message.kind, message.payload)
    return body


def test_body(listener: NodeListener) -> None:
    """3.3: every field of the body comes from where the rules say."""
    node = make_node(
        "gpu-1",
        rv=42,
        labels={"kubernetes.io/hostname": "h", "feature.node.kubernetes.io/x": "y"},
        taints=(TAINT, NodeTaint("only-key")),
        allocatable={"cpu": "127900m", "memory": "1025", "nvidia.com/gpu": "8"},
        conditions={"Other": "Unknown", "B": "True", "Ready": "True", "A": "False"},
    )
    (message,) = listener.on_change(None, node, 42, T0)
    assert message.key == "gpu-1"
    assert message.version == Version(EPOCH, 42)
    assert message.timestamp == T0
    assert not message.final
    assert decode_body(message.kind, message.payload) == UpdateNode(
        node="gpu-1",
        hostname="h",
        available=True,
        conditions=("B", "Ready"),
        allocatable={"cpu": "127", "memory": "2Ki", "nvidia.com/gpu": "8"},
        labels={"kubernetes.io/hostname": "h", "feature.node.kubernetes.io/x": "y"},
        taints=(Taint("k", "v", "NoSchedule", "2026-01-02T03:04:05Z"), Taint("only-key")),
    )


@pytest.mark.parametrize(
    ("resource", "given", "shown"),
    [
        # 3.3: cpu floor(milli/1000)
        ("cpu", "4", "4"),
        ("cpu", "3999m", "3"),
        ("cpu", "999m", "0"),
        ("cpu", "3.9995", "4"),
        ("cpu", 8, "8"),
        ("cpu", 7.5, "7"),
        # 3.3: memory and ephemeral-storage ceil(bytes/1024)+"Ki"
        ("memory", "1Gi", "1048576Ki"),
        ("memory", "1", "1Ki"),
        ("memory", "1024", "1Ki"),
        ("memory", "1025", "2Ki"),
        ("memory", "16G", "15625000Ki"),
        ("memory", "2113542352Ki", "2113542352Ki"),
        ("memory", "128974848000m", "125952Ki"),
        ("memory", "0", "0Ki"),
        ("ephemeral-storage", "1e3", "1Ki"),
        ("ephemeral-storage", 4096, "4Ki"),
        # 3.3: the rest as given
        ("nvidia.com/gpu", "8", "8"),
        ("pods", "110", "110"),
        ("hugepages-2Mi", "1Gi", "1Gi"),
        ("example.com/odd", "what?", "what?"),
        ("example.com/number", 3, "3"),
        # what is no quantity is left out
        ("cpu", "many", None),
        ("memory", "", None),
        ("ephemeral-storage", "1Zi", None),
    ],
)
def test_allocatable(resource: str, given: Quantity, shown: str | None) -> None:
    """3.3, and that a bad quantity costs its field alone."""
    body = body_of(make_node(allocatable={resource: given, "x": "9"}))
    assert body.allocatable == {"x": "9"} | ({} if shown is None else {resource: shown})


def test_bad_fields_are_counted_and_logged_once(
    listener: NodeListener, caplog: pytest.LogCaptureFixture
) -> None:
    """Each value counts once, however often its node is seen; the log names the first alone."""
    see(listener, make_node("n1", allocatable={"cpu": "x", "memory": "1Ki"}))
    see(listener, make_node("n1", rv=2, allocatable={"cpu": "x", "memory": "1Ki"}))
    assert listener.bad_fields == 1
    see(listener, make_node("n1", rv=3, allocatable={"cpu": "y"}))
    see(listener, make_node("n2", rv=4, allocatable={"cpu": "x", "memory": "z"}))
    assert listener.bad_fields == 4
    assert [record.args for record in caplog.records] == [
        ("cpu", "n1", "x"),
        ("memory", "n2", "z"),
    ]


@pytest.mark.parametrize(
    ("labels", "hostname"),
    [({"kubernetes.io/hostname": "h"}, "h"), ({}, "-"), ({"hostname": "h"}, "-")],
)
def test_hostname(labels: dict[str, str], hostname: str) -> None:
    """3.3: the label, else `-`."""
    assert body_of(make_node(labels=labels)).hostname == hostname


def test_nodes_without_a_hostname_stay_apart(listener: NodeListener) -> None:
    """The key is the node's name, so two of them are two."""
    found = see(listener, make_node("a", labels={})) + see(listener, make_node("b", labels={}))
    assert [each.key for each in found if isinstance(each, Sent)] == ["a", "b"]


def test_an_inventory_tells_hostnames_where_they_are_not_the_names(listener: NodeListener) -> None:
    """For workers that know nodes by nothing else."""
    same = [make_node(name, labels={"kubernetes.io/hostname": name}) for name in "ba"]
    *_, message = listener.snapshot(same, 1, T0)
    assert decode_body(message.kind, message.payload) == NodeInventory(("a", "b"))
    *_, message = listener.listed([*same, make_node("c")], 2, T0)
    wanted = NodeInventory(("a", "b", "c"), ("a", "b", "host-c"))
    assert decode_body(message.kind, message.payload) == wanted


@pytest.mark.parametrize(
    ("rules", "node", "available"),
    [
        # 3.3: the default rule, and no Ready condition at all
        (DEFAULT_RULES, make_node(conditions=READY), True),
        (DEFAULT_RULES, make_node(conditions={"Ready": "False"}), False),
        (DEFAULT_RULES, make_node(conditions={"Ready": "Unknown"}), False),
        (DEFAULT_RULES, make_node(conditions={}), True),
        # 3.3: then `not spec.unschedulable`
        (DEFAULT_RULES, make_node(unschedulable=True), False),
        # 3.3: all conditions count, whatever their status
        ({"Gpu": "True"}, make_node(conditions=READY | {"GpuOk": "Unknown"}), False),
        ({"Gpu": "Unknown"}, make_node(conditions=READY | {"GpuOk": "Unknown"}), True),
        # 3.3: an override of Ready other than True
        ({"Ready": "True|False"}, make_node(conditions={"Ready": "False"}), True),
        (
            {"Ready": "True|False"},
            make_node(conditions={"Ready": "False"}, unschedulable=True),
            False,
        ),
        ({}, make_node(conditions={"Ready": "False"}), False),
        # 3.3: invalid regexes are skipped
        ({"(": "x", "Gpu": "True"}, make_node(conditions=READY | {"Gpu": "False"}), False),
        ({"(": "x"}, make_node(), True),
    ],
)
def test_availability(
    listener: NodeListener, rules: dict[str, str], node: Node, available: bool
) -> None:
    """3.3: by the rules, and only if pods may be scheduled."""
    listener.set_rules(rules, T0)
    assert see(listener, node) == [Sent("n1", (EPOCH, 1), available)]


def test_what_is_unchanged_is_sent_once(listener: NodeListener) -> None:
    """3.3: a newer resource version alone is no news, and neither is another way to write it."""
    assert len(see(listener, make_node(rv=1, allocatable={"memory": "1Gi"}))) == 1
    assert see(listener, make_node(rv=2, allocatable={"memory": "1024Mi"})) == []


@pytest.mark.parametrize(
    "changed",
    [
        make_node(rv=2, labels={"kubernetes.io/hostname": "other"}),
        make_node(rv=2, labels={"kubernetes.io/hostname": "host-n1", "a": "b"}),
        make_node(rv=2, taints=(msgspec.structs.replace(TAINT, value="w"),)),
        make_node(rv=2, taints=(TAINT, TAINT)),
        make_node(rv=2, taints=()),
        make_node(rv=2, taints=(TAINT,), unschedulable=True),
        make_node(rv=2, taints=(TAINT,), allocatable={"cpu": "2"}),
        make_node(rv=2, taints=(TAINT,), conditions=READY | {"Disk": "True"}),
        make_node(rv=2, taints=(TAINT,), conditions={"Ready": "False"}),
    ],
    ids=[
        *("hostname", "labels", "taint value", "one more taint", "no taint"),
        *("available", "allocatable", "conditions", "condition gone"),
    ],
)
def test_every_field_counts(listener: NodeListener, changed: Node) -> None:
    """3.3: any difference of the body is sent, taints in full, with the newer version."""
    see(listener, make_node(rv=1, taints=(TAINT,)))
    assert [each.version for each in see(listener, changed)] == [(EPOCH, 2)]


def test_back_and_forth_is_sent_three_times(listener: NodeListener) -> None:
    """A, B, A are three reports."""
    states = [make_node(rv=rv, unschedulable=rv == 2) for rv in (1, 2, 3)]
    assert [each for node in states for each in see(listener, node)] == [
        Sent("n1", (EPOCH, 1), True),
        Sent("n1", (EPOCH, 2), False),
        Sent("n1", (EPOCH, 3), True),
    ]


@pytest.mark.parametrize(("draw", "after"), [(0.0, TTL), (0.5, 1.1 * TTL), (1.0, 1.2 * TTL)])
def test_an_unchanged_node_is_sent_again(draw: float, after: float) -> None:
    """3.3: after 15 min and 0 to 20 %, by the clock alone, and so on."""
    listener = make_listener(draw=draw)
    see(listener, make_node(rv=3))
    for _ in range(2):
        at = listener.next_deadline()
        assert at is not None
        assert at == pytest.approx(T0 + after)
        assert sent(listener.due(at - 1)) == []
        assert sent(listener.due(at)) == [Sent("n1", (EPOCH, 3))]
        listener.restart(EPOCH)
        see(listener, make_node(rv=3))


def test_a_change_puts_the_next_report_off(listener: NodeListener) -> None:
    """3.3: the time counts from the last report; what is seen and not sent leaves it as it is."""
    see(listener, make_node(rv=1), T0)
    see(listener, make_node(rv=2, unschedulable=True), T0 + 100)
    see(listener, make_node(rv=3, unschedulable=True), T0 + 200)
    assert sent(listener.due(T0 + TTL)) == []
    assert sent(listener.due(T0 + TTL + 100)) == [Sent("n1", (EPOCH, 3), available=False)]
    assert listener.next_deadline() == T0 + 2 * TTL + 100


def test_zero_never_sends_again() -> None:
    """3.3: 0 turns the repetition off."""
    listener = make_listener(resend_after=0.0)
    see(listener, make_node())
    assert listener.next_deadline() is None


def test_each_report_draws_its_own_time() -> None:
    """3.3: nodes of one list do not come back in one moment."""
    numbers = iter([0.0, 0.25, 0.5])
    listener = NodeListener(draw=lambda: next(numbers))
    list(listener.snapshot([make_node("a"), make_node("b"), make_node("c")], 1, 0.0))
    found: list[float] = []
    while (at := listener.next_deadline()) is not None and len(found) < 3:
        found.append(at)
        listener._deadlines.take_due(at)
    assert found == pytest.approx([TTL, 1.05 * TTL, 1.1 * TTL])


@pytest.mark.parametrize(
    "prefix", ["osmo.nvidia.com/", "a/", "osmo.nvidia.com/node-", f"{'a' * 63}.b/{'c' * 55}"]
)
def test_a_prefix_that_a_label_can_have(prefix: str) -> None:
    """A domain, a slash, and what `verified` can follow."""
    assert NodeConfig(label_prefix=prefix).label_prefix == prefix


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "osmo",
        "/",
        "Osmo.com/",
        "a b/",
        "-a/",
        "a..b/",
        "a/-b",
        f"{'a' * 254}/",
        f"a/{'c' * 56}",
    ],
)
def test_a_prefix_that_no_label_can_have_is_refused(prefix: str) -> None:
    """At the start, and not by the API server for each node."""
    with pytest.raises(ValueError, match="label_prefix"):
        NodeConfig(label_prefix=prefix)
