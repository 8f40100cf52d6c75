"""Reports from protobuf: what is read is the same as from protobuf's own JSON of them."""

from contextlib import suppress

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from osmo_deployed import protojson
from osmo_deployed.messages import ListenerMessage, LoggingBody
from osmo_deployed.protobuf import (
    Introduction,
    decode_introduction,
    decode_report,
    encode_acknowledgement,
    encode_heartbeat,
    encode_initialized,
    encode_rules,
)
from osmo_protos import listener_service_pb2 as pb
from osmo_reports.bodies import Registration
from osmo_transport import PeerError

text = st.text(st.characters(codec="utf-8"), max_size=20)
texts = st.lists(text, max_size=3)
pairs = st.dictionaries(text, text, max_size=3)
number = st.integers(-(2**31), 2**31 - 1)
conditions = st.builds(
    pb.ConditionMessage, reason=text, message=text, timestamp=text, status=st.booleans(), type=text
)
taints = st.builds(pb.Taint, key=text, value=text, effect=text, time_added=text)
bodies = st.one_of(
    st.fixed_dictionaries(
        {
            "update_pod": st.builds(
                pb.UpdatePodBody,
                workflow_uuid=text,
                task_uuid=text,
                retry_id=number,
                container=text,
                node=text,
                pod_ip=text,
                message=text,
                status=text,
                exit_code=number,
                backend=text,
                conditions=st.lists(conditions, max_size=3),
            )
        }
    ),
    st.fixed_dictionaries(
        {
            "update_node": st.builds(
                pb.UpdateNodeBody,
                hostname=text,
                available=st.booleans(),
                conditions=texts,
                processed_fields=pairs,
                allocatable_fields=pairs,
                label_fields=pairs,
                taints=st.lists(taints, max_size=3),
                delete=st.booleans(),
            )
        }
    ),
    st.fixed_dictionaries(
        {
            "update_node_usage": st.builds(
                pb.UpdateNodeUsageBody,
                hostname=text,
                usage_fields=pairs,
                non_workflow_usage_fields=pairs,
            )
        }
    ),
    st.fixed_dictionaries({"node_inventory": st.builds(pb.NodeInventoryBody, hostnames=texts)}),
    st.fixed_dictionaries(
        {
            "pod_event": st.builds(
                pb.PodEventBody, pod_name=text, reason=text, message=text, timestamp=text
            )
        }
    ),
    st.fixed_dictionaries(
        {
            "logging": st.builds(
                pb.LoggingBody, type=st.sampled_from([0, 1, 2, 3]), text=text, workflow_uuid=text
            )
        }
    ),
    st.just({}),
)
reports = st.builds(
    lambda uuid, timestamp, body: pb.ListenerMessage(uuid=uuid, timestamp=timestamp, **body),
    text,
    text,
    bodies,
)


@given(reports)
def test_every_field_is_read(report: pb.ListenerMessage) -> None:
    """The independent way is protobuf's mapping to JSON, and the reader of that."""
    json = json_format.MessageToJson(
        report, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    assert decode_report(report.SerializeToString()) == protojson.decode(json.encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_a_report_or_refused(data: bytes) -> None:
    """With the one error that says so."""
    with suppress(PeerError):
        assert isinstance(decode_report(data), ListenerMessage)


def test_a_severity_of_a_newer_listener_is_read_as_information() -> None:
    """Its text is what matters."""
    report = pb.ListenerMessage(logging=pb.LoggingBody(type=7, text="new"))  # type: ignore[arg-type]
    assert decode_report(report.SerializeToString()).logging == LoggingBody(text="new")


def test_an_introduction_is_read() -> None:
    """Field by field; None if it has no body."""
    body = pb.InitBody(
        k8s_uid="uid", k8s_namespace="ns", name="b", version="v", node_condition_prefix="p/"
    )
    request = pb.InitBackendRequest(init_body=body)
    expected = Introduction("b", Registration("uid", "ns", "v", "p/"))
    assert decode_introduction(request.SerializeToString()) == expected
    assert decode_introduction(b"") is None
    with pytest.raises(PeerError, match="not an InitBackendRequest"):
        decode_introduction(b"\xff")


def test_answers_are_what_the_contract_says() -> None:
    """Read back with the generated code."""
    assert pb.AckMessage.FromString(encode_acknowledgement("u")).ack_uuid == "u"
    good, bad = encode_initialized(), encode_initialized("why")
    assert pb.InitBackendResponse.FromString(good) == pb.InitBackendResponse(success=True)
    assert pb.InitBackendResponse.FromString(bad) == pb.InitBackendResponse(message="why")
    response = pb.NodeConditionStreamResponse.FromString(encode_rules({"a": "b"}))
    assert response.node_conditions.rules == {"a": "b"}
    response = pb.NodeConditionStreamResponse.FromString(encode_heartbeat("now"))
    assert response.heartbeat.time == "now"
