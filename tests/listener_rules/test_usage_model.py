"""The usage listener against a recount of all pods.

The model keeps the pods that are alive and, when it is asked, sums them up from scratch. The store
knows nothing of pods: it applies the messages as every store does. Whatever pods are added,
changed, moved, deleted or missed, and whenever epochs begin, the two are equal after each flush.
"""

from collections.abc import Iterator

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import astuple

from osmo_listener.listeners.objects import UsagePod
from osmo_listener.listeners.usage import UsageConfig, UsageListener
from osmo_transport.message import Message
from tests.listener_rules.usage_harness import (
    FLUSH,
    RESOURCES,
    T0,
    UNITS,
    ZEROS,
    decode,
    make_pod,
    recount,
)

quantities = st.one_of(
    st.tuples(st.integers(0, 5000), st.sampled_from(sorted(UNITS))).map(lambda t: f"{t[0]}{t[1]}"),
    st.sampled_from(["bad", ""]),
)
asked = st.dictionaries(st.sampled_from(RESOURCES), quantities, max_size=4)
containers = st.lists(asked, max_size=3)
pods = st.builds(
    lambda asked, **others: make_pod("a", *asked, **others),
    containers,
    node=st.sampled_from(["n1", "n2", "n3", ""]),
    namespace=st.sampled_from(["osmo", "batch", "kube-system"]),
    phase=st.sampled_from(["Running", "Running", "Pending", "Unknown", "Succeeded", "Failed"]),
    init=st.lists(st.tuples(asked, st.sampled_from(["", "Always"])), max_size=4),
    whole=asked,
    overhead=asked,
)


