"""What deployed listeners say, in protobuf and in JSON."""

from contextlib import suppress

from osmo_deployed import protojson
from osmo_deployed.messages import ListenerMessage, to_message
from osmo_deployed.protobuf import decode_introduction, decode_report
from osmo_protos import listener_service_pb2 as pb
from osmo_reports import BodyError
from osmo_transport import PeerError
from osmo_transport.errors import UnsendableError
from osmo_transport.message import encode_message
from tests.fuzz.draw import Draw, Typed
from tests.fuzz.family import Family

_JSON = Typed(ListenerMessage)
_ARRIVAL = 1 << 50


def _samples() -> list[bytes]:
    """One with each body."""
    whole = pb.ListenerMessage(uuid="u" * 32, timestamp="2026-01-02T03:04:05.000001")
    pod = pb.UpdatePodBody(workflow_uuid="w", task_uuid="t", retry_id=-1, status="RUNNING")
    pod.conditions.add(type="Ready", status=True, timestamp="2026-01-02T03:04:05Z")
    node = pb.UpdateNodeBody(hostname="n", available=True, conditions=["Ready"])
    node.label_fields["a"] = "b"
    node.taints.add(key="k", effect="NoSchedule")
    usage = pb.UpdateNodeUsageBody(hostname="n", usage_fields={"cpu": "1"})
    bodies = {
        "update_pod": pod,
        "update_node": node,
        "update_node_usage": usage,
        "node_inventory": pb.NodeInventoryBody(hostnames=["n", "m"]),
        "pod_event": pb.PodEventBody(pod_name="p", reason="r", message="m"),
        "logging": pb.LoggingBody(text="__HEARTBEAT__:{}"),
    }
    reports = []
    for name, body in bodies.items():
        report = pb.ListenerMessage()
        report.CopyFrom(whole)
        getattr(report, name).CopyFrom(body)
        reports.append(report.SerializeToString())
    introduction = pb.InitBackendRequest()
    introduction.init_body.name = "backend"
    return [*reports, introduction.SerializeToString()]


_SAMPLES = _samples()


def _read_protobuf(data: bytes) -> None:
    with suppress(PeerError):
        decode_introduction(data)
    _taken(decode_report(data))


def _read_json(text: bytes) -> None:
    message = protojson.decode(text)
    assert protojson.decode(protojson.encode(message)) == message
    _taken(message)


def _taken(message: ListenerMessage) -> None:
    encode_message(to_message(message, _ARRIVAL))


def _make_json(draw: Draw) -> bytes:
    return _JSON.json(draw)


_ERRORS = (PeerError, BodyError, UnsendableError)
PROTOBUF = Family(lambda draw: draw.like(_SAMPLES), _read_protobuf, _ERRORS)
JSON = Family(_make_json, _read_json, _ERRORS)
