"""Reports that fit: what is too long in a body is cut, and a mark says that something is missing.

What stands in a cluster has no limits of ours: a pod's message may have a megabyte, a node
thousands of labels. A report of it has, for a message that is too large is refused as a whole.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from osmo_reports.bodies import Condition, NodeInventory, NodeInventoryPart, Taint, encode_body

MAX_REPORT = 128 * 1024
"""Bytes of a body that is cut where it would be larger: an eighth of what `Limits.message_bytes`
lets a message have, so that it fits where an operator wants them smaller, and ten times what a
kubelet passes on of the last words of a pod's containers."""

MAX_INVENTORY = 768 * 1024
"""Bytes of an inventory that is told as one, which is the only form that listeners' older peers
know; a larger one is told in parts of up to `MAX_REPORT`. Three quarters of what
`Limits.message_bytes` lets a message have: 12 000 nodes with names of 60 characters."""

MORE = "…"
"""What every mark begins with, and the key under which a mapping says how much is missing."""

_PART_FRAME = 64
"""Bytes of a part of an inventory besides its names, at most."""

_MARK = 64
"""Bytes that a mark takes at most."""

_NAMES = frozenset({"workflow_uuid", "task_uuid", "node"})
"""What makes the key of a message: too long, it is refused with the message."""

T = TypeVar("T")

_encode = msgspec.msgpack.Encoder().encode


def shortened(text: str, limit: int) -> str:
    """At most `limit` bytes of a text in UTF-8 (64 or more). What is left out is of its middle: a
    mark there tells how many characters. Both ends stay, for the end of a text often says why."""
    if len(text) * 4 <= limit:
        return text
    data = text.encode(errors="surrogatepass")
    if len(data) <= limit:
        return text
    room = max(limit - _MARK, 0)
    end = len(data) - room // 4
    head = data[: room - room // 4].decode(errors="ignore")
    tail = data[end:].decode(errors="ignore")
    return f"{head}[{MORE} {len(text) - len(head) - len(tail)} characters left out {MORE}]{tail}"


class Encoded(NamedTuple):
    """An encoded body."""

    payload: bytes
    cut: bool
    """Whether something is missing."""


def encode_report(body: msgspec.Struct, most: int = MAX_REPORT) -> Encoded:
    """The payload of a body, at most `most` bytes (some hundred at least) whatever the cluster
    holds. Of lists and mappings the first entries stay. Never cut are the names that make the key,
    and an inventory: what it left out would count as gone."""
    payload = encode_body(body)
    limit = most
    cut = False
    while len(payload) > most and limit > _MARK and not isinstance(body, NodeInventory):
        limit //= 2
        payload = encode_body(_fitted(body, limit))
        cut = True
    return Encoded(payload, cut)


def _fitted(body: msgspec.Struct, limit: int) -> msgspec.Struct:
    """The body with about `limit` bytes in each of its fields at most."""
    changes = {
        name: _fitted_field(getattr(body, name), limit)
        for name in body.__struct_fields__
        if name not in _NAMES
    }
    return msgspec.structs.replace(body, **changes)


def _fitted_field(value: Any, limit: int) -> Any:
    # A long text in one entry is not to push out the others.
    within = limit // 8
    if isinstance(value, tuple):
        kept = _first([_fitted_entry(entry, within) for entry in value], limit)
        more = len(value) - len(kept)
        return (*kept, _mark(value[0], more)) if more else tuple(kept)
    if isinstance(value, dict):
        entries = [tuple(_fitted_entry(part, within) for part in entry) for entry in value.items()]
        kept = _first(entries, limit)
        more = len(value) - len(kept)
        return dict([*kept, (MORE, f"{more} more")] if more else kept)
    return _fitted_entry(value, limit)


def _fitted_entry(value: Any, limit: int) -> Any:
    """A text, or a struct of texts."""
    if isinstance(value, msgspec.Struct):
        return _fitted(value, limit)
    return shortened(value, max(limit, _MARK)) if isinstance(value, str) else value


def _first(entries: Sequence[T], limit: int) -> list[T]:
    """The first entries that have `limit` bytes together."""
    kept: list[T] = []
    for entry in entries:
        limit -= len(_encode(entry))
        if limit < 0:
            break
        kept.append(entry)
    return kept


def _mark(entry: object, count: int) -> Condition | Taint | str:
    """What stands for `count` entries like this one."""
    text = f"{MORE} {count} more"
    match entry:
        case Condition():
            return Condition(text, status=False)
        case Taint():
            return Taint(text)
        case _:
            return text


def inventory_parts(nodes: Sequence[str]) -> list[NodeInventoryPart]:
    """An inventory of these nodes in parts, each of at most `MAX_REPORT` bytes when it is
    encoded."""
    parts: list[list[str]] = [[]]
    room = MAX_REPORT - _PART_FRAME
    for node in nodes:
        size = len(_encode(node))
        if size > room and parts[-1]:
            parts.append([])
            room = MAX_REPORT - _PART_FRAME
        parts[-1].append(node)
        room -= size
    return [NodeInventoryPart(tuple(part), number, len(parts)) for number, part in enumerate(parts)]
