"""What the server says about itself: enough for kubectl to find the resources.

Only the plain documents are served. A client that prefers aggregated discovery is told so by the
content type and asks for the rest one by one.
"""

from typing import Any

from osmo_simulator.resources import RESOURCES, VERBS, Resource

VERSION = {
    "major": "1",
    "minor": "37",
    "gitVersion": "v1.37.0+osmo-simulator",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}


def document(path: str) -> dict[str, Any] | None:
    """The document under this path, or None where there is none."""
    match path.rstrip("/"):
        case "/version":
            return VERSION
        case "/api":
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case "/apis":
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": []}
        case "/api/v1":
            described = [entry for r in RESOURCES.values() for entry in _describe(r)]
            return {"kind": "APIResourceList", "groupVersion": "v1", "resources": described}
    return None


def _describe(resource: Resource) -> list[dict[str, Any]]:
    entry: dict[str, Any] = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(VERBS),
        "shortNames": list(resource.short_names),
    }
    if not resource.has_status:
        return [entry]
    status = {
        "name": f"{resource.plural}/status",
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": ["get", "patch", "update"],
    }
    return [entry, status]
