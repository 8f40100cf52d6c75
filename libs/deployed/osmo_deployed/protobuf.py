"""What deployed listeners say, from protobuf (`protos/osmo_protos/listener_service.proto`), and the
answers that they get."""

from collections.abc import Mapping
from typing import NamedTuple

from google.protobuf.message import DecodeError

from osmo_deployed.messages import (
    ConditionMessage,
    ListenerMessage,
    LoggingBody,
    LoggingType,
    NodeInventoryBody,
    PodEventBody,
    Taint,
    UpdateNodeBody,
    UpdateNodeUsageBody,
    UpdatePodBody,
)
from osmo_protos import listener_service_pb2 as pb
from osmo_reports.bodies import Registration
from osmo_transport.errors import PeerError

SERVICE: str = pb.DESCRIPTOR.services_by_name["ListenerService"].full_name
"""The name of their service."""


class Introduction(NamedTuple):
    """Who a listener says that it is."""

    backend: str
    registration: Registration


def decode_report(data: bytes) -> ListenerMessage:
    """The report in some bytes; without a body if it is of a kind that is not known here.

    Raises:
        PeerError: they are none.
    """
    try:
        message = pb.ListenerMessage.FromString(data)
    except DecodeError as exc:
        raise PeerError(f"not a ListenerMessage: {exc}") from exc
    uuid, timestamp = message.uuid, message.timestamp
    match message.WhichOneof("body"):
        case "update_pod":
            return ListenerMessage(uuid, timestamp, update_pod=_pod(message.update_pod))
        case "update_node":
            return ListenerMessage(uuid, timestamp, update_node=_node(message.update_node))
        case "update_node_usage":
            usage = message.update_node_usage
            totals = dict(usage.usage_fields), dict(usage.non_workflow_usage_fields)
            body = UpdateNodeUsageBody(usage.hostname, *totals)
            return ListenerMessage(uuid, timestamp, update_node_usage=body)
        case "node_inventory":
            inventory = NodeInventoryBody(tuple(message.node_inventory.hostnames))
            return ListenerMessage(uuid, timestamp, node_inventory=inventory)
        case "pod_event":
            event = message.pod_event
            noted = PodEventBody(event.pod_name, event.reason, event.message, event.timestamp)
            return ListenerMessage(uuid, timestamp, pod_event=noted)
        case "logging":
            return ListenerMessage(uuid, timestamp, logging=_log(message.logging))
        case _:
            return ListenerMessage(uuid, timestamp)


def _pod(pod: pb.UpdatePodBody) -> UpdatePodBody:
    return UpdatePodBody(
        pod.workflow_uuid,
        pod.task_uuid,
        pod.retry_id,
        pod.container,
        pod.node,
        pod.pod_ip,
        pod.message,
        pod.status,
        pod.exit_code,
        pod.backend,
        tuple(
            [
                ConditionMessage(c.reason, c.message, c.timestamp, c.status, c.type)
                for c in pod.conditions
            ]
        ),
    )


def _node(node: pb.UpdateNodeBody) -> UpdateNodeBody:
    return UpdateNodeBody(
        node.hostname,
        node.available,
        tuple(node.conditions),
        dict(node.processed_fields),
        dict(node.allocatable_fields),
        dict(node.label_fields),
        tuple([Taint(t.key, t.value, t.effect, t.time_added) for t in node.taints]),
        node.delete,
    )


_SEVERITIES = {number: LoggingType[name] for name, number in pb.LoggingType.items()}


def _log(log: pb.LoggingBody) -> LoggingBody:
    # The text of a listener that knows more severities is worth more than its severity.
    severity = _SEVERITIES.get(log.type, LoggingType.INFO)
    return LoggingBody(severity, log.text, log.workflow_uuid)


def decode_introduction(data: bytes) -> Introduction | None:
    """What an `InitBackendRequest` says; None if it has no body.

    Raises:
        PeerError: it is none.
    """
    try:
        request = pb.InitBackendRequest.FromString(data)
    except DecodeError as exc:
        raise PeerError(f"not an InitBackendRequest: {exc}") from exc
    if not request.HasField("init_body"):
        return None
    body = request.init_body
    registration = Registration(
        body.k8s_uid, body.k8s_namespace, body.version, body.node_condition_prefix
    )
    return Introduction(body.name, registration)


def encode_acknowledgement(uuid: str) -> bytes:
    """The `AckMessage` of a report."""
    return pb.AckMessage(ack_uuid=uuid).SerializeToString()


def encode_initialized(problem: str = "") -> bytes:
    """The `InitBackendResponse`; a `problem` says why the backend could not be initialized."""
    return pb.InitBackendResponse(success=not problem, message=problem).SerializeToString()


def encode_rules(rules: Mapping[str, str]) -> bytes:
    """The `NodeConditionStreamResponse` with a backend's condition rules."""
    message = pb.NodeConditionsMessage(rules=rules)
    return pb.NodeConditionStreamResponse(node_conditions=message).SerializeToString()


def encode_heartbeat(time: str) -> bytes:
    """The `NodeConditionStreamResponse` with a sign of life of the operator; `time` in RFC 3339."""
    message = pb.HeartbeatMessage(time=time)
    return pb.NodeConditionStreamResponse(heartbeat=message).SerializeToString()
