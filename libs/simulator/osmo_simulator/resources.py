"""The kinds of objects that the simulator serves."""

from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
"""A Kubernetes object; one that the cluster handed out is shared, so never change it."""

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, kw_only=True)
class Resource:
    """One kind of objects, all of API version `v1`."""

    plural: str
    singular: str
    kind: str
    short_names: tuple[str, ...]
    namespaced: bool
    fields: tuple[str, ...]
    """The paths that a field selector may name."""
    has_status: bool
    """Whether the `/status` subresource exists; then the main path never changes the status."""
    created_status: Object | None
    """What a created object's status becomes over HTTP; None keeps the one that was sent."""
    graceful: bool
    """Whether a deletion is announced by a version with a `deletionTimestamp`."""
    empty: Object
    """The fields besides metadata that a bookmark's object carries."""

    @property
    def type_meta(self) -> bytes:
        """`kind` and `apiVersion` as the first bytes of an encoded object."""
        return b'{"kind":"%s","apiVersion":"v1",' % self.kind.encode()


PODS = Resource(
    plural="pods",
    singular="pod",
    kind="Pod",
    short_names=("po",),
    namespaced=True,
    fields=(
        "metadata.name",
        "metadata.namespace",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    has_status=True,
    created_status={"phase": "Pending", "qosClass": "BestEffort"},
    graceful=True,
    empty={"spec": {"containers": None}, "status": {}},
)

NODES = Resource(
    plural="nodes",
    singular="node",
    kind="Node",
    short_names=("no",),
    namespaced=False,
    fields=("metadata.name", "spec.unschedulable"),
    has_status=True,
    created_status=None,
    graceful=False,
    empty={"spec": {}, "status": {}},
)

EVENTS = Resource(
    plural="events",
    singular="event",
    kind="Event",
    short_names=("ev",),
    namespaced=True,
    fields=(
        "metadata.name",
        "metadata.namespace",
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    has_status=False,
    created_status=None,
    graceful=False,
    empty={"involvedObject": {}, "source": {}},
)

NAMESPACES = Resource(
    plural="namespaces",
    singular="namespace",
    kind="Namespace",
    short_names=("ns",),
    namespaced=False,
    fields=("metadata.name", "status.phase"),
    has_status=True,
    created_status={"phase": "Active"},
    graceful=False,
    empty={"spec": {}, "status": {}},
)

RESOURCES = {resource.plural: resource for resource in (PODS, NODES, EVENTS, NAMESPACES)}
