"""The state of the simulated cluster: objects, versions and their history, without any I/O."""

import random
import uuid
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from osmo_simulator import errors
from osmo_simulator.history import Change, History, Version
from osmo_simulator.patch import STRATEGIC, apply_patch
from osmo_simulator.resources import NAMESPACES, RESOURCES, Object, Resource
from osmo_simulator.selectors import compile_selectors
from osmo_transport.bounds import Bytes, Count, Seed

FIRST_VERSION = 1000
_NAME_SUFFIX = "bcdfghjklmnpqrstvwxz2456789"
_SNAPSHOTS = 8
"""Pinned lists that are kept ready; others are rebuilt from the history when asked for."""


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Limits and beginnings of the cluster."""

    namespaces: tuple[str, ...] = ("default", "kube-system", "osmo")
    """The namespaces that exist from the start."""
    seed: Seed = 0
    """Where uids and generated names come from: the same seed gives the same ones."""
    history_changes: Count = 50_000
    """Changes per resource that a watch can resume over; with usual pod statuses 9 kB each."""
    history_bytes: Bytes = 256 * 1024 * 1024
    """Encoded bytes per resource that only the history keeps, so that large objects that change as
    a whole do not fill the memory."""


class Cluster:
    """Pods, nodes, events and namespaces, with the API server's rules for changing them.

    Every verb is synchronous and takes effect at once. Objects that go in are kept and objects
    that come out are shared with all readers, so neither may be changed afterwards. Refusals are
    raised as `StatusError`. For nodes and namespaces the argument `namespace` is left empty.

    Args:
        config: limits and beginnings.
        clock: the current time in UTC, for `creationTimestamp`.
    """

    def __init__(
        self,
        config: ClusterConfig | None = None,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        config = config or ClusterConfig()
        self._clock = clock
        self._random = random.Random(config.seed)  # noqa: S311 -- repeatable, not secret
        self._version = FIRST_VERSION
        self._stores = {
            plural: Store(
                resource, History(FIRST_VERSION, config.history_changes, config.history_bytes)
            )
            for plural, resource in RESOURCES.items()
        }
        for name in config.namespaces:
            namespace = {"metadata": {"name": name}, "status": {"phase": "Active"}}
            self.create(NAMESPACES.plural, namespace)

    @property
    def version(self) -> int:
        """The resource version of the latest change."""
        return self._version

    def now(self) -> datetime:
        """The cluster's current time, in UTC."""
        return self._clock()

    def store(self, plural: str) -> "Store":
        """The objects and the history of one resource, for reading.

        Raises:
            StatusError: the resource is not served.
        """
        store = self._stores.get(plural)
        if store is None:
            raise errors.no_such_path()
        return store

    def create(self, plural: str, obj: Object, *, namespace: str = "") -> Object:
        """Add an object and return it as stored.

        `namespace` is taken from the object when it is left empty; a name is generated from
        `generateName`.
        """
        store = self.store(plural)
        metadata = obj.get("metadata") or {}
        namespace = self._namespace_of(store.resource, metadata, namespace)
        name = metadata.get("name") or self._generated_name(store.resource, metadata)
        if metadata.get("resourceVersion"):
            raise errors.bad_request("resourceVersion should not be set on objects to be created")
        if store.find(namespace, name):
            raise errors.already_exists(plural, name)
        identity = {
            "name": name,
            **({"namespace": namespace} if namespace else {}),
            "uid": str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
            "creationTimestamp": timestamp(self._clock()),
        }
        created = {"metadata": {**metadata, **identity}, **_content(obj)}
        return self._put(store, _key(namespace, name), None, created)

    def get(self, plural: str, name: str, *, namespace: str = "") -> Object:
        """The named object."""
        return self._existing(plural, namespace, name).object

    def list(
        self, plural: str, *, namespace: str = "", labels: str = "", fields: str = ""
    ) -> list[Object]:
        """The selected objects, ordered by namespace and name."""
        store = self.store(plural)
        selected = compile_selectors(
            store.resource, namespace=namespace, labels=labels, fields=fields
        )
        found = (version.object for version in store.current())
        return [obj for obj in found if selected is None or selected(obj)]

    def update(
        self,
        plural: str,
        obj: Object,
        *,
        name: str = "",
        namespace: str = "",
        subresource: str = "",
    ) -> Object:
        """Replace an object and return it as stored.

        `name` and `namespace` are taken from the object when they are left empty. Refused when the
        object carries a resource version other than the stored one. The status changes through the
        subresource `status` alone, and with it nothing but the labels and annotations.
        """
        metadata = obj.get("metadata") or {}
        namespace = namespace or metadata.get("namespace", "")
        before = self._existing(plural, namespace, name or metadata.get("name", ""))
        return self._replace(plural, before, obj, subresource)

    def patch(
        self,
        plural: str,
        name: str,
        patch: Any,
        *,
        namespace: str = "",
        subresource: str = "",
        kind: str = STRATEGIC,
    ) -> Object:
        """Patch an object and return it as stored; `kind` is one of `patch.PATCH_TYPES`."""
        before = self._existing(plural, namespace, name)
        return self._replace(plural, before, apply_patch(kind, before.object, patch), subresource)

    def patch_status(self, plural: str, name: str, status: Any, *, namespace: str = "") -> Object:
        """Strategic merge patch of an object's status, given without the key `status`."""
        patch = {"status": status}
        return self.patch(plural, name, patch, namespace=namespace, subresource="status")

    def delete(
        self,
        plural: str,
        name: str,
        *,
        namespace: str = "",
        uid: str | None = None,
        version: str | None = None,
    ) -> Object:
        """Remove an object at once and return its last content.

        As on the real server, watches see a pod with a `deletionTimestamp` before it is gone; there
        is no grace period in between. With a namespace goes all that it holds. Refused when the
        object's uid or resource version is not the one given.
        """
        before = self._existing(plural, namespace, name)
        found = before.object["metadata"]
        for what, wanted, held in (
            ("UID", uid, found["uid"]),
            ("ResourceVersion", version, found["resourceVersion"]),
        ):
            if wanted is not None and wanted != held:
                why = (
                    f"the {what} in the precondition ({wanted}) does not match the {what} in record"
                )
                raise errors.conflict(plural, name, f"{why} ({held})")
        if plural == NAMESPACES.plural:
            self._empty_namespace(name)
        store, key = self._stores[plural], _key(namespace, name)
        if store.resource.graceful:
            ending = {
                "deletionTimestamp": timestamp(self._clock()),
                "deletionGracePeriodSeconds": 0,
            }
            self._put(store, key, before, {**before.object, "metadata": {**found, **ending}})
            before = self._existing(plural, namespace, name)
        self._version += 1
        change = Change(self._version, key, before, None)
        store.apply(change)
        return change.gone().object

    def compact(self) -> None:
        """Forget every change so far: watches and continued lists from before it are too old."""
        for store in self._stores.values():
            store.history.compact(self._version)

    def _existing(self, plural: str, namespace: str, name: str) -> Version:
        version = self.store(plural).find(namespace, name)
        if version is None:
            raise errors.not_found(plural, name)
        return version

    def _namespace_of(self, resource: Resource, metadata: Object, asked: str) -> str:
        if not resource.namespaced:
            return ""
        named = metadata.get("namespace") or asked
        if asked and named != asked:
            raise errors.bad_request(
                "the namespace of the provided object does not match the namespace sent on the"
                " request"
            )
        self._existing(NAMESPACES.plural, "", named)
        return str(named)

    def _generated_name(self, resource: Resource, metadata: Object) -> str:
        prefix: str = metadata.get("generateName", "")
        if not prefix:
            why = "Required value: name or generateName is required"
            raise errors.invalid(resource.kind, "", "metadata.name", why)
        return prefix + "".join(self._random.choices(_NAME_SUFFIX, k=5))

    def _replace(self, plural: str, before: Version, obj: Object, subresource: str) -> Object:
        store = self.store(plural)
        old = before.object["metadata"]
        metadata = obj.get("metadata") or {}
        name = old["name"]
        if metadata.get("name", name) != name:
            raise errors.bad_request(
                f"the name of the object ({metadata['name']}) does not match the name on the URL"
                f" ({name})"
            )
        if metadata.get("uid", old["uid"]) != old["uid"]:
            why = f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object"
            raise errors.conflict(plural, name, f"{why} meta: {old['uid']}")
        asked = metadata.get("resourceVersion")
        if asked and asked != old["resourceVersion"]:
            raise errors.conflict(plural, name, errors.MODIFIED)
        if subresource == "status":
            obj = {**before.object, "status": obj.get("status") or {}}
        elif store.resource.has_status:
            obj = {**obj, "status": before.object.get("status") or {}}
        fixed = {
            field: old[field]
            for field in ("name", "namespace", "uid", "creationTimestamp", "resourceVersion")
            if field in old
        }
        metadata = {**metadata, **fixed}
        replaced = {"metadata": metadata, **_content(obj)}
        if replaced == before.object:
            return before.object
        return self._put(store, _key(old.get("namespace", ""), name), before, replaced)

    def _put(self, store: "Store", key: str, before: Version | None, obj: Object) -> Object:
        labels = obj["metadata"].get("labels") or {}
        if not isinstance(labels, dict) or not all(isinstance(v, str) for v in labels.values()):
            raise errors.bad_request("metadata.labels must be an object whose values are strings")
        self._version += 1
        obj["metadata"]["resourceVersion"] = str(self._version)
        after = Version(obj, self._version, before)
        store.apply(Change(self._version, key, before, after))
        return obj

    def _empty_namespace(self, namespace: str) -> None:
        for plural, store in self._stores.items():
            if store.resource.namespaced:
                for obj in self.list(plural, namespace=namespace):
                    self.delete(plural, obj["metadata"]["name"], namespace=namespace)


