"""Which verb on which objects a method and a path stand for."""

from collections.abc import Mapping
from dataclasses import dataclass

from osmo_simulator.errors import method_not_allowed, no_such_path
from osmo_simulator.resources import NAMESPACES, RESOURCES, Resource

_PREFIX = "/api/v1/"
_NAMED = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_COLLECTION = {"GET": "list", "POST": "create", "DELETE": "deletecollection"}


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a request is about."""

    verb: str
    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def route(method: str, path: str, query: Mapping[str, str]) -> Target:
    """The target of a request for objects.

    Raises:
        StatusError: nothing is served under this path, or not with this method.
    """
    parts = path.removeprefix(_PREFIX).split("/")
    if not path.startswith(_PREFIX):
        raise no_such_path()
    namespace = ""
    if len(parts) > 2 and parts[0] == NAMESPACES.plural and parts[2] in RESOURCES:
        _, namespace, *parts = parts
    plural, name, subresource, *rest = parts + [""] * (3 - len(parts))
    resource = RESOURCES.get(plural)
    if resource is None or rest or (namespace and not resource.namespaced):
        raise no_such_path()
    if subresource and not (subresource == "status" and resource.has_status):
        raise no_such_path()
    verb = (_NAMED if name else _COLLECTION).get(method)
    if verb == "list" and query.get("watch", "0").lower() not in {"0", "false"}:
        verb = "watch"
    needs_namespace = resource.namespaced and (name or verb == "create")
    if verb is None or (needs_namespace and not namespace) or (subresource and verb == "delete"):
        raise method_not_allowed()
    return Target(
        verb=verb, resource=resource, namespace=namespace, name=name, subresource=subresource
    )
