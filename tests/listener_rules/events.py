"""Events for tests, written as briefly as the rules are, and the reports that come of them."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from osmo_listener.listeners.event import EventConfig, EventListener
from osmo_listener.listeners.objects import (
    Event,
    EventMetadata,
    EventSeries,
    EventSource,
    InvolvedObject,
)
from osmo_reports.bodies import PodEvent, decode_body
from osmo_transport.message import Message
from tests.listener_rules.harness import SINCE, T0

NAMESPACE = "osmo"
EPOCH = 7
TTL = 900.0
NEWER = "2026-01-02T03:05:06Z"
"""Later than SINCE."""


def at(seconds: float) -> str:
    """A moment in seconds since the Unix epoch, as the API server writes it."""
    moment = datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    return f"{moment.isoformat()}Z"


def make_event(
    pod: str = "pod-1",
    reason: str = "BackOff",
    message: str = "again",
    *,
    kind: str = "Pod",
    type: str = "Warning",  # noqa: A002
    uid: str = "u1",
    rv: int = 0,
    last: str | None = SINCE,
    first: str | None = None,
    time: str | None = None,
    created: str | None = None,
    count: int = 1,
    series: tuple[int, str | None] | None = None,
    component: str = "",
    reporting: str = "",
    controller: str = "",
    namespace: str = NAMESPACE,
) -> Event:
    """An Event about `pod`, noted `count` times up to `last`; the count is also its version, unless
    one is given."""
    return Event(
        metadata=EventMetadata(
            name=f"event-{uid}",
            namespace=namespace,
            uid=uid,
            resource_version=str(rv or count),
            creation_timestamp=created,
        ),
        involved_object=InvolvedObject(kind=kind, name=pod),
        reason=reason,
        message=message,
        type=type,
        source=EventSource(component),
        reporting_component=reporting,
        reporting_controller=controller,
        first_timestamp=first,
        last_timestamp=last,
        event_time=time,
        count=count,
        series=EventSeries(*series) if series else None,
    )


def new_listener(**config: Any) -> EventListener:
    """A listener with these settings, in epoch 7."""
    listener = EventListener(EventConfig(**config), NAMESPACE)
    listener.restart(EPOCH)
    return listener


def tell(listener: EventListener, event: Event, now: float = T0) -> list[Message]:
    """Let the listener see `event` as added or modified."""
    return listener.on_change(None, event, int(event.metadata.resource_version), now)


class Sent(NamedTuple):
    """A report, as far as most tests look at it."""

    pod: str
    reason: str
    times: int
    timestamp: str = SINCE


def bodies(messages: Iterable[Message]) -> list[PodEvent]:
    """What the reports among `messages` say; there is nothing else among them."""
    found = []
    for message in messages:
        assert message.kind == "pod_event"
        body: PodEvent = decode_body(message.kind, message.payload)
        assert message.key == body.pod
        found.append(body)
    return found


def sent(messages: Iterable[Message]) -> list[Sent]:
    """The reports among `messages`, in short; pods without their namespace."""
    return [
        Sent(body.pod.removeprefix("osmo/"), body.reason, body.count, body.timestamp)
        for body in bodies(messages)
    ]
