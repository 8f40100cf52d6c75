"""The bodies of the built-in kinds: typed, one per kind, encoded as msgpack maps.

A field that a decoder does not know is ignored and a field that is absent takes its default, so old
and new versions can run side by side.
"""

from enum import Enum
from typing import Annotated, Any, ClassVar

import msgspec

from osmo_reports.errors import BodyError

NO_EXIT_CODE = -1

Number = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""What every store's integers hold: one that is larger is refused with its report alone, where a
store would have to search its batch for it."""


MAX_PARTS = 1024
"""Of one inventory. Listeners make parts of up to 128 KiB, so 100 000 nodes whose names are as long
as Kubernetes allows take a fifth of them."""


class Condition(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One condition of a pod."""

    type: str
    status: bool
    reason: str = ""
    message: str = ""
    timestamp: str = ""
    """`lastTransitionTime` as the API server wrote it (RFC 3339), or empty."""


class UpdatePod(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """The state of one task's pod (kind `update_pod`)."""

    workflow_uuid: str
    task_uuid: str
    retry_id: Number
    status: str
    """One of `PodStatus` in `osmo_listener`, for example `RUNNING`."""
    container: str = ""
    node: str = ""
    pod_ip: str = ""
    message: str = ""
    exit_code: Number = NO_EXIT_CODE
    conditions: tuple[Condition, ...] = ()
    pod: str = ""
    """The pod's `namespace/name`."""
    created_at: str = ""
    """`creationTimestamp` of the pod (RFC 3339), or empty."""
    deleted: bool = False
    """The pod is gone from the cluster; the other fields are its last known state."""

    @staticmethod
    def key(workflow_uuid: str, task_uuid: str, retry_id: int) -> str:
        """The message key of this task."""
        return f"{workflow_uuid}/{task_uuid}/{retry_id}"


class PodExists(msgspec.Struct, frozen=True, omit_defaults=True):
    """That one task's pod exists, or no longer (kind `pod_exists`); its state is not known.

    It has the key of the task's `update_pod` and leaves what these reported as it is.
    """

    workflow_uuid: str
    task_uuid: str
    retry_id: Number
    deleted: bool = False
    """The pod is gone from the cluster."""


class Taint(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One taint of a node."""

    key: str
    value: str = ""
    effect: str = ""
    time_added: str = ""
    """As the API server wrote it (RFC 3339), or empty."""


class UpdateNode(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state of one node (kind `update_node`, keyed by `node`)."""

    node: str
    """Its name in the cluster; of listeners that do not tell it, the same as `hostname`."""
    hostname: str
    """The label `kubernetes.io/hostname`, or `-`."""
    available: bool = False
    """Whether it takes tasks, by the backend's condition rules."""
    conditions: tuple[str, ...] = ()
    """The types of its conditions that are True."""
    allocatable: dict[str, str] = {}
    """By resource: whole cores of `cpu`; `memory` and `ephemeral-storage` in `Ki`."""
    labels: dict[str, str] = {}
    taints: tuple[Taint, ...] = ()
    processed: dict[str, str] = {}
    """What only listeners of the deployed protocol send."""
    deleted: bool = False
    """The node is gone from the cluster."""


class NodeInventory(msgspec.Struct, frozen=True, omit_defaults=True):
    """All nodes of a cluster at the version of the message (kind `node_inventory`, one key): a node
    that is not in it, and of which nothing newer is known, is gone."""

    nodes: tuple[str, ...]
    """As `UpdateNode.node`."""
    hostnames: tuple[str, ...] = ()
    """As `UpdateNode.hostname`, of the same nodes, for workers that know them by it; empty: the
    same as `nodes`."""

    KEY: ClassVar[str] = "nodes"


class NodeInventoryPart(msgspec.Struct, frozen=True, omit_defaults=True):
    """A part of an inventory that is too large for one message (kind `node_inventory_part`, keyed
    by its number): all parts of one version are that inventory, and none of them says anything
    alone."""

    nodes: tuple[str, ...]
    """As `UpdateNode.node`; each is in one part."""
    part: Annotated[int, msgspec.Meta(ge=0, lt=MAX_PARTS)]
    """Its number, from 0."""
    parts: Annotated[int, msgspec.Meta(gt=0, le=MAX_PARTS)]
    """How many there are."""

    @staticmethod
    def key(part: int) -> str:
        """The message key of the part with this number."""
        return f"{NodeInventory.KEY}/{part}"


class UpdateNodeUsage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the pods on one node ask for (kind `update_node_usage`, keyed by `node`).

    Both are totals by resource: `cpu` in whole cores, `memory` and `ephemeral-storage` in `Ki`,
    `nvidia.com/gpu`.
    """

    node: str
    """As `UpdateNode.node`."""
    hostname: str
    usage: dict[str, str] = {}
    """Of all pods."""
    non_workflow_usage: dict[str, str] = {}
    """Of the pods that run no workflow."""


class PodEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that the cluster noted about a pod (kind `pod_event`)."""

    pod: str
    """`namespace/name`; of listeners that tell no namespace, the name alone."""
    reason: str
    message: str = ""
    type: str = ""
    """`Normal` or `Warning`, or empty where the listener does not tell it."""
    timestamp: str = ""
    """When it happened last (RFC 3339)."""
    count: Number = 1
    """How often it was noted since the last report of it."""


class LogType(Enum):
    """How severe a log message of a listener is."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    EXCEPTION = "exception"


class Logging(msgspec.Struct, frozen=True, omit_defaults=True):
    """A log message of a listener (kind `logging`)."""

    type: LogType
    text: str
    workflow_uuid: str = ""
    """The workflow that it is about, or empty."""


class Registration(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who reports a backend: said when a listener connects, and as the body of its heartbeats (kind
    `heartbeat`, keyed by the backend)."""

    cluster_uid: str = ""
    """The uid of the namespace `kube-system`, which is as good as the cluster's; empty: not known,
    and compared with none."""
    namespace: str = ""
    """The namespace of the workflows."""
    version: str = ""
    """Of the listener."""
    node_condition_prefix: str = ""
    """Of the labels that this system writes to nodes."""
    watch_ages: dict[str, float] = {}
    """Of heartbeats, by listener, for example `workflow`: seconds since the API server was last
    heard of by what it is told from. A listener that is blind is so alive that it says so."""
    credential: str = ""
    """Of what a directory keeps: the name of the credential that took the backend's name, over
    whatever a listener says; empty: there was none."""


class PodsCurrent(msgspec.Struct, frozen=True):
    """Until when a backend's pods are known (kind `pods_current`, keyed by the backend): what was
    to be reported of them until then went before this message, with the epoch of its version.

    None is sent while the listener cannot see its pods."""

    at: float
    """In seconds since the Unix epoch, by the listener's clock."""


class SnapshotEnd(msgspec.Struct, frozen=True, omit_defaults=True):
    """Closes a full snapshot (kind `snapshot_end`).

    Every live resource of `kind` has been reported with the epoch of this message's version, so
    what the store holds under an older epoch is gone from the cluster.
    """

    kind: str
    """The kind whose resources the snapshot lists, for example `update_pod`."""
    count: Number
    """How many resources were reported with their state, so that a worker can tell that none is
    still on its way."""


BODY_TYPES: dict[str, type[msgspec.Struct]] = {
    "update_pod": UpdatePod,
    "pod_exists": PodExists,
    "pods_current": PodsCurrent,
    "snapshot_end": SnapshotEnd,
    "update_node": UpdateNode,
    "node_inventory": NodeInventory,
    "node_inventory_part": NodeInventoryPart,
    "update_node_usage": UpdateNodeUsage,
    "pod_event": PodEvent,
    "logging": Logging,
    "heartbeat": Registration,
}

_encode = msgspec.msgpack.Encoder().encode
_decoders: dict[str, msgspec.msgpack.Decoder[Any]] = {
    kind: msgspec.msgpack.Decoder(body) for kind, body in BODY_TYPES.items()
}


def encode_body(body: msgspec.Struct) -> bytes:
    """The payload of a body."""
    return _encode(body)


def decode_body(kind: str, payload: bytes) -> Any:
    """The body of a payload, an instance of `BODY_TYPES[kind]`.

    Raises:
        BodyError: the kind is not known here, or the payload does not fit it.
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        raise BodyError(f"unknown kind {kind!r}: this version reads {', '.join(BODY_TYPES)}")
    try:
        return decoder.decode(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise BodyError(f"payload of kind {kind!r} cannot be decoded: {exc}") from exc


def encode_introduction(registration: Registration) -> bytes:
    """What a listener says of itself when it connects."""
    return _encode(registration)


def decode_introduction(introduction: bytes) -> Registration | None:
    """What a listener said of itself when it connected; None if it said nothing.

    Raises:
        BodyError: it cannot be read.
    """
    if not introduction:
        return None
    registration: Registration = decode_body("heartbeat", introduction)
    return registration