class Machine(RuleBasedStateMachine):
    """Steps of a cluster, of the time and of the connection."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[str, UsagePod] = {}
        self.hostnames: dict[str, str] = {}
        self.rows: dict[str, Message] = {}
        self.newest: dict[int, Message] = {}
        self.ended: set[int] = set()
        self.snapshot: Iterator[Message] | None = None
        self.stale: list[Iterator[Message]] = []
        self.now = T0
        self.version = 0
        self.uid = 0
        self.epoch = 0
        self.restart_the_process(misses=False)

    # What the cluster does.

    def make(self, pod: UsagePod, uid: str, step: int) -> UsagePod:
        self.version += step
        metadata = msgspec.structs.replace(
            pod.metadata, uid=uid, resource_version=str(self.version)
        )
        return msgspec.structs.replace(pod, metadata=metadata)

    def pick(self, data: st.DataObject) -> UsagePod:
        return self.live[data.draw(st.sampled_from(sorted(self.live)))]

    def change(self, old: UsagePod | None, new: UsagePod | None) -> None:
        if old is not None:
            del self.live[old.metadata.uid]
        if new is not None:
            self.live[new.metadata.uid] = new
        assert self.listener.on_change(old, new, self.version, self.now) == []

    @rule(pod=pods, step=st.integers(0, 3))
    def add(self, pod: UsagePod, step: int) -> None:
        self.uid += 1
        self.change(None, self.make(pod, f"uid-{self.uid}", step))

    @precondition(lambda self: self.live)
    @rule(data=st.data(), pod=pods, step=st.integers(0, 3))
    def modify(self, data: st.DataObject, pod: UsagePod, step: int) -> None:
        old = self.pick(data)
        self.change(old, self.make(pod, old.metadata.uid, step))

    @precondition(lambda self: self.live)
    @rule(data=st.data(), node=st.sampled_from(["n1", "n2", "n3"]))
    def move(self, data: st.DataObject, node: str) -> None:
        old = self.pick(data)
        spec = msgspec.structs.replace(old.spec, node_name=node)
        new = self.make(old, old.metadata.uid, 1)
        self.change(old, msgspec.structs.replace(new, spec=spec))

    @precondition(lambda self: self.live)
    @rule(data=st.data(), pod=pods)
    def replace(self, data: st.DataObject, pod: UsagePod) -> None:
        self.uid += 1
        self.change(self.pick(data), self.make(pod, f"uid-{self.uid}", 1))

    @precondition(lambda self: self.live)
    @rule(data=st.data(), last=st.none() | pods, step=st.integers(0, 3))
    def delete(self, data: st.DataObject, last: UsagePod | None, step: int) -> None:
        old = self.pick(data)
        self.change(self.make(last or old, old.metadata.uid, step), None)

    @rule()
    def resync(self) -> None:
        for pod in list(self.live.values()):
            self.change(pod, pod)

    @rule(node=st.sampled_from(["n1", "n2"]), hostname=st.sampled_from(["", "h1", "h2"]))
    def rename(self, node: str, hostname: str) -> None:
        self.hostnames[node] = hostname
        self.listener.node_changed(node)

    # Time and epochs.

    @rule(share=st.sampled_from([0.1, 0.5, 1.0, 3.0]))
    def wait(self, share: float) -> None:
        self.now += share * FLUSH
        deadline = self.listener.next_deadline()
        messages = self.listener.due(self.now)
        if deadline is None or deadline > self.now:
            assert messages == []
        self.take(messages)
        if share >= 1.0 and self.snapshot is None:
            self.check()

    @rule(misses=st.booleans())
    def restart(self, misses: bool) -> None:
        """A snapshot's objects may be ahead of what was told."""
        if self.snapshot is not None:
            self.stale.append(self.snapshot)
        if misses and self.live:
            del self.live[min(self.live)]
        self.begin()

    @rule(misses=st.booleans())
    def restart_the_process(self, misses: bool) -> None:
        """A new listener knows nothing of what was reported, and of what went meanwhile."""
        if misses and self.live:
            del self.live[min(self.live)]
        config = UsageConfig(include_namespace_usage=("batch",))
        self.listener = UsageListener(config, "osmo", self.hostnames.get)
        self.stale.clear()
        self.begin()

    def begin(self) -> None:
        self.epoch += 1
        self.listener.restart(self.epoch)
        self.snapshot = self.listener.snapshot(list(self.live.values()), self.version, self.now)

    @precondition(lambda self: self.snapshot is not None)
    @rule(count=st.integers(1, 4))
    def send_more_of_the_snapshot(self, count: int) -> None:
        assert self.snapshot is not None
        for _ in range(count):
            message = next(self.snapshot, None)
            if message is None:
                self.snapshot = None
                return
            self.take([message])

    @rule()
    def an_old_snapshot_is_over(self) -> None:
        assert [message for snapshot in self.stale for message in snapshot] == []
        self.stale.clear()

    # What a store does.

    def take(self, messages: list[Message]) -> None:
        for message in messages:
            epoch = message.version.epoch
            if message.kind == "snapshot_end":
                self.end_snapshot(message)
                continue
            before = self.rows.get(message.key)
            if before is not None and before.version.epoch == epoch:
                body = decode(message)
                assert body != decode(before) or body.usage == ZEROS, "said twice"
            newest = self.newest.get(epoch)
            assert newest is None or astuple(message.version) > astuple(newest.version)
            self.newest[epoch] = self.rows[message.key] = message

    def end_snapshot(self, end: Message) -> None:
        epoch = end.version.epoch
        listed = {key for key, row in self.rows.items() if row.version.epoch >= epoch}
        assert decode(end).count == len(listed)
        self.rows = {key: self.rows[key] for key in listed}

    def check(self) -> None:
        """A row of zeros says as much as none."""
        rows = {key: decode(row) for key, row in self.rows.items()}
        totals = recount(self.live.values())
        shown = {key: (row.usage, row.non_workflow_usage) for key, row in rows.items()}
        assert {key: shown[key] for key in totals} == totals
        assert all(shown[key] == (ZEROS, ZEROS) for key in shown.keys() - totals.keys())
        for node in totals.keys() & {node for node, name in self.hostnames.items() if name}:
            assert rows[node].hostname == self.hostnames[node]

    @invariant()
    def deadlines_are_near(self) -> None:
        deadline = self.listener.next_deadline()
        assert deadline is None or deadline <= self.now + FLUSH

    @invariant()
    def nothing_is_kept_of_what_is_gone(self) -> None:
        counted = {pod.metadata.uid for pod in self.live.values() if pod.spec.node_name}
        assert self.listener._shares.keys() <= counted

    @invariant()
    def nodes_are_forgotten(self) -> None:
        nodes = {pod.spec.node_name for pod in self.live.values()}
        assert self.listener._nodes.keys() <= nodes | self.listener._dirty.keys()


Machine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestUsage = Machine.TestCase
