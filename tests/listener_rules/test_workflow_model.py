"""The workflow listener against a naive model of what a store has to hold.

The model knows nothing of reports: after each step it looks at every pod that is alive. The store
knows nothing of pods: it applies the messages by the rules that every store keeps to. Whatever is
created, changed, deleted, missed or timed, the two are equal after each step.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import astuple

from osmo_listener.listeners import (
    PodStatus,
    PodStatusMode,
    WorkflowConfig,
    WorkflowListener,
    has_ended,
    pod_status,
)
from osmo_listener.listeners.objects import Pod
from osmo_reports.bodies import Condition, UpdatePod, decode_body
from osmo_transport.message import Message, Version
from tests.listener_rules.harness import T0, condition, ended, make_pod, running, waiting

CTRL = running("osmo-ctrl")
STUCK_AT = condition("Ready", "False", at="2026-01-02T03:04:05Z")
STUCK_LATER = condition("Ready", "False", at="2026-01-02T03:14:05Z")
STATES = [
    make_pod("Pending", node=""),
    make_pod("Pending", init=(waiting("osmo-init", "PodInitializing"),)),
    make_pod("Running"),
    make_pod("Running", ip="10.0.0.1"),
    make_pod("Running", conditions=(condition("Ready"),)),
    make_pod("Running", containers=(ended("user", 1), CTRL)),
    make_pod("Running", containers=(ended("user", 1),)),
    make_pod("Pending", containers=(waiting("user", "ErrImagePull"),)),
    make_pod("Pending", containers=(waiting("user", "CreateContainerConfigError"),)),
    make_pod(
        "Pending",
        containers=(waiting("user", "CreateContainerConfigError"),),
        conditions=(STUCK_AT,),
    ),
    make_pod(
        "Running", containers=(waiting("a", "ContainerStatusUnknown"),), conditions=(STUCK_AT,)
    ),
    make_pod(
        "Running", containers=(waiting("a", "ContainerStatusUnknown"),), conditions=(STUCK_LATER,)
    ),
    make_pod("Succeeded"),
    make_pod("Failed", containers=(ended("user", 2), ended("osmo-ctrl", 0, "Completed"))),
    make_pod("Failed", reason="Evicted", message="m"),
    make_pod("Unknown"),
]
TASKS = ("t1", "t2", "t3")


@dataclass
class Row:
    """What a store holds of one key."""

    shown: Message
    """The report that says what it shows."""
    existed: Version
    """The version of the report that says whether it exists."""
    deleted: bool

    @property
    def body(self) -> UpdatePod:
        """What users see."""
        body: UpdatePod = decode_body(self.shown.kind, self.shown.payload)
        return msgspec.structs.replace(body, deleted=self.deleted)


class Store:
    """Applies messages as every store does."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.reported: dict[int, set[str]] = {}

    def apply(self, message: Message) -> None:
        """One message; a report shows only if it is newer."""
        if message.kind == "snapshot_end":
            self._end_snapshot(message)
            return
        row = self.rows.get(message.key)
        deleted = decode_body(message.kind, message.payload).deleted
        if message.kind == "update_pod":
            self.reported.setdefault(message.version.epoch, set()).add(message.key)
            if row is None:
                row = self.rows[message.key] = Row(message, message.version, deleted)
            elif not row.shown.supersedes(message):
                row.shown = message
        if row is not None and astuple(message.version) > astuple(row.existed):
            row.existed, row.deleted = message.version, deleted

    def _end_snapshot(self, end: Message) -> None:
        body = decode_body(end.kind, end.payload)
        assert body.kind == "update_pod"
        assert body.count == len(self.reported.get(end.version.epoch, ()))
        for row in self.rows.values():
            if row.existed.epoch < end.version.epoch:
                row.deleted = True


