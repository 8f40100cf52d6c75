"""Messages as the design has them: one JSON object in each text frame."""

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import websockets

Message = dict[str, Any]
Body = dict[str, Any]

BACKEND = "bench"
MAX_FRAME = 16 * 1024 * 1024
"""Bytes, as deployed."""


def connect(url: str) -> websockets.connect:
    """A connection to the service, as `async with`: without compression, which takes longer than it
    saves between programs of one machine, and without a proxy between them."""
    return websockets.connect(url, compression=None, max_size=MAX_FRAME, proxy=None)


def pod_body(*, workflow: str, task: str, status: str, message: str = "") -> Body:
    """The body of a report that is made up: of a pod that no cluster has."""
    return {
        "workflow_uuid": workflow,
        "task_uuid": task,
        "retry_id": 0,
        "container": "train",
        "node": "gpu-node-0042.example.internal",
        "pod_ip": "10.64.12.34",
        "message": message,
        "status": status,
        "exit_code": None,
        "backend": BACKEND,
        "conditions": [],
    }


def new_message(body: Body) -> Message:
    """A report of a pod, made now."""
    return {
        "type": "update_pod",
        "body": body,
        "uuid": uuid.uuid4().hex,
        "timestamp": timestamp(datetime.now(UTC)),
    }


def timestamp(moment: datetime) -> str:
    """In UTC, without a zone."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat()


def created_ns(message: Message) -> int:
    """When a message was made: Unix time in ns."""
    moment = datetime.fromisoformat(message["timestamp"]).replace(tzinfo=UTC)
    return round(moment.timestamp() * 1e9)


def ack(message: Message) -> str:
    """The text that acknowledges a message."""
    answer = {"type": "ack", "body": {"uuid": message["uuid"]}, "uuid": uuid.uuid4().hex}
    return json.dumps(answer)


def acknowledged(text: str | bytes) -> str:
    """The uuid that an answer acknowledges.

    Raises:
        ValueError: it acknowledges nothing.
    """
    answer = json.loads(text)
    if answer["type"] != "ack":
        raise ValueError(f"an answer of type {answer['type']!r}, which is no acknowledgement")
    found: str = answer["body"]["uuid"]
    return found
