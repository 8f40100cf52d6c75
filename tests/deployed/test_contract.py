"""The contract of the deployed listeners has not moved: names and numbers of 2.1."""

import operator
import sys

from osmo_protos import listener_service_pb2 as pb

MESSAGES = {
    "ListenerMessage": {
        "uuid": 1,
        "timestamp": 2,
        "update_pod": 3,
        "logging": 4,
        "update_node": 5,
        "update_node_usage": 6,
        "node_inventory": 7,
        "pod_event": 8,
    },
    "AckMessage": {"ack_uuid": 1},
    "LoggingBody": {"type": 1, "text": 2, "workflow_uuid": 3},
    "ConditionMessage": {"reason": 1, "message": 2, "timestamp": 3, "status": 4, "type": 5},
    "UpdatePodBody": {
        "workflow_uuid": 1,
        "task_uuid": 2,
        "retry_id": 3,
        "container": 4,
        "node": 5,
        "pod_ip": 6,
        "message": 7,
        "status": 8,
        "exit_code": 9,
        "backend": 10,
        "conditions": 11,
    },
    "InitBody": {
        "k8s_uid": 1,
        "k8s_namespace": 2,
        "name": 3,
        "version": 4,
        "node_condition_prefix": 5,
    },
    "Taint": {"key": 1, "value": 2, "effect": 3, "time_added": 4},
    "UpdateNodeBody": {
        "hostname": 1,
        "available": 2,
        "conditions": 3,
        "processed_fields": 4,
        "allocatable_fields": 5,
        "label_fields": 6,
        "taints": 7,
        "delete": 8,
    },
    "UpdateNodeUsageBody": {"hostname": 1, "usage_fields": 2, "non_workflow_usage_fields": 3},
    "NodeInventoryBody": {"hostnames": 1},
    "PodEventBody": {"pod_name": 1, "reason": 2, "message": 3, "timestamp": 4},
    "NodeConditionsMessage": {"rules": 1},
    "InitBackendRequest": {"init_body": 1},
    "InitBackendResponse": {"success": 1, "message": 2},
    "HeartbeatMessage": {"time": 1},
    "NodeConditionStreamResponse": {"node_conditions": 1, "heartbeat": 2},
}
METHODS = {
    "ListenerStream": ("ListenerMessage", "AckMessage", True),
    "SendListenerMessage": ("ListenerMessage", "AckMessage", False),
    "NodeConditionStream": ("HeartbeatMessage", "NodeConditionStreamResponse", True),
    "InitBackend": ("InitBackendRequest", "InitBackendResponse", False),
}


def test_messages_have_the_deployed_numbers() -> None:
    """2.1, message by message."""
    found = {
        name: {field.name: field.number for field in message.fields}
        for name, message in pb.DESCRIPTOR.message_types_by_name.items()
    }
    assert found == MESSAGES


def test_methods_have_the_deployed_names() -> None:
    """2.1: their full names begin with the package."""
    service = pb.DESCRIPTOR.services_by_name["ListenerService"]
    assert service.full_name == "operator.ListenerService"
    found = {
        method.name: (method.input_type.name, method.output_type.name, method.client_streaming)
        for method in service.methods
    }
    assert found == METHODS
    assert all(m.client_streaming == m.server_streaming for m in service.methods)


def test_severities_have_the_deployed_numbers() -> None:
    """2.1."""
    assert dict(pb.LoggingType.items()) == {"INFO": 0, "DEBUG": 1, "WARNING": 2, "EXCEPTION": 3}


def test_the_standard_library_keeps_its_module() -> None:
    """The proto's package is `operator`; the generated code is not."""
    assert sys.modules["operator"] is operator
    assert operator.itemgetter(0)(["still there"]) == "still there"
    assert pb.__name__ == "osmo_protos.listener_service_pb2"
