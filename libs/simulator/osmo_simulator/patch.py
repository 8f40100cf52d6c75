"""JSON merge patch and strategic merge patch.

Both return a new object that shares what the patch does not touch with the old one, and change
neither argument.
"""

from typing import Any

from osmo_simulator.errors import bad_request

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
PATCH_TYPES = (MERGE, STRATEGIC)

_MERGE_KEYS = {
    ("metadata", "ownerReferences"): "uid",
    ("spec", "containers"): "name",
    ("spec", "initContainers"): "name",
    ("spec", "ephemeralContainers"): "name",
    ("spec", "imagePullSecrets"): "name",
    ("spec", "volumes"): "name",
    ("spec", "hostAliases"): "ip",
    ("spec", "containers", "env"): "name",
    ("spec", "containers", "ports"): "containerPort",
    ("spec", "containers", "volumeMounts"): "mountPath",
    ("spec", "initContainers", "env"): "name",
    ("spec", "initContainers", "volumeMounts"): "mountPath",
    ("status", "addresses"): "type",
    ("status", "conditions"): "type",
    ("status", "hostIPs"): "ip",
    ("status", "podIPs"): "ip",
}
"""Lists whose entries are merged by a key; any other list is replaced as a whole."""

_PRIMITIVE_LISTS = {("metadata", "finalizers"), ("spec", "podCIDRs")}
"""Lists of plain values that a patch adds to."""

_ORDER = "$setElementOrder"
_DELETE_FROM = "$deleteFromPrimitiveList"


def apply_patch(kind: str, target: Any, patch: Any) -> Any:
    """`target` after the patch.

    Args:
        kind: one of `PATCH_TYPES`.
        target: the decoded object.
        patch: the decoded patch.

    Raises:
        StatusError: the patch is not an object, or its directives make no sense.
    """
    if not isinstance(patch, dict):
        raise bad_request("a patch must be a JSON object")
    return merge_patch(target, patch) if kind == MERGE else strategic_merge(target, patch)


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386: objects are merged, null removes, anything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def strategic_merge(target: Any, patch: Any, path: tuple[str, ...] = ()) -> Any:
    """Like a merge patch, but lists with a merge key are merged entry by entry.

    `$patch: replace` and `$patch: delete`, `$setElementOrder/…` and `$deleteFromPrimitiveList/…`
    are obeyed; `$retainKeys` is not.
    """
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    if directive not in {None, "merge"}:
        raise bad_request(f"unknown patch directive {directive!r}")
    merged = dict(target) if isinstance(target, dict) else {}
    directives = []
    for key, value in patch.items():
        if key.startswith("$"):
            directives.append(key)
        elif value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = strategic_merge(merged.get(key), value, (*path, key))
        elif isinstance(value, list):
            merged[key] = _merge_list(merged.get(key) or [], value, (*path, key))
        else:
            merged[key] = value
    for key in directives:
        directive, _, name = key.partition("/")
        if directive == _DELETE_FROM:
            merged[name] = [item for item in merged.get(name) or [] if item not in patch[key]]
        elif directive == _ORDER and name in merged:
            merged[name] = _reorder(merged[name], patch[key], _MERGE_KEYS.get((*path, name)))
    return merged


def _merge_list(target: list[Any], patch: list[Any], path: tuple[str, ...]) -> list[Any]:
    if path in _PRIMITIVE_LISTS:
        return target + [item for item in patch if item not in target]
    merge_key = _MERGE_KEYS.get(path)
    if merge_key is None:
        return patch
    merged: dict[Any, Any] = {}
    if {"$patch": "replace"} not in patch:
        merged = {item.get(merge_key): item for item in target}
    for item in patch:
        if item == {"$patch": "replace"}:
            continue
        if not isinstance(item, dict) or not isinstance(item.get(merge_key), str | int):
            raise bad_request(f"{'.'.join(path)}: each entry must have the merge key {merge_key}")
        key = item[merge_key]
        if item.get("$patch") == "delete":
            merged.pop(key, None)
        else:
            merged[key] = strategic_merge(merged.get(key), item, path)
    return list(merged.values())


def _reorder(items: list[Any], order: list[Any], merge_key: str | None) -> list[Any]:
    """`items` with those that `order` names in that order, the others at the end."""
    if merge_key is None:
        ranks = {item: rank for rank, item in enumerate(order)}
        return sorted(items, key=lambda item: ranks.get(item, len(ranks)))
    ranks = {item.get(merge_key): rank for rank, item in enumerate(order)}
    return sorted(items, key=lambda item: ranks.get(item.get(merge_key), len(ranks)))
