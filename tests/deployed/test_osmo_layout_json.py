"""The JSON of deployed operators: equal to protobuf's own, and read in all of its forms (2.2)."""

import json
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given

from osmo_deployed.messages import (
    ConditionMessage,
    ListenerMessage,
    LoggingBody,
    LoggingType,
    NodeInventoryBody,
    Taint,
    UpdateNodeBody,
    UpdatePodBody,
)
from osmo_deployed.protojson import decode, encode
from osmo_protos.listener_service_pb2 import ListenerMessage as Deployed
from osmo_reports.errors import BodyError
from tests.deployed.messages import messages


def protojson(message: Deployed, *, sparing: bool = False, camel_case: bool = False) -> bytes:
    """What a deployed operator appends, or in another form."""
    return json_format.MessageToJson(
        message,
        preserving_proto_field_name=not camel_case,
        always_print_fields_with_no_presence=not sparing,
        use_integers_for_enums=sparing,
    ).encode()


@given(messages())
def test_is_what_protobuf_writes(message: ListenerMessage) -> None:
    """Equal once it is parsed, fields of no presence and the one body included."""
    text = encode(message)
    assert json.loads(text) == json.loads(protojson(json_format.Parse(text, Deployed())))


@given(messages())
def test_reads_what_protobuf_writes(message: ListenerMessage) -> None:
    """In every form, the message is the same."""
    theirs = json_format.Parse(encode(message), Deployed())
    assert decode(encode(message)) == message
    for sparing in (False, True):
        for camel_case in (False, True):
            assert decode(protojson(theirs, sparing=sparing, camel_case=camel_case)) == message


POD = UpdatePodBody("w", "t", 3, exit_code=-1, conditions=(ConditionMessage("R", type="Ready"),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param({}, ListenerMessage(), id="absent"),
        pytest.param({"uuid": None, "update_pod": None}, ListenerMessage(), id="null"),
        pytest.param(
            {"uuid": "a", "update_pod": None, "logging": {}},
            ListenerMessage("a", logging=LoggingBody()),
            id="null beside a body",
        ),
        pytest.param(
            {
                "updatePod": {
                    "workflowUuid": "w",
                    "taskUuid": "t",
                    "retryId": "3",
                    "exitCode": "-1",
                    "podIp": None,
                    "conditions": [{"reason": "R", "type": "Ready", "message": None}],
                }
            },
            ListenerMessage(update_pod=POD),
            id="camelCase, numbers as text, null",
        ),
        pytest.param(
            {
                "update_pod": {
                    "workflow_uuid": "w",
                    "task_uuid": "t",
                    "retry_id": 3.0,
                    "exit_code": -1,
                    "conditions": [{"reason": "R", "type": "Ready", "new": 1}],
                    "new": {"uuid": "b"},
                },
                "new": [1],
            },
            ListenerMessage(update_pod=POD),
            id="unknown fields, an integer with a point",
        ),
        *(
            pytest.param(
                {"logging": {"type": number}},
                ListenerMessage(logging=LoggingBody(LoggingType[name])),
                id=f"enum {number}",
            )
            for number, name in enumerate(["INFO", "DEBUG", "WARNING", "EXCEPTION"])
        ),
        pytest.param(
            {"updateNode": {"taints": [{"timeAdded": "x"}], "labelFields": {"timeAdded": "y"}}},
            ListenerMessage(
                update_node=UpdateNodeBody(
                    taints=(Taint(time_added="x"),), label_fields={"timeAdded": "y"}
                )
            ),
            id="keys of a map are no names",
        ),
        pytest.param(
            {"nodeInventory": {"hostnames": None}},
            ListenerMessage(node_inventory=NodeInventoryBody()),
            id="null for a list",
        ),
    ],
)
def test_reads_other_forms(text: dict[str, Any], message: ListenerMessage) -> None:
    """What the mapping allows, and what a newer version adds."""
    assert decode(json.dumps(text).encode()) == message


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff",
        b"{",
        b'{"uuid": "a", "update_pod": {"workflow_uu',
        b"[]",
        b'"text"',
        b"null",
        b'{"uuid": 5}',
        b'{"uuid": "\xff"}',
        b'{"uuid": "\\ud800"}',
        b'{"update_pod": []}',
        b'{"update_pod": "text"}',
        b'{"update_pod": {"conditions": {}}}',
        b'{"update_pod": {"conditions": [null]}}',
        b'{"update_pod": {"retry_id": 2147483648}}',
        b'{"update_pod": {"retry_id": "many"}}',
        b'{"update_pod": {"retry_id": 1.5}}',
        b'{"update_node": {"label_fields": {"a": 1}}}',
        b'{"update_node": {"label_fields": {"a": null}}}',
        b'{"logging": {"type": 4}}',
        b'{"logging": {"type": -1}}',
        b'{"logging": {"type": true}}',
        b'{"logging": {"type": "LOUD"}}',
        b"[" * 100_000,
        b'{"new": ' + b"[" * 100_000,
    ],
)
def test_refuses_what_is_no_message(text: bytes) -> None:
    """Truncated, of wrong types, out of bounds, no Unicode, or too deep: always the same error."""
    with pytest.raises(BodyError):
        decode(text)
