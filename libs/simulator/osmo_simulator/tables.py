"""Tables: how `kubectl get` asks for objects."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from osmo_simulator.cluster import Cluster, Store
from osmo_simulator.history import Version
from osmo_simulator.lists import Page
from osmo_simulator.podstatus import ready_text, restart_count, status_text
from osmo_simulator.resources import EVENTS, NAMESPACES, NODES, PODS, Object, Resource
from osmo_simulator.selectors import field_value

_NONE = "<none>"
_UNKNOWN = "<unknown>"
_MINUTE, _HOUR, _DAY, _YEAR = 60, 3600, 86400, 365 * 86400
_AGES = (
    (2 * _MINUTE, 1, "s", 0, ""),
    (10 * _MINUTE, _MINUTE, "m", 1, "s"),
    (3 * _HOUR, _MINUTE, "m", 0, ""),
    (8 * _HOUR, _HOUR, "h", _MINUTE, "m"),
    (2 * _DAY, _HOUR, "h", 0, ""),
    (8 * _DAY, _DAY, "d", _HOUR, "h"),
    (2 * _YEAR, _DAY, "d", 0, ""),
    (8 * _YEAR, _YEAR, "y", _DAY, "d"),
)
"""Below how many seconds an age is written in which unit, and with which smaller one."""
_ROLE = "node-role.kubernetes.io/"


@dataclass(frozen=True)
class Column:
    """One column: its heading and how a cell follows from an object and the current time."""

    name: str
    cell: Callable[[Object, datetime], Any]
    wide: bool = False
    """Shown by `kubectl get -o wide` alone."""


def wants_table(accept: str) -> bool:
    """Whether the first choice of an `Accept` header is a table."""
    first = accept.split(",", 1)[0].replace(" ", "")
    return "as=Table" in first.split(";")


def encode_table(cluster: Cluster, store: Store, page: Page, include: str) -> bytes:
    """A list as a table; `include` (`includeObject`) says what a row carries of its object."""
    now = cluster.now()
    rows = [_row(store.resource, version.object, now, include) for version in page.versions]
    return _encode_table(store.resource, page.metadata, rows, first=True)


class TableEncoder:
    """The objects of a watch, each a table of one row; the first one names the columns."""

    def __init__(self, cluster: Cluster, resource: Resource, include: str) -> None:
        self._cluster = cluster
        self._resource = resource
        self._include = include
        self._first = True

    def object(self, version: Version) -> Iterable[bytes]:
        """The parts of an encoded table."""
        row = _row(self._resource, version.object, self._cluster.now(), self._include)
        metadata = {"resourceVersion": str(version.number)}
        first, self._first = self._first, False
        return (_encode_table(self._resource, metadata, [row], first=first),)


def human_duration(span: timedelta) -> str:
    """A duration in the few characters that kubectl uses for ages."""
    seconds = max(0, int(span.total_seconds()))
    for limit, unit, units, part, parts in _AGES:
        if seconds < limit:
            rest = seconds % unit // part if part else 0
            return f"{seconds // unit}{units}" + (f"{rest}{parts}" if rest else "")
    return f"{seconds // _YEAR}y"


def _encode_table(
    resource: Resource, metadata: dict[str, Any], rows: list[dict[str, Any]], *, first: bool
) -> bytes:
    return msgspec.json.encode(
        {
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": metadata,
            "columnDefinitions": _definitions(resource) if first else [],
            "rows": rows,
        }
    )


def _definitions(resource: Resource) -> list[dict[str, Any]]:
    return [
        {
            "name": column.name,
            "type": "string",
            "format": "name" if column.name == "Name" else "",
            "description": "",
            "priority": int(column.wide),
        }
        for column in _COLUMNS[resource.plural]
    ]


def _row(resource: Resource, obj: Object, now: datetime, include: str) -> dict[str, Any]:
    row: dict[str, Any] = {"cells": [column.cell(obj, now) for column in _COLUMNS[resource.plural]]}
    if include == "Object":
        row["object"] = {"kind": resource.kind, "apiVersion": "v1", **obj}
    elif include != "None":
        row["object"] = {
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": obj["metadata"],
        }
    return row


def _field(path: str, absent: str = _NONE) -> Callable[[Object, datetime], str]:
    return lambda obj, _: field_value(obj, path) or absent


def _age(*paths: str) -> Callable[[Object, datetime], str]:
    def cell(obj: Object, now: datetime) -> str:
        for path in paths:
            if text := field_value(obj, path):
                return human_duration(now - datetime.fromisoformat(text).astimezone(UTC))
        return _UNKNOWN

    return cell


def _node_status(node: Object, _: datetime) -> str:
    conditions = node.get("status", {}).get("conditions") or []
    states = [
        "Ready" if condition["status"] == "True" else "NotReady"
        for condition in conditions
        if condition["type"] == "Ready"
    ] or ["Unknown"]
    if node.get("spec", {}).get("unschedulable"):
        states.append("SchedulingDisabled")
    return ",".join(states)


def _node_roles(node: Object, _: datetime) -> str:
    labels = node["metadata"].get("labels") or {}
    return ",".join(sorted(k.removeprefix(_ROLE) for k in labels if k.startswith(_ROLE))) or _NONE


def _node_address(kind: str) -> Callable[[Object, datetime], str]:
    def cell(node: Object, _: datetime) -> str:
        addresses = node.get("status", {}).get("addresses") or []
        return next((a["address"] for a in addresses if a["type"] == kind), _NONE)

    return cell


def _event_object(event: Object, _: datetime) -> str:
    involved = event.get("involvedObject") or {}
    return f"{involved.get('kind', '').lower()}/{involved.get('name', '')}"


_NAME = Column("Name", _field("metadata.name"))
_AGE = Column("Age", _age("metadata.creationTimestamp"))

_COLUMNS: dict[str, tuple[Column, ...]] = {
    PODS.plural: (
        _NAME,
        Column("Ready", lambda pod, _: ready_text(pod)),
        Column("Status", lambda pod, _: status_text(pod)),
        Column("Restarts", lambda pod, _: str(restart_count(pod))),
        _AGE,
        Column("IP", _field("status.podIP"), wide=True),
        Column("Node", _field("spec.nodeName"), wide=True),
        Column("Nominated Node", _field("status.nominatedNodeName"), wide=True),
        Column("Readiness Gates", lambda *_: _NONE, wide=True),
    ),
    NODES.plural: (
        _NAME,
        Column("Status", _node_status),
        Column("Roles", _node_roles),
        _AGE,
        Column("Version", _field("status.nodeInfo.kubeletVersion", "")),
        Column("Internal-IP", _node_address("InternalIP"), wide=True),
        Column("External-IP", _node_address("ExternalIP"), wide=True),
        Column("OS-Image", _field("status.nodeInfo.osImage", _UNKNOWN), wide=True),
        Column("Kernel-Version", _field("status.nodeInfo.kernelVersion", _UNKNOWN), wide=True),
        Column(
            "Container-Runtime",
            _field("status.nodeInfo.containerRuntimeVersion", _UNKNOWN),
            wide=True,
        ),
    ),
    EVENTS.plural: (
        Column("Last Seen", _age("lastTimestamp", "eventTime", "metadata.creationTimestamp")),
        Column("Type", _field("type", "")),
        Column("Reason", _field("reason", "")),
        Column("Object", _event_object),
        Column("Subobject", _field("involvedObject.fieldPath", ""), wide=True),
        Column("Source", _field("source", ""), wide=True),
        Column("Message", _field("message", "")),
        Column("First Seen", _age("firstTimestamp", "metadata.creationTimestamp"), wide=True),
        Column("Count", _field("count", "1"), wide=True),
        Column("Name", _field("metadata.name"), wide=True),
    ),
    NAMESPACES.plural: (_NAME, Column("Status", _field("status.phase", "")), _AGE),
}
