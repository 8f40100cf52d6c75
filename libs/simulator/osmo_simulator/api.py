"""The API server without its sockets: a request goes in, an answer or a watch comes out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from osmo_simulator import discovery, errors
from osmo_simulator.cluster import Cluster
from osmo_simulator.errors import StatusError
from osmo_simulator.history import Version
from osmo_simulator.lists import Page, encode_list, list_page
from osmo_simulator.options import ListOptions
from osmo_simulator.patch import PATCH_TYPES
from osmo_simulator.resources import PODS, Object, Resource
from osmo_simulator.routing import Target
from osmo_simulator.tables import TableEncoder, encode_table, wants_table
from osmo_simulator.watch import ObjectEncoder, Watch

JSON = "application/json"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What of an HTTP request matters."""

    query: Mapping[str, str]
    accept: str = ""
    content_type: str = ""
    body: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A complete answer."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


class Api:
    """The verbs of the API over one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._verbs: dict[str, Callable[[Target, Request], Answer | Watch]] = {
            "get": self._get,
            "list": self._list,
            "watch": self._watch,
            "create": self._create,
            "update": self._update,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }

    def describe(self, path: str) -> Answer:
        """A path that is not about objects: versions, discovery, health.

        Raises:
            StatusError: nothing is served under this path.
        """
        if path in {"/healthz", "/livez", "/readyz"}:
            return Answer(body=b"ok", content_type="text/plain")
        document = discovery.document(path)
        if document is None:
            raise errors.no_such_path()
        return json_answer(document)

    def handle(self, target: Target, request: Request) -> Answer | Watch:
        """The answer to a request for objects.

        Raises:
            StatusError: the request is refused.
        """
        if request.query.get("dryRun"):
            raise errors.bad_request("dryRun is not supported by the simulator")
        return self._verbs[target.verb](target, request)

    def _get(self, target: Target, request: Request) -> Answer:
        store = self._cluster.store(target.resource.plural)
        version = store.find(target.namespace, target.name)
        if version is None:
            raise errors.not_found(target.resource.plural, target.name)
        if wants_table(request.accept):
            metadata: dict[str, object] = {"resourceVersion": str(version.number)}
            page = Page(versions=[version], metadata=metadata)
            return Answer(body=encode_table(self._cluster, store, page, _include(request)))
        return _object_answer(target.resource, version)

    def _list(self, target: Target, request: Request) -> Answer:
        store = self._cluster.store(target.resource.plural)
        options = ListOptions.parse(request.query)
        page = list_page(self._cluster, store, target.namespace, options)
        if wants_table(request.accept):
            return Answer(body=encode_table(self._cluster, store, page, _include(request)))
        return Answer(body=encode_list(target.resource, page))

    def _watch(self, target: Target, request: Request) -> Watch:
        resource = target.resource
        encoder = (
            TableEncoder(self._cluster, resource, _include(request))
            if wants_table(request.accept)
            else ObjectEncoder(resource)
        )
        options = ListOptions.parse(request.query)
        store = self._cluster.store(resource.plural)
        return Watch(self._cluster, store, target.namespace, options, encoder)

    def _create(self, target: Target, request: Request) -> Answer:
        resource = target.resource
        obj = _decode_object(resource, request)
        if resource.created_status is not None:
            obj = {**obj, "status": resource.created_status}
        stored = self._cluster.create(resource.plural, obj, namespace=target.namespace)
        return self._stored(resource, stored, status=201)

    def _update(self, target: Target, request: Request) -> Answer:
        obj = _decode_object(target.resource, request)
        stored = self._cluster.update(
            target.resource.plural,
            obj,
            name=target.name,
            namespace=target.namespace,
            subresource=target.subresource,
        )
        return self._stored(target.resource, stored)

    def _patch(self, target: Target, request: Request) -> Answer:
        if request.content_type not in PATCH_TYPES:
            raise errors.unsupported_media_type(request.content_type, PATCH_TYPES)
        stored = self._cluster.patch(
            target.resource.plural,
            target.name,
            _decode(request.body),
            namespace=target.namespace,
            subresource=target.subresource,
            kind=request.content_type,
        )
        return self._stored(target.resource, stored)

    def _delete(self, target: Target, request: Request) -> Answer:
        options = _decode(request.body) if request.body else {}
        if not isinstance(options, dict):
            raise errors.bad_request("the body of a deletion must be DeleteOptions")
        preconditions = options.get("preconditions") or {}
        deleted = self._cluster.delete(
            target.resource.plural,
            target.name,
            namespace=target.namespace,
            uid=preconditions.get("uid"),
            version=preconditions.get("resourceVersion"),
        )
        if target.resource is PODS:
            return json_answer({"kind": PODS.kind, "apiVersion": "v1", **deleted})
        details = {
            "name": target.name,
            "kind": target.resource.plural,
            "uid": deleted["metadata"]["uid"],
        }
        success = {"metadata": {}, "status": "Success", "details": details}
        return json_answer({"kind": "Status", "apiVersion": "v1", **success})

    def _delete_collection(self, target: Target, request: Request) -> Answer:
        store = self._cluster.store(target.resource.plural)
        page = list_page(self._cluster, store, target.namespace, ListOptions.parse(request.query))
        for version in page.versions:
            metadata = version.object["metadata"]
            self._cluster.delete(
                target.resource.plural, metadata["name"], namespace=metadata.get("namespace", "")
            )
        return Answer(body=encode_list(target.resource, page))

    def _stored(self, resource: Resource, obj: Object, *, status: int = 200) -> Answer:
        metadata = obj["metadata"]
        store = self._cluster.store(resource.plural)
        version = store.find(metadata.get("namespace", ""), metadata["name"])
        assert version is not None, "nothing runs between storing and answering"
        return _object_answer(resource, version, status=status)


def json_answer(document: Any, *, status: int = 200) -> Answer:
    """A document as the answer."""
    return Answer(body=msgspec.json.encode(document), status=status)


def error_answer(error: StatusError) -> Answer:
    """A refusal as the answer."""
    headers = {}
    if "retryAfterSeconds" in error.details:
        headers["Retry-After"] = str(error.details["retryAfterSeconds"])
    return Answer(body=msgspec.json.encode(error.status()), status=error.code, headers=headers)


def _object_answer(resource: Resource, version: Version, *, status: int = 200) -> Answer:
    return Answer(body=b"".join((resource.type_meta, *version.parts, b"}")), status=status)


def _include(request: Request) -> str:
    return request.query.get("includeObject", "Metadata")


def _decode(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError) as exc:
        raise errors.bad_request(f"the body of the request is not JSON: {exc}") from exc


def _decode_object(resource: Resource, request: Request) -> Object:
    if request.content_type not in {"", JSON}:
        raise errors.unsupported_media_type(request.content_type, (JSON,))
    obj = _decode(request.body)
    if not isinstance(obj, dict) or not isinstance(obj.get("metadata"), dict):
        raise errors.bad_request(f"the object provided is not a {resource.kind} with metadata")
    if obj.get("kind", resource.kind) != resource.kind:
        raise errors.bad_request(f"the object provided is a {obj['kind']}, not a {resource.kind}")
    return obj