class Model:
    """What users have to see, from the pods alone."""

    def __init__(self, mode: PodStatusMode) -> None:
        self.mode = mode
        self.live: dict[str, Pod] = {}
        self.rows: dict[str, UpdatePod] = {}
        self.final: dict[str, bool] = {}
        """Whether what a row shows is an end."""
        self.shown: dict[str, str] = {}
        """The pod that a row shows, by uid, while the present process knows it."""
        self.unreported: set[str] = set()
        """What is not yet told anew in the present epoch."""
        self.remembered: set[str] = set()
        """Of what the present process has told something."""

    def look(
        self, now: float, gone: Pod | None = None, *, told: bool = True, watched: bool = True
    ) -> None:
        """Look at every task; `gone` is the last state of a pod that is no longer alive, of which
        the present process knew if that is `told`, and which it saw go if `watched`."""
        current: dict[str, Pod] = {}
        for pod in sorted(self.live.values(), key=version):
            current[key_of(pod)] = pod
        for pod in current.values():
            self._see(pod, now)
        if gone is not None and key_of(gone) not in current:
            self._see(gone, now, deleted=True, told=told, watched=watched)

    def _see(
        self,
        pod: Pod,
        now: float,
        *,
        deleted: bool = False,
        told: bool = True,
        watched: bool = True,
    ) -> None:
        key = key_of(pod)
        state = pod_status(pod, now, self.mode)
        row = self.rows.get(key)
        known = state.status is not PodStatus.UNKNOWN
        gone = deleted and told
        final = has_ended(state.status) if gone else state.final
        ended = self.final.get(key, False) and self.shown.get(key) == pod.metadata.uid
        if known:
            self.remembered.add(key)
        if known and key not in self.unreported and (final or not ended):
            text = state.message
            if gone and not state.final:
                text = last_word(text, watched=watched)
            self.final[key], self.shown[key] = final, pod.metadata.uid
            self.rows[key] = UpdatePod(
                workflow_uuid="w1",
                task_uuid=str(pod.metadata.labels.task_uuid),
                retry_id=0,
                status=state.status,
                container="user",
                node=pod.spec.node_name,
                pod_ip=pod.status.pod_ip,
                message=text,
                exit_code=state.exit_code,
                conditions=tuple(
                    Condition(c.type, c.status == "True", timestamp=c.last_transition_time or "")
                    for c in pod.status.conditions
                ),
                pod="osmo/pod-1",
                created_at=pod.metadata.creation_timestamp,
                deleted=deleted,
            )
        elif row is not None and (deleted or known):
            message = row.message
            if gone and not row.deleted and key in self.remembered:
                if not self.final[key]:
                    message = last_word(message, watched=watched)
                self.final[key] = has_ended(PodStatus(row.status))
            self.rows[key] = msgspec.structs.replace(row, deleted=deleted, message=message)
        if deleted:
            self.shown.pop(key, None)

    def restart(self) -> None:
        """An epoch begins: what is live is told anew, one by one, as it is then."""
        self.unreported = {key_of(pod) for pod in self.live.values()}
        self.shown.clear()

    def forget(self, now: float) -> None:
        """Another process knows what it has told itself: not what is in an unknown state by now."""
        self.unreported.clear()
        self.shown.clear()
        self.remembered = {
            key_of(pod)
            for pod in self.live.values()
            if pod_status(pod, now, self.mode).status is not PodStatus.UNKNOWN
        }

    def exists(self, key: str) -> None:
        """A snapshot says of a task in an unknown state that it exists."""
        if key in self.rows:
            self.rows[key] = msgspec.structs.replace(self.rows[key], deleted=False)


def last_word(message: str, *, watched: bool) -> str:
    """The message of a pod that is gone and had not ended."""
    gap = " " if message and not message[-1].isspace() else ""
    how = "before it ended" if watched else "while nobody watched, before or after it ended"
    return f"{message}{gap}The pod was deleted {how}. "


def key_of(pod: Pod) -> str:
    """The task of a pod of this test."""
    return f"w1/{pod.metadata.labels.task_uuid}/0"


