"""The messages of the listeners that are already deployed, and what they are among ours.

The structs have the names of `protos/osmo_protos/listener_service.proto`, and so the shape of its
JSON too (`protojson`). What these messages cannot say is lost on the way there: a version,
the namespace of a pod, that a pod is gone. What is said differently:

- Their messages have no version, so a version is made of the time at which a message says it was
  created: whatever is older loses, however late it comes, as with ours. Among equal times the one
  that arrived later counts as newer, which is so for a message that is sent twice too.
- Their nodes have no name of their own: `hostname` stands for it.
- They write times in UTC without saying so, ours say it.
"""

import time
from collections.abc import Callable
from enum import Enum
from typing import Annotated

import msgspec

from osmo_deployed.times import micros_of, plain_time, written, zoned_time
from osmo_reports import bodies
from osmo_reports.bodies import decode_body, encode_body
from osmo_reports.errors import BodyError
from osmo_transport.message import Message, Version

_INT32 = range(-(2**31), 2**31)
Int32 = Annotated[int, msgspec.Meta(ge=_INT32.start, le=_INT32.stop - 1)]


class LoggingType(Enum):
    """In the order of the numbers that they have in protobuf."""

    INFO = "INFO"
    DEBUG = "DEBUG"
    WARNING = "WARNING"
    EXCEPTION = "EXCEPTION"


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of the bodies. What is unknown in JSON, its reader leaves out."""


class ConditionMessage(_Body, frozen=True, gc=False):
    """See `bodies.Condition`."""

    reason: str = ""
    message: str = ""
    timestamp: str = ""
    status: bool = False
    type: str = ""


class UpdatePodBody(_Body, frozen=True, gc=False):
    """See `bodies.UpdatePod`."""

    workflow_uuid: str = ""
    task_uuid: str = ""
    retry_id: Int32 = 0
    container: str = ""
    node: str = ""
    pod_ip: str = ""
    message: str = ""
    status: str = ""
    exit_code: Int32 = 0
    """-1: none."""
    backend: str = ""
    """Not looked at: who reports is known from elsewhere."""
    conditions: tuple[ConditionMessage, ...] = ()


class LoggingBody(_Body, frozen=True, gc=False):
    """See `bodies.Logging`."""

    type: LoggingType = LoggingType.INFO
    text: str = ""
    workflow_uuid: str = ""


class Taint(_Body, frozen=True, gc=False):
    """See `bodies.Taint`."""

    key: str = ""
    value: str = ""
    effect: str = ""
    time_added: str = ""


class UpdateNodeBody(_Body, frozen=True, gc=False):
    """See `bodies.UpdateNode`."""

    hostname: str = ""
    available: bool = False
    conditions: tuple[str, ...] = ()
    processed_fields: dict[str, str] = {}
    allocatable_fields: dict[str, str] = {}
    label_fields: dict[str, str] = {}
    taints: tuple[Taint, ...] = ()
    delete: bool = False


class UpdateNodeUsageBody(_Body, frozen=True, gc=False):
    """See `bodies.UpdateNodeUsage`."""

    hostname: str = ""
    usage_fields: dict[str, str] = {}
    non_workflow_usage_fields: dict[str, str] = {}


class NodeInventoryBody(_Body, frozen=True, gc=False):
    """See `bodies.NodeInventory`."""

    hostnames: tuple[str, ...] = ()


class PodEventBody(_Body, frozen=True, gc=False):
    """See `bodies.PodEvent`."""

    pod_name: str = ""
    """Without a namespace."""
    reason: str = ""
    message: str = ""
    timestamp: str = ""


class ListenerMessage(_Body, frozen=True, gc=False):
    """One report. It has one body; of several the first in the order of the fields counts."""

    uuid: str = ""
    """uuid4 as 32 hex digits."""
    timestamp: str = ""
    """When the listener created it: see `times`."""
    update_pod: UpdatePodBody | None = None
    update_node: UpdateNodeBody | None = None
    update_node_usage: UpdateNodeUsageBody | None = None
    node_inventory: NodeInventoryBody | None = None
    pod_event: PodEventBody | None = None
    logging: LoggingBody | None = None


MAX_AHEAD = 24 * 3600 * 1000
"""Milliseconds by which a message's time may be ahead of its arrival: beyond that it is no clock
that goes wrong but nonsense, and would keep every later message from being seen."""

ARRIVAL_BITS = 52
"""Of a revision: `Arrivals` needs no more until the year 2109. Above them are the
microseconds, in 10 bits, so a revision stays below 2**62."""
SEQUENCE_BITS = 10
"""Of an arrival, below its milliseconds."""
_MAX_MILLISECONDS = (1 << ARRIVAL_BITS - SEQUENCE_BITS) - 1
_MAX_SEQUENCE = (1 << SEQUENCE_BITS) - 1


def arrival_at(milliseconds: int, sequence: int) -> int:
    """The arrival of message number `sequence` of those that came in one millisecond since the Unix
    epoch. Beyond 1023 they have all the same, and are as new as each other if their times are."""
    milliseconds = min(milliseconds, _MAX_MILLISECONDS)
    return milliseconds << SEQUENCE_BITS | min(sequence, _MAX_SEQUENCE)


class Arrivals:
    """Numbers what comes over connections: each is higher than the one before, and not behind the
    clock."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        """`wall` gives the seconds since the Unix epoch."""
        self._wall = wall
        self._last = 0

    def next(self) -> int:
        """The arrival of the next message, for `to_message`."""
        self._last = max(self._last + 1, arrival_at(int(self._wall() * 1000), 0))
        return self._last


BACKEND_NOTICE = "__BACKEND_OP__:"
"""Begin of a log message that is no log message: `create` or `update` follows, of the backend."""

HEARTBEAT_NOTICE = "__HEARTBEAT__:"
"""Likewise of ours: the JSON of a `bodies.Registration` follows. Deployed workers leave out log
messages of every text but those of `BACKEND_NOTICE`."""

_read_registration = msgspec.json.Decoder(bodies.Registration).decode


def _registration_text(body: bodies.Registration) -> str:
    return msgspec.json.encode(body).decode()


_COMPLETED = "COMPLETED"
_FAILED = "FAILED"
_NO_HOSTNAMES = frozenset({"", "-"})
_LOG_KEY = "log"
"""Key of a log message that is about no workflow."""
_HEARTBEAT_KEY = "heartbeat"
"""Key of every heartbeat: those of a backend are known by the backend."""


def to_message(message: ListenerMessage, arrival: int) -> Message:
    """The message among ours.

    `arrival` says when it came, from `Arrivals` or `arrival_at`. It is the version's last part, and
    where the message's own time is missing, cannot be read or cannot be true, it is its time too.

    Raises:
        BodyError: there is no body, or it does not say what it is about.
    """
    kind, key, body = _body_of(message)
    if not key:
        raise BodyError(f"a deployed listener's {kind} names nothing that it is about")
    at = _micros(message.timestamp, arrival)
    milliseconds, rest = divmod(at, 1000)
    return Message(
        kind,
        key,
        Version(milliseconds, rest << ARRIVAL_BITS | arrival),
        # The same one whenever this entry is read again.
        message.uuid or f"{arrival:032x}",
        at / 1e6,
        encode_body(body),
        isinstance(body, bodies.UpdatePod)
        and (body.status == _COMPLETED or body.status.startswith(_FAILED)),
    )


def _micros(timestamp: str, arrival: int) -> int:
    at = micros_of(timestamp)
    arrived = arrival >> SEQUENCE_BITS
    if at is None or not 0 <= at <= (arrived + MAX_AHEAD) * 1000:
        return arrived * 1000
    return at


def _body_of(message: ListenerMessage) -> tuple[str, str, msgspec.Struct]:
    """Kind, key and body among ours."""
    if (pod := message.update_pod) is not None:
        key = bodies.UpdatePod.key(pod.workflow_uuid, pod.task_uuid, pod.retry_id)
        return "update_pod", key, _our_pod(pod)
    if (node := message.update_node) is not None:
        return "update_node", node.hostname, _our_node(node)
    if (usage := message.update_node_usage) is not None:
        name = usage.hostname
        totals = usage.usage_fields, usage.non_workflow_usage_fields
        return "update_node_usage", name, bodies.UpdateNodeUsage(name, name, *totals)
    if (inventory := message.node_inventory) is not None:
        body = bodies.NodeInventory(inventory.hostnames)
        return "node_inventory", bodies.NodeInventory.KEY, body
    if (event := message.pod_event) is not None:
        at = zoned_time(event.timestamp)
        told = bodies.PodEvent(event.pod_name, event.reason, event.message, timestamp=at)
        return "pod_event", event.pod_name, told
    if (log := message.logging) is not None:
        if log.text.startswith(HEARTBEAT_NOTICE):
            registration = log.text.removeprefix(HEARTBEAT_NOTICE)
            return "heartbeat", _HEARTBEAT_KEY, _registration_of(registration)
        severity = bodies.LogType[log.type.name]
        line = bodies.Logging(severity, log.text, log.workflow_uuid)
        return "logging", log.workflow_uuid or _LOG_KEY, line
    raise BodyError("a deployed listener's message has no body that is known here")


def _registration_of(text: str) -> bodies.Registration:
    try:
        return _read_registration(text)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise BodyError(f"a heartbeat that cannot be read: {exc}") from exc


def _our_pod(pod: UpdatePodBody) -> bodies.UpdatePod:
    return bodies.UpdatePod(
        workflow_uuid=pod.workflow_uuid,
        task_uuid=pod.task_uuid,
        retry_id=pod.retry_id,
        status=pod.status,
        container=pod.container,
        node=pod.node,
        pod_ip=pod.pod_ip,
        message=pod.message,
        exit_code=pod.exit_code,
        conditions=tuple(
            [
                bodies.Condition(c.type, c.status, c.reason, c.message, zoned_time(c.timestamp))
                for c in pod.conditions
            ]
        ),
    )


def _our_node(node: UpdateNodeBody) -> bodies.UpdateNode:
    return bodies.UpdateNode(
        node=node.hostname,
        hostname=node.hostname,
        available=node.available,
        conditions=node.conditions,
        allocatable=node.allocatable_fields,
        labels=node.label_fields,
        taints=tuple(
            [bodies.Taint(t.key, t.value, t.effect, zoned_time(t.time_added)) for t in node.taints]
        ),
        processed=node.processed_fields,
        deleted=node.delete,
    )


def from_message(message: Message, backend: str, now: float) -> ListenerMessage | None:
    """The message as a deployed listener of `backend` would send it; None if it would not: of the
    kinds `pod_exists`, `pods_current`, `snapshot_end` and `node_inventory_part`, which says nothing
    alone, and of those that are not known here.

    What reads it refuses a whole report for one field. So a pod that is gone is told as its last
    state, a heartbeat as a log message that means nothing to others, and a time that is none as
    another: of a condition as that of the pod's creation, else as the report's own, and that as
    `now`, in seconds since the Unix epoch.

    Raises:
        BodyError: the payload does not fit its kind, or there is no such task among theirs.
    """
    translate = _TRANSLATIONS.get(message.kind)
    if translate is None:
        return None
    body = decode_body(message.kind, message.payload)
    # Of what cannot be true too: one far ahead would outrank all that follows.
    true = 0 <= message.timestamp <= now + MAX_AHEAD / 1000
    at = written(message.timestamp if true else now)
    return translate(message.id, at, body, backend)


def _their_pod(uuid: str, at: str, body: bodies.UpdatePod, backend: str) -> ListenerMessage:
    if body.retry_id not in _INT32:
        raise BodyError(f"the retry {body.retry_id} of a task does not fit into 32 bits")
    timeless = plain_time(body.created_at) or at
    pod = UpdatePodBody(
        workflow_uuid=body.workflow_uuid,
        task_uuid=body.task_uuid,
        retry_id=body.retry_id,
        container=body.container,
        node=body.node,
        pod_ip=body.pod_ip,
        message=body.message,
        status=body.status,
        exit_code=min(max(body.exit_code, _INT32.start), _INT32.stop - 1),
        backend=backend,
        conditions=tuple(
            [
                ConditionMessage(
                    *(c.reason, c.message, plain_time(c.timestamp) or timeless, c.status, c.type)
                )
                for c in body.conditions
            ]
        ),
    )
    return ListenerMessage(uuid, at, update_pod=pod)


def _their_node(uuid: str, at: str, body: bodies.UpdateNode, _: str) -> ListenerMessage:
    node = UpdateNodeBody(
        hostname=_their_name(body.node, body.hostname),
        available=body.available,
        conditions=body.conditions,
        processed_fields=body.processed,
        allocatable_fields=body.allocatable,
        label_fields=body.labels,
        taints=tuple(
            [Taint(t.key, t.value, t.effect, plain_time(t.time_added)) for t in body.taints]
        ),
        delete=body.deleted,
    )
    return ListenerMessage(uuid, at, update_node=node)


def _their_usage(uuid: str, at: str, body: bodies.UpdateNodeUsage, _: str) -> ListenerMessage:
    name = _their_name(body.node, body.hostname)
    usage = UpdateNodeUsageBody(name, body.usage, body.non_workflow_usage)
    return ListenerMessage(uuid, at, update_node_usage=usage)


def _their_inventory(uuid: str, at: str, body: bodies.NodeInventory, _: str) -> ListenerMessage:
    names = tuple(map(_their_name, body.nodes, body.hostnames or body.nodes))
    return ListenerMessage(uuid, at, node_inventory=NodeInventoryBody(names))


def _their_name(node: str, hostname: str) -> str:
    """The hostname, by which they know a node; of one that has none its name, or all of these would
    be one node there."""
    return node if hostname in _NO_HOSTNAMES else hostname


def _their_event(uuid: str, at: str, body: bodies.PodEvent, _: str) -> ListenerMessage:
    name = body.pod.rpartition("/")[2]
    event = PodEventBody(name, body.reason, body.message, plain_time(body.timestamp) or at)
    return ListenerMessage(uuid, at, pod_event=event)


def _their_log(uuid: str, at: str, body: bodies.Logging, _: str) -> ListenerMessage:
    line = LoggingBody(LoggingType[body.type.name], body.text, body.workflow_uuid)
    return ListenerMessage(uuid, at, logging=line)


def _their_heartbeat(uuid: str, at: str, body: bodies.Registration, _: str) -> ListenerMessage:
    line = LoggingBody(text=f"{HEARTBEAT_NOTICE}{_registration_text(body)}")
    return ListenerMessage(uuid, at, logging=line)


_TRANSLATIONS: dict[str, Callable[..., ListenerMessage]] = {
    "update_pod": _their_pod,
    "update_node": _their_node,
    "update_node_usage": _their_usage,
    "node_inventory": _their_inventory,
    "pod_event": _their_event,
    "logging": _their_log,
    "heartbeat": _their_heartbeat,
}