class Store:
    """The objects of one resource, in order of their keys, now and at earlier versions."""

    def __init__(self, resource: Resource, history: History) -> None:
        self.resource = resource
        self.history = history
        self._versions: dict[str, Version] = {}
        self._keys: list[str] = []
        self._current: list[Version] | None = None
        self._snapshots: OrderedDict[int, list[Version]] = OrderedDict()

    def find(self, namespace: str, name: str) -> Version | None:
        """The current version of an object, if it exists."""
        return self._versions.get(_key(namespace, name))

    def current(self) -> list[Version]:
        """Every object as it is now."""
        if self._current is None:
            versions = self._versions
            self._current = [versions[key] for key in self._keys]
        return self._current

    def at(self, number: int) -> list[Version]:
        """Every object as it was at that resource version.

        Raises:
            StatusError: the history does not reach back that far.
        """
        undone = self.history.after(number)
        if not undone:
            return self.current()
        snapshot = self._snapshots.get(number)
        if snapshot is None:
            versions = dict(self._versions)
            for change in reversed(undone):
                if change.before is None:
                    versions.pop(change.key, None)
                else:
                    versions[change.key] = change.before
            snapshot = [versions[key] for key in sorted(versions)]
            self._snapshots[number] = snapshot
            if len(self._snapshots) > _SNAPSHOTS:
                self._snapshots.popitem(last=False)
        return snapshot

    def apply(self, change: Change) -> None:
        """Take a change over into the objects and the history."""
        self._current = None
        if change.after is None:
            del self._versions[change.key]
            del self._keys[bisect_left(self._keys, change.key)]
        else:
            if change.before is None:
                insort(self._keys, change.key)
            self._versions[change.key] = change.after
        self.history.append(change)


def timestamp(moment: datetime) -> str:
    """A time as Kubernetes writes it, in whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _content(obj: Object) -> Object:
    return {k: v for k, v in obj.items() if k not in {"kind", "apiVersion", "metadata"}}


def key_of(obj: Object) -> str:
    """The key that orders an object among those of its resource."""
    metadata = obj["metadata"]
    return _key(metadata.get("namespace", ""), metadata["name"])


def _key(namespace: str, name: str) -> str:
    return f"{namespace}/{name}"