def version(pod: Pod) -> int:
    """The resource version of a pod."""
    return int(pod.metadata.resource_version)


class Machine(RuleBasedStateMachine):
    """Steps of a cluster, of the time and of the connection."""

    mode = PodStatusMode.REDESIGN

    def __init__(self) -> None:
        super().__init__()
        self.listener = WorkflowListener(WorkflowConfig(status_mode=self.mode))
        self.epoch = 1
        self.listener.restart(self.epoch)
        self.store = Store()
        self.model = Model(self.mode)
        self.snapshot: Iterator[Message] | None = None
        self.stale: list[Iterator[Message]] = []
        self.now = T0
        self.version = 0
        self.uid = 0
        self.last: dict[str, Message] = {}

    def take(self, messages: list[Message]) -> None:
        """Hand messages over."""
        for message in messages:
            last = self.last.get(message.key)
            if last is not None and message.kind != "snapshot_end":
                assert astuple(message.version) >= astuple(last.version)
            if message.kind == "pod_exists":
                self.note_existence(message)
            if message.kind == "update_pod" and message.version.epoch == self.epoch:
                self.model.unreported.discard(message.key)
            self.last[message.key] = message
            self.store.apply(message)

    def note_existence(self, message: Message) -> None:
        """Check that it is true; that a pod came into being in an unknown state, in the place of
        one that was deleted, is told by nothing else."""
        body = decode_body(message.kind, message.payload)
        live = message.key in {key_of(pod) for pod in self.model.live.values()}
        assert body.deleted != live
        if live:
            self.model.exists(message.key)

    def make(self, state: Pod, task: str, uid: str, step: int) -> Pod:
        """The next version of a pod."""
        self.version += step
        metadata = msgspec.structs.replace(
            state.metadata,
            uid=uid,
            resource_version=str(self.version),
            labels=msgspec.structs.replace(state.metadata.labels, task_uuid=task),
        )
        return msgspec.structs.replace(state, metadata=metadata)

    def pick(self, data: st.DataObject) -> Pod:
        """A pod that is alive."""
        return self.model.live[data.draw(st.sampled_from(sorted(self.model.live)))]

    def change(self, old: Pod | None, new: Pod | None) -> None:
        """One change, as an informer tells it."""
        if old is not None:
            del self.model.live[old.metadata.uid]
        if new is not None:
            self.model.live[new.metadata.uid] = new
        self.take(self.listener.on_change(old, new, self.version, self.now))

    @rule(state=st.sampled_from(STATES), task=st.sampled_from(TASKS), step=st.integers(1, 3))
    def create(self, state: Pod, task: str, step: int) -> None:
        self.uid += 1
        self.change(None, self.make(state, task, f"uid-{self.uid}", step))
        self.model.look(self.now)

    @precondition(lambda self: self.model.live)
    @rule(data=st.data(), state=st.sampled_from(STATES), step=st.integers(1, 3))
    def modify(self, data: st.DataObject, state: Pod, step: int) -> None:
        old = self.pick(data)
        task = str(old.metadata.labels.task_uuid)
        self.change(old, self.make(state, task, old.metadata.uid, step))
        self.model.look(self.now)

    @precondition(lambda self: self.model.live)
    @rule(data=st.data(), state=st.sampled_from(STATES), task=st.sampled_from(TASKS))
    def relabel(self, data: st.DataObject, state: Pod, task: str) -> None:
        old = self.pick(data)
        new = self.make(state, task, old.metadata.uid, 1)
        labels = old.metadata.labels
        left = msgspec.structs.replace(
            new, metadata=msgspec.structs.replace(new.metadata, labels=labels)
        )
        self.change(old, new)
        self.model.look(self.now, left)

    @precondition(lambda self: self.model.live)
    @rule(data=st.data(), state=st.sampled_from(STATES), task=st.sampled_from(TASKS))
    def replace(self, data: st.DataObject, state: Pod, task: str) -> None:
        old = self.pick(data)
        self.uid += 1
        self.change(old, self.make(state, task, f"uid-{self.uid}", 1))
        self.model.look(self.now, old, watched=False)

    @precondition(lambda self: self.model.live)
    @rule(data=st.data(), state=st.none() | st.sampled_from(STATES), step=st.integers(1, 3))
    def delete(self, data: st.DataObject, state: Pod | None, step: int) -> None:
        old = self.pick(data)
        task = str(old.metadata.labels.task_uuid)
        last = self.make(state or old, task, old.metadata.uid, step)
        self.change(last, None)
        self.model.look(self.now, last)

    @precondition(lambda self: self.model.live)
    @rule(data=st.data(), step=st.integers(1, 3))
    def vanish(self, data: st.DataObject, step: int) -> None:
        old = self.pick(data)
        self.version += step
        self.change(old, None)
        self.model.look(self.now, old, watched=False)

    @rule()
    def resync(self) -> None:
        for pod in list(self.model.live.values()):
            self.change(pod, pod)
        self.model.look(self.now)

    @rule(seconds=st.sampled_from([1.0, 300.0, 600.0, 601.0, 1000.0, 1801.0]))
    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while (deadline := self.listener.next_deadline()) is not None and deadline <= until:
            assert deadline > self.now
            self.now = deadline
            self.take(self.listener.due(self.now))
            self.model.look(self.now)
        self.now = until
        self.model.look(self.now)

    @rule()
    def restart(self) -> None:
        if self.snapshot is not None:
            self.stale.append(self.snapshot)
        self.epoch += 1
        self.listener.restart(self.epoch)
        self.model.restart()
        self.snapshot = self.listener.snapshot(
            list(self.model.live.values()), self.version, self.now
        )

    @rule(data=st.data(), misses=st.booleans(), step=st.integers(1, 3))
    def restart_the_process(self, data: st.DataObject, misses: bool, step: int) -> None:
        """A new listener knows nothing of what was reported, and of what went meanwhile."""
        self.listener = WorkflowListener(WorkflowConfig(status_mode=self.mode))
        self.epoch += 1
        self.listener.restart(self.epoch)
        self.snapshot = None
        self.stale.clear()
        self.version += step
        if self.model.live and misses:
            missed = self.pick(data)
            del self.model.live[missed.metadata.uid]
            self.model.look(self.now, missed, told=False)
        self.model.forget(self.now)
        pods = list(self.model.live.values())
        self.take(list(self.listener.snapshot(pods, self.version, self.now)))
        self.model.look(self.now)
        alive = {key_of(pod) for pod in pods}
        assert {key for key, row in self.store.rows.items() if not row.deleted} == (
            alive & self.store.rows.keys()
        )

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
            self.model.look(self.now)

    @rule()
    def an_old_snapshot_is_over(self) -> None:
        assert [message for snapshot in self.stale for message in snapshot] == []
        self.stale.clear()

    @invariant()
    def store_equals_model(self) -> None:
        rows = {key: row.body for key, row in self.store.rows.items()}
        assert rows == self.model.rows

    @invariant()
    def timers_are_bounded(self) -> None:
        assert len(self.listener._deadlines) <= len(TASKS)


class ExactMachine(Machine):
    """The same with the rules of today."""

    mode = PodStatusMode.EXACT


class LegacyMachine(Machine):
    """The same with the legacy rules."""

    mode = PodStatusMode.LEGACY


STATEFUL = settings(max_examples=100, stateful_step_count=40, deadline=None)
Machine.TestCase.settings = STATEFUL
ExactMachine.TestCase.settings = STATEFUL
LegacyMachine.TestCase.settings = STATEFUL


TestExact = ExactMachine.TestCase
TestRedesign = Machine.TestCase
TestLegacy = LegacyMachine.TestCase
