"""The bodies of the built-in kinds: typed, one per kind, encoded as msgpack maps.

A field that a decoder does not know is ignored and a field that is absent takes its default, so old
and new versions can run side by side.
"""

from typing import Any

import msgspec

from osmo_transport.errors import BodyError

NO_EXIT_CODE = -1


class Condition(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One condition of a pod."""

    type: str
    status: bool
    reason: str = ""
    message: str = ""
    timestamp: str = ""
    """`lastTransitionTime` as the API server wrote it (RFC 3339), or empty."""


class UpdatePod(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state of one task's pod (kind `update_pod`)."""

    workflow_uuid: str
    task_uuid: str
    retry_id: int
    status: str
    """One of `PodStatus` in `osmo_listener`, for example `RUNNING`."""
    container: str = ""
    node: str = ""
    pod_ip: str = ""
    message: str = ""
    exit_code: int = NO_EXIT_CODE
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
    retry_id: int
    deleted: bool = False
    """The pod is gone from the cluster."""


class SnapshotEnd(msgspec.Struct, frozen=True, omit_defaults=True):
    """Closes a full snapshot (kind `snapshot_end`).

    Every live resource of `kind` has been reported with the epoch of this message's version, so
    what the store holds under an older epoch is gone from the cluster.
    """

    kind: str
    """The kind whose resources the snapshot lists, for example `update_pod`."""
    count: int
    """How many resources were reported with their state, so that a worker can tell that none is
    still on its way."""


BODY_TYPES: dict[str, type[msgspec.Struct]] = {
    "update_pod": UpdatePod,
    "pod_exists": PodExists,
    "snapshot_end": SnapshotEnd,
}

_encoder = msgspec.msgpack.Encoder()
_decoders: dict[str, msgspec.msgpack.Decoder[Any]] = {
    kind: msgspec.msgpack.Decoder(body) for kind, body in BODY_TYPES.items()
}


def encode_body(body: msgspec.Struct) -> bytes:
    """The payload of a body."""
    return _encoder.encode(body)


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
    except msgspec.MsgspecError as exc:
        raise BodyError(f"payload of kind {kind!r} cannot be decoded: {exc}") from exc
