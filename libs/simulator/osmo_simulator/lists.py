"""Lists, whole or in pages, joined from the bytes that each version was encoded to once."""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import msgspec

from osmo_simulator.cluster import Cluster, Store, key_of
from osmo_simulator.errors import expired, version_too_large
from osmo_simulator.history import Version
from osmo_simulator.options import EXACT, Continue, ListOptions
from osmo_simulator.resources import Resource
from osmo_simulator.selectors import compile_selectors

_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You must start"
    " a new list without the continue parameter."
)


@dataclass(frozen=True, kw_only=True)
class Page:
    """The objects of one answer and the list's metadata."""

    versions: list[Version]
    metadata: dict[str, object]


def list_page(cluster: Cluster, store: Store, namespace: str, options: ListOptions) -> Page:
    """The objects that a list asks for.

    A list in pages shows the state of its first page to the end.

    Raises:
        StatusError: the version is not reached yet, or is forgotten; a selector is wrong.
    """
    selected = compile_selectors(store.resource, labels=options.labels, fields=options.fields)
    number = _number(cluster, store, options)
    versions = store.at(number)
    if namespace:
        # "0" is the character after "/": the keys of the namespace end before it.
        first = bisect_left(versions, f"{namespace}/", key=_key)
        versions = versions[first : bisect_left(versions, f"{namespace}0", lo=first, key=_key)]
    end = 0
    if options.position is not None:
        end = bisect_right(versions, options.position.start, key=_key)
    limit = options.limit or len(versions)
    found: list[Version] = []
    while end < len(versions) and len(found) < limit:
        version = versions[end]
        if selected is None or selected(version.object):
            found.append(version)
        end += 1
    return Page(versions=found, metadata=_metadata(number, versions, end, selected is not None))


def encode_list(resource: Resource, page: Page) -> bytes:
    """The list object with whole objects in it."""
    parts = [
        b'{"kind":"%sList","apiVersion":"v1","metadata":%s,"items":['
        % (resource.kind.encode(), msgspec.json.encode(page.metadata))
    ]
    opening = b"{"
    for version in page.versions:
        parts.append(opening)
        parts += version.parts
        opening = b"},{"
    parts.append(b"}]}" if page.versions else b"]}")
    return b"".join(parts)


def _number(cluster: Cluster, store: Store, options: ListOptions) -> int:
    if options.position is not None:
        if options.position.rv < store.history.compacted:
            raise expired(_TOO_OLD)
        return options.position.rv
    asked = options.version or 0
    if asked > cluster.version:
        raise version_too_large(asked, cluster.version)
    return asked if options.match == EXACT else cluster.version


def _metadata(number: int, versions: list[Version], end: int, filtered: bool) -> dict[str, object]:
    metadata: dict[str, object] = {"resourceVersion": str(number)}
    if end < len(versions):
        last = _key(versions[end - 1])
        metadata["continue"] = Continue(rv=number, start=last).encode()
        if not filtered:
            metadata["remainingItemCount"] = len(versions) - end
    return metadata


def _key(version: Version) -> str:
    return key_of(version.object)
