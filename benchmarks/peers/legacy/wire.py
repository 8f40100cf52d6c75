"""Messages as the design has them: one JSON object in each text frame."""

import json
import uuid
from datetime import UTC, datetime
from typing import Any

Message = dict[str, Any]

MAX_FRAME = 16 * 1024 * 1024
"""Bytes, as deployed."""


def new_message(body: dict[str, Any]) -> Message:
    """A message about a pod."""
    return {
        "type": "update_pod",
        "body": body,
        "uuid": uuid.uuid4().hex,
        "timestamp": datetime.now(UTC).replace(tzinfo=None).isoformat(),
    }


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
        raise ValueError(f"an answer of type {answer['type']!r}")
    found: str = answer["body"]["uuid"]
    return found


def created_ns(message: Message) -> int:
    """When a message was made: Unix time in ns."""
    moment = datetime.fromisoformat(message["timestamp"]).replace(tzinfo=UTC)
    return round(moment.timestamp() * 1e9)
