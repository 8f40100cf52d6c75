"""The workflow listener: what users see of the pods that run their tasks.

A task is the pod with its (workflow, task, retry) labels. It is reported when anything that the
body holds has changed, not only the status: node, address, message and conditions are columns that
users read, and a store that missed one of them would no longer equal the cluster. What was last
sent is compared with what would be sent now, so A, B, A are three reports.

- A state that is UNKNOWN is never sent. What was reported before stays true for the store. An
  earlier process may have reported what this one never knew: so a snapshot says of such a task
  that it exists, and its deletion says that it does not, and neither makes a row.
- Once a final state was sent of a pod, only final ones follow for it within that epoch. Which state
  is final the rules say. A new epoch says what the cluster shows now: it may have been restored
  from a time in which the pod had not ended.
- A deletion reports the last state once more, marked `deleted`. It is final only if that state is
  an end. Of a pod that had not ended the text says so, by all rules; of one that went while nobody
  watched, that it is not known. A pod that is created again under the same labels is a new one,
  whatever was said of the one before.
- Of several live pods with the same labels the one that changed last is the task. When it goes, the
  task is what the remaining one says; when another goes, nothing changes.
- A report that says something new has a higher version than the one before: where the resource
  version does not rise by itself (a rule that depends on time, a pod that takes over), it is raised
  by one.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import msgspec

from osmo_listener.listeners.deadlines import Deadlines
from osmo_listener.listeners.fitting import Encoder
from osmo_listener.listeners.objects import Pod, PodMetadata
from osmo_listener.listeners.pod_rules import (
    PodState,
    PodStatus,
    PodStatusMode,
    has_ended,
    pod_status,
)
from osmo_reports.bodies import (
    Condition,
    PodExists,
    SnapshotEnd,
    UpdatePod,
    encode_body,
)
from osmo_transport import Refusal
from osmo_transport.bounds import SecondsOrZero
from osmo_transport.lean import dataclass
from osmo_transport.message import Message, Version, new_id

KIND = "update_pod"
EXISTS_KIND = "pod_exists"
LABEL_SELECTOR = "osmo.task_uuid,osmo.workflow_uuid"
"""Pods that have both labels, whatever their values."""

_RETRY_ID = re.compile(r"[+-]?[0-9]+")
_RETRY_IDS = 128
"""Different labels that are read once: hardly a task is tried more often."""
_INT32 = range(-(2**31), 2**31)


@dataclass(frozen=True, kw_only=True)
class WorkflowConfig:
    """How pods are reported."""

    status_mode: PodStatusMode = PodStatusMode.EXACT
    """The rules that turn a pod into a status."""
    resend_after: SecondsOrZero = 15 * 60.0
    """Seconds after which an unchanged task is sent again when its pod is seen, be it by a resync:
    a second chance against whatever went wrong further on. 0: never."""


class TaskKey(NamedTuple):
    """The labels that make a pod a task."""

    workflow_uuid: str
    task_uuid: str
    retry_id: int


def task_key(pod: Pod) -> TaskKey | None:
    """The task that `pod` runs, or None for a pod without the labels."""
    labels = pod.metadata.labels
    if labels.workflow_uuid is None or labels.task_uuid is None:
        return None
    return TaskKey(labels.workflow_uuid, labels.task_uuid, _retry_id(labels.retry_id))


@lru_cache(_RETRY_IDS)
def _retry_id(label: str | None) -> int:
    """The number at the start of the label, as the deployed system reads it; 0 where there is none
    or it does not fit into 32 bits."""
    match = _RETRY_ID.match(label) if label else None
    number = int(match[0]) if match else 0
    return number if number in _INT32 else 0


_NEVER = -1
"""Below every version."""

_NOTHING = PodState(PodStatus.UNKNOWN)
"""Never sent, so it stands for nothing yet."""
_NOBODY = Pod(PodMetadata())
"""Of whom that is."""

_EARLY = "The pod was deleted before it ended. "
_UNSEEN = "The pod was deleted while nobody watched, before or after it ended. "
"""What is added to the message of a task whose pod goes, where its last known state is no end."""


class _Task(msgspec.Struct, gc=False):
    key: TaskKey
    version: int
    """What the version of a report that says something new has to exceed: that of the last report
    in the current epoch, or of what was gone before there was this task, which may have had its
    key."""
    pod: Pod
    """The one that changed last."""
    others: tuple[Pod, ...] = ()
    """Those with the same labels; hardly ever there are any."""
    told: bool = False
    """Whether it was reported in the current epoch, be it its existence alone."""
    counts: bool = False
    """Whether its state was, and no report of it was refused."""
    said: PodState = _NOTHING
    """The state that was last sent, in whatever epoch."""
    said_of: Pod = _NOBODY
    """The pod as it was then. A report is made of the two, and not kept itself: mostly the pod has
    not changed since."""
    ended: str = ""
    """The pod whose end was told in the current epoch, by uid; empty: none, or it goes on."""
    sent_at: float = 0.0

    def message_key(self) -> str:
        """The key of its reports: made for each, as one of every task would be kept for ever."""
        return UpdatePod.key(*self.key)

    def take(self, pod: Pod) -> None:
        """Take a pod, in the place of what was known of it."""
        self._rank([*self._without(pod), pod])

    def renew(self, pod: Pod) -> bool:
        """Take the next state of its only pod; false, and nothing is done, if it has others beside
        it, or other labels by now."""
        if self.others or self.pod.metadata.labels != pod.metadata.labels:
            return False
        self.pod = pod
        return True

    def forget(self, pod: Pod) -> bool:
        """Whether there is another pod, if this one is forgotten."""
        left = self._without(pod)
        if left:
            self._rank(left)
        return bool(left)

    def _without(self, pod: Pod) -> list[Pod]:
        uid = pod.metadata.uid
        return [each for each in (self.pod, *self.others) if each.metadata.uid != uid]

    def _rank(self, pods: list[Pod]) -> None:
        *others, self.pod = sorted(pods, key=_resource_version)
        self.others = tuple(others)

    def holds_back(self, pod: Pod, state: PodState, *, final: bool) -> bool:
        """Whether what was sent, if anything, stays true in spite of the pod's `state`, be that
        final or not."""
        ended = self.ended == pod.metadata.uid
        return state.status is PodStatus.UNKNOWN or (ended and not final)

    def says(self, body: UpdatePod, state: PodState) -> bool:
        """Whether that is what was last sent."""
        said = self.said
        return (
            state.status is said.status
            and state.passing == said.passing
            and body == _body(self.key, self.said_of, said)
        )


class WorkflowListener:
    """Implements `Listener[Pod]`; the module says what it reports.

    Pods have a uid, and a resource version that is a number (else ValueError).
    """

    def __init__(self, config: WorkflowConfig = WorkflowConfig()) -> None:
        self._config = config
        self._epoch = 0
        self._tasks: dict[TaskKey, _Task] = {}
        self._by_uid: dict[str, _Task] = {}
        self._deadlines: Deadlines[TaskKey] = Deadlines()
        self._gone = _NEVER
        """The highest version of a task that is gone in the current epoch."""
        self._left: set[TaskKey] | None = set()
        """The tasks that were reported in the current epoch and are gone, until its snapshot has
        counted them."""
        self._encoder = Encoder()

    @property
    def cut(self) -> int:
        """How often a report was cut, because it would be too large."""
        return self._encoder.cut

    def restart(self, epoch: int) -> None:
        """See `Listener.restart`. What was said last of a task that is UNKNOWN by now is kept: the
        snapshot repeats it."""
        self._epoch = epoch
        self._gone = _NEVER
        self._left = set()
        for task in self._tasks.values():
            task.version, task.told, task.counts, task.ended = _NEVER, False, False, ""

    def on_change(
        self, old: Pod | None, new: Pod | None, resource_version: int, now: float
    ) -> list[Message]:
        """See `Listener.on_change`."""
        messages: list[Message | None] = []
        if new is not None:
            messages.append(self._place(new, resource_version, now))
        if old is not None and (new is None or old.metadata.uid != new.metadata.uid):
            messages.append(self._remove(old, resource_version, now))
        if new is not None and (task := self._by_uid.get(new.metadata.uid)) is not None:
            messages.append(self._report(task, now))
        return [message for message in messages if message is not None]

    def next_deadline(self) -> float | None:
        """See `Listener.next_deadline`."""
        return self._deadlines.next()

    def due(self, now: float) -> list[Message]:
        """See `Listener.due`."""
        tasks = [self._tasks[key] for key in self._deadlines.take_due(now)]
        messages = [self._report(task, now) for task in tasks]
        return [message for message in messages if message is not None]

    def snapshot(
        self, objects: Iterable[Pod], resource_version: int, now: float
    ) -> Iterator[Message]:
        """See `Listener.snapshot`."""
        live = {pod.metadata.uid: pod for pod in objects}
        messages = [self._place(pod, resource_version, now) for pod in live.values()]
        # Of a task's pods the one that changed last goes last: how it ended, that one says.
        known = [pod for task in self._tasks.values() for pod in (*task.others, task.pod)]
        gone = [pod for pod in known if pod.metadata.uid not in live]
        messages += [self._remove(pod, resource_version, now) for pod in gone]
        first = [message for message in messages if message is not None]
        return self._snapshot(self._epoch, first, resource_version, now)

    def listed(
        self, objects: Iterable[Pod], resource_version: int, now: float
    ) -> tuple[Message, ...]:
        """See `Listener.listed`: deletions are reported one by one, so nothing is left to say."""
        return ()

    def refused(self, refusal: Refusal, now: float) -> list[Message]:
        """What has to be said in the place of a report that cannot be stored: that its task exists,
        or no longer does. Without it the end of a snapshot would delete the row of a live pod."""
        kind, key, version = refusal.kind, refusal.key, refusal.version
        if kind != KIND or version.epoch != self._epoch:
            return []
        workflow_uuid, task_uuid, retry_id = key.rsplit("/", 2)
        about = TaskKey(workflow_uuid, task_uuid, int(retry_id))
        task = self._tasks.get(about)
        if task is not None:
            task.counts = False
        elif self._left is not None:
            self._left.discard(about)
        body = PodExists(*about, deleted=task is None)
        return [Message(EXISTS_KIND, key, version, new_id(), now, encode_body(body))]

    def _snapshot(
        self, epoch: int, first: list[Message], resource_version: int, now: float
    ) -> Iterator[Message]:
        yield from first
        for task in list(self._tasks.values()):
            if self._epoch != epoch:
                return
            if not task.told:
                yield self._report(task, now) or self._exists(
                    task, _resource_version(task.pod), now
                )
        if self._epoch != epoch:
            return
        count = sum(task.counts for task in self._tasks.values()) + len(self._left or ())
        end = encode_body(SnapshotEnd(KIND, count))
        self._left = None
        version = Version(epoch, resource_version)
        yield Message("snapshot_end", KIND, version, new_id(), now, end)

    def _place(self, pod: Pod, resource_version: int, now: float) -> Message | None:
        """Put the pod where its labels say. Returns what the task that it leaves has to report."""
        uid = pod.metadata.uid
        task = self._by_uid.get(uid)
        if task is not None and task.renew(pod):
            return None
        key = task_key(pod)
        if task is not None and task.key == key:
            task.take(pod)
            return None
        message = self._remove(pod, resource_version, now)
        if key is not None:
            task = self._tasks.get(key)
            if task is None:
                task = self._tasks[key] = _Task(key, self._gone, pod)
                if self._left and key in self._left:
                    self._left.remove(key)
                    task.counts = True
            else:
                task.take(pod)
            self._by_uid[uid] = task
        return message

    def _remove(self, pod: Pod, resource_version: int, now: float) -> Message | None:
        task = self._by_uid.pop(pod.metadata.uid, None)
        if task is None:
            return None
        if task.forget(pod):
            return self._report(task, now)
        del self._tasks[task.key]
        self._deadlines.set(task.key, None)
        message = self._last(task, pod, resource_version, now)
        self._gone = max(self._gone, task.version)
        if task.counts and self._left is not None:
            self._left.add(task.key)
        return message

    def _last(self, task: _Task, pod: Pod, resource_version: int, now: float) -> Message:
        """What is said of a task whose last pod is gone."""
        # A deletion that was watched comes with the final state, whose version is its own.
        watched = resource_version == _resource_version(pod)
        state = pod_status(pod, now, self._config.status_mode)
        # Nothing takes back any more what might have been.
        if task.holds_back(pod, state, final=has_ended(state.status)):
            if task.said is _NOTHING:
                return self._exists(task, resource_version, now, deleted=True)
            pod, state = task.said_of, task.said
        early = "" if state.final else _EARLY if watched else _UNSEEN
        body = _body(task.key, pod, state)
        last = msgspec.structs.replace(body, deleted=True, message=_joined(body.message, early))
        version = self._next_version(task, resource_version)
        return self._message(task, last, version, now, final=has_ended(state.status))

    def _report(self, task: _Task, now: float) -> Message | None:
        pod = task.pod
        resource_version = _resource_version(pod)
        state = pod_status(pod, now, self._config.status_mode)
        self._deadlines.set(task.key, state.recheck_at)
        final = state.final
        if task.holds_back(pod, state, final=final):
            if task.told or task.said is _NOTHING:
                return None
            pod, state, final = task.said_of, task.said, task.said.final
        else:
            task.ended = pod.metadata.uid if final else ""
        body = _body(task.key, pod, state)
        same = task.says(body, state)
        # Also where nothing is sent: the pod of before need not be kept.
        task.said, task.said_of = state, pod
        if same and task.told and not self._expired(task, now):
            return None
        version = self._next_version(task, resource_version, news=not same)
        return self._message(task, body, version, now, final=final)

    def _exists(
        self, task: _Task, resource_version: int, now: float, *, deleted: bool = False
    ) -> Message:
        version = self._next_version(task, resource_version)
        body = encode_body(PodExists(*task.key, deleted))
        return Message(EXISTS_KIND, task.message_key(), version, new_id(), now, body)

    def _expired(self, task: _Task, now: float) -> bool:
        return 0 < self._config.resend_after < now - task.sent_at

    def _message(
        self, task: _Task, body: UpdatePod, version: Version, now: float, *, final: bool
    ) -> Message:
        key = task.message_key()
        payload = self._encoder.encode(key, body)
        task.counts, task.sent_at = True, now
        return Message(KIND, key, version, new_id(), now, payload, final)

    def _next_version(self, task: _Task, resource_version: int, *, news: bool = True) -> Version:
        """The version of the task's next report, which says something new or repeats the last."""
        task.version = max(resource_version, task.version + (news or not task.told))
        task.told = True
        return Version(self._epoch, task.version)


def _joined(message: str, more: str) -> str:
    return f"{message} {more}" if message and more and not message[-1].isspace() else message + more


def _resource_version(pod: Pod) -> int:
    return int(pod.metadata.resource_version)


def _body(key: TaskKey, pod: Pod, state: PodState) -> UpdatePod:
    metadata, spec, status = pod.metadata, pod.spec, pod.status
    return UpdatePod(
        workflow_uuid=key.workflow_uuid,
        task_uuid=key.task_uuid,
        retry_id=key.retry_id,
        status=state.status,
        container=spec.containers[0].name if spec.containers else "",
        node=spec.node_name,
        pod_ip=status.pod_ip,
        message=state.message,
        exit_code=state.exit_code,
        conditions=tuple(
            [
                Condition(
                    condition.type,
                    condition.status == "True",
                    condition.reason or "",
                    condition.message or "",
                    condition.last_transition_time or "",
                )
                for condition in status.conditions
            ]
        ),
        pod=f"{metadata.namespace}/{metadata.name}",
        created_at=metadata.creation_timestamp,
    )
