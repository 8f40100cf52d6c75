"""The node listener against a naive model of what a store has to hold.

Between the cluster and the listener stands the informer's own store, so that gaps, lists in pages
and nodes that were created again are told as an informer tells them. The model knows nothing of
reports: it works out the state of every known node anew. The rows know nothing of nodes: of each
key the newest report counts, in whatever order they came, and the newest inventory removes what is
older and not in it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from msgspec.structs import astuple

from osmo_listener.informer.source import Event, EventType, Page
from osmo_listener.informer.store import Change, ChangeType, Store
from osmo_listener.listeners import NodeListener
from osmo_listener.listeners.objects import Node, NodeTaint, Quantity
from osmo_reports.bodies import NodeInventory, Taint, UpdateNode, decode_body
from osmo_reports.conditions import DEFAULT_RULES
from osmo_transport.message import Message
from tests.listener_rules.harness import SINCE, T0
from tests.listener_rules.nodes import TTL, Rows, make_node

NAMES = ("a", "b", "c")
ALLOCATABLE: list[tuple[dict[str, Quantity], dict[str, str]]] = [
    ({}, {}),
    ({"cpu": "1500m", "memory": "1Gi"}, {"cpu": "1", "memory": "1048576Ki"}),
    ({"cpu": "1.9", "memory": "1024Mi"}, {"cpu": "1", "memory": "1048576Ki"}),
    ({"cpu": "x", "pods": "9"}, {"pods": "9"}),
]
CONDITIONS: list[dict[str, str]] = [
    {},
    {"Ready": "True"},
    {"Ready": "False"},
    {"Ready": "Unknown"},
    {"Ready": "True", "Gpu": "False"},
    {"GpuProblem": "True", "Ready": "True"},
]
RULES: list[Mapping[str, str]] = [
    DEFAULT_RULES,
    {},
    {"Ready": "True|False"},
    {"Gpu": "False"},
    {"^Gpu$": "False", "G": "True"},
    {"(": "True", "Ready": "Unknown"},
]
LABELS: list[dict[str, str]] = [
    {},
    {"kubernetes.io/hostname": "h"},
    {"kubernetes.io/hostname": "h", "x": "y"},
]
TAINTS = [(), (NodeTaint("k", "v", "NoSchedule", SINCE),), (NodeTaint("k"), NodeTaint("k", "w"))]


class State(NamedTuple):
    """What a node may look like."""

    conditions: dict[str, str]
    unschedulable: bool
    labels: dict[str, str]
    taints: tuple[NodeTaint, ...]
    allocatable: int
    """An index into `ALLOCATABLE`."""


STATES = st.builds(
    State,
    st.sampled_from(CONDITIONS),
    st.booleans(),
    st.sampled_from(LABELS),
    st.sampled_from(TAINTS),
    st.integers(0, len(ALLOCATABLE) - 1),
)
STEPS = st.integers(1, 3)


def available(rules: Mapping[str, str], state: State) -> bool:
    """Section 3.3 in the words of `re`."""
    patterns = {"^" + pattern: status for pattern, status in rules.items() if pattern != "("}
    if not any(re.search(pattern, "Ready") for pattern in patterns):
        patterns["^Ready$"] = "True"
    for kind, status in state.conditions.items():
        wanted = [regex for pattern, regex in patterns.items() if re.search(pattern, kind)]
        if wanted and not any(re.fullmatch(regex, status) for regex in wanted):
            return False
    return not state.unschedulable


class Machine(RuleBasedStateMachine):
    """Steps of a cluster, of the time, of the rules and of the connections."""

    @initialize()
    def begin(self) -> None:
        self.cluster: dict[str, tuple[Node, State]] = {}
        self.version = 1000
        self.uids = 0
        self.epoch = 0
        self.now = T0
        self.pushed: Mapping[str, str] = DEFAULT_RULES
        self.draws = 0
        self.rows = Rows()
        self.gap = False
        self.snapshot: Iterator[Message] | None = None
        self.start_process()
        self.relist(0)

    # What happens to the cluster.

    def put(self, name: str, uid: str, state: State, step: int) -> Node:
        """Store a node as the cluster does."""
        self.version += step
        while (uid, self.version) in self.states:  # from before a backup was restored
            self.version += 1
        node = make_node(
            name,
            uid=uid,
            rv=self.version,
            labels=state.labels,
            taints=state.taints,
            unschedulable=state.unschedulable,
            allocatable=ALLOCATABLE[state.allocatable][0],
            conditions=state.conditions,
        )
        self.cluster[name] = node, state
        self.states[node.metadata.uid, self.version] = state
        return node

    def happen(self, kind: EventType, node: Node) -> None:
        """An event of the watch, unless it is broken."""
        if not self.gap:
            self.tell(self.store.apply([Event(kind, self.version, node)]))

    @rule(name=st.sampled_from(NAMES), state=STATES, step=STEPS)
    def create_or_modify(self, name: str, state: State, step: int) -> None:
        known = self.cluster.get(name)
        if known is None:
            self.uids += 1
            self.happen(EventType.ADDED, self.put(name, f"uid-{self.uids}", state, step))
        else:
            uid = known[0].metadata.uid
            self.happen(EventType.MODIFIED, self.put(name, uid, state, step))

    @precondition(lambda self: self.cluster)
    @rule(data=st.data(), step=STEPS)
    def delete(self, data: st.DataObject, step: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.cluster)))
        node, state = self.cluster[name]
        last = self.put(name, node.metadata.uid, state, step)
        del self.cluster[name]
        self.happen(EventType.DELETED, last)

    @rule()
    def lose_the_watch(self) -> None:
        self.gap = True

    @rule(epochs=st.integers(0, 2))
    def relist(self, epochs: int) -> None:
        """A list in pages of one node; after as many of them an epoch begins."""
        self.list_pages(epochs)
        self.synced()

    @rule(back=st.integers(1, 9))
    def restore_the_cluster(self, back: int) -> None:
        """Every node is as in a backup, with versions that were given out already."""
        self.version -= back
        self.put_back()
        self.list_pages(0)
        self.begin_an_epoch()
        self.told = self.version
        self.resync()
        self.synced()

    def put_back(self) -> None:
        for name, (node, state) in list(self.cluster.items()):
            version = self.version
            while (node.metadata.uid, version) in self.states:
                version -= 1
            metadata = msgspec.structs.replace(node.metadata, resource_version=str(version))
            self.cluster[name] = msgspec.structs.replace(node, metadata=metadata), state
            self.states[node.metadata.uid, version] = state

    # What happens to the listener.

    def start_process(self) -> None:
        """A listener and an informer that know nothing."""
        self.listener = NodeListener(draw=self.draw)
        self.store: Store[Node] = Store()
        self.states: dict[tuple[str, int], State] = {
            (node.metadata.uid, int(node.metadata.resource_version)): state
            for node, state in self.cluster.values()
        }
        self.epoch += 1
        self.told = 0
        self.listener.restart(self.epoch)
        self.snapshot = None
        self.first_list = True
        self.sent: dict[str, Message] = {}
        self.take(self.listener.set_rules(self.pushed, self.now))

    @rule()
    def restart_the_process(self) -> None:
        self.start_process()
        self.relist(0)

    @rule()
    def begin_an_epoch(self) -> None:
        self.epoch += 1
        self.listener.restart(self.epoch)
        self.snapshot = self.listener.snapshot(list(self.store.values()), self.told, self.now)

    @precondition(lambda self: self.snapshot is not None)
    @rule(count=st.integers(1, 5))
    def send_more_of_the_snapshot(self, count: int) -> None:
        assert self.snapshot is not None
        for _ in range(count):
            message = next(self.snapshot, None)
            if message is None:
                self.snapshot = None
                return
            self.take([message])

    @rule(rules=st.sampled_from(RULES))
    def change_the_rules(self, rules: Mapping[str, str]) -> None:
        self.pushed = rules
        self.take(self.listener.set_rules(rules, self.now))

    @rule()
    def resync(self) -> None:
        self.tell([Change(ChangeType.RESYNC, node, node, 0) for node in self.store.values()])

    @precondition(lambda self: self.snapshot is None)
    @rule(seconds=st.sampled_from([1.0, 300.0, TTL, 1.1 * TTL, 2 * TTL]))
    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while (deadline := self.listener.next_deadline()) is not None and deadline <= until:
            assert deadline > self.now
            self.now = deadline
            self.take(self.listener.due(self.now))
        self.now = until

    def draw(self) -> float:
        self.draws += 1
        return self.draws % 4 / 4

    def list_pages(self, epochs: int) -> None:
        self.gap = False
        self.store.start_list()
        for number, (node, _) in enumerate(list(self.cluster.values())):
            self.tell(self.store.apply_page(Page([node], None)))
            if number < epochs and not self.first_list:
                self.begin_an_epoch()
        self.tell(self.store.finish_list(self.version))

    def synced(self) -> None:
        """The list is complete: what a reporter does then."""
        self.told = max(self.told, self.version)
        objects = list(self.store.values())
        if self.first_list or self.snapshot is not None:
            self.take(self.listener.snapshot(objects, self.told, self.now))
        else:
            self.take(self.listener.listed(objects, self.told, self.now))
        self.first_list = False
        self.snapshot = None
        body: NodeInventory = decode_body("node_inventory", self.sent["nodes"].payload)
        assert body.nodes == tuple(sorted(self.cluster))

    def tell(self, changes: list[Change[Node]]) -> None:
        for change in changes:
            version = change.resource_version
            self.told = max(self.told, version)
            self.take(self.listener.on_change(change.old, change.new, version, self.now))

    def take(self, messages: list[Message] | Iterator[Message]) -> None:
        """Hand messages over: each says something new, with a higher version, or comes in time."""
        for message in messages:
            assert message.version.epoch == self.epoch
            last = self.sent.get(message.key)
            inventory = self.sent.get("nodes")
            again = last is not None and last.version.epoch == self.epoch
            if last is not None and again and message.payload == last.payload:
                assert message.supersedes(last)
                assert message.kind == "node_inventory" or message.timestamp >= last.timestamp + TTL
            else:
                for before in (last, inventory):
                    assert before is None or astuple(message.version) > astuple(before.version)
            self.sent[message.key] = message
            self.rows.apply(message)

    @invariant()
    def rows_equal_model(self) -> None:
        """What is known is what is shown, once a snapshot that began is over."""
        if self.snapshot is not None:
            return
        expected = {}
        for node in self.store.values():
            version = int(node.metadata.resource_version)
            state = self.states[node.metadata.uid, version]
            expected[node.metadata.name] = UpdateNode(
                node=node.metadata.name,
                hostname=state.labels.get("kubernetes.io/hostname", "-"),
                available=available(self.pushed, state),
                conditions=tuple(t for t, status in state.conditions.items() if status == "True"),
                allocatable=ALLOCATABLE[state.allocatable][1],
                labels=state.labels,
                taints=tuple(
                    Taint(t.key, t.value, t.effect, t.time_added or "") for t in state.taints
                ),
            )
        assert self.rows.live() == expected
        for name in expected:
            assert self.now - self.sent[name].timestamp <= 1.2 * TTL

    @invariant()
    def timers_are_bounded(self) -> None:
        assert len(self.listener._deadlines) <= len(self.store)


Machine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestNodes = Machine.TestCase
