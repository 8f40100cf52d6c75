"""Laws that patches obey, whatever the object."""

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osmo_simulator.errors import StatusError
from osmo_simulator.patch import MERGE, STRATEGIC, apply_patch, merge_patch, strategic_merge

SCALARS = st.integers(0, 3) | st.sampled_from(["", "x", "y"]) | st.booleans()
KEYS = st.sampled_from(["a", "b", "c"])
OBJECTS = st.recursive(
    st.dictionaries(KEYS, SCALARS | st.lists(SCALARS, max_size=2), max_size=3),
    lambda inner: st.dictionaries(KEYS, inner | SCALARS, max_size=3),
    max_leaves=8,
)
PATCHES = st.recursive(
    st.dictionaries(KEYS, SCALARS | st.none() | st.lists(SCALARS, max_size=2), max_size=3),
    lambda inner: st.dictionaries(KEYS, inner | SCALARS | st.none(), max_size=3),
    max_leaves=8,
)
CONDITIONS = st.lists(
    st.fixed_dictionaries({"type": st.sampled_from("ABCD"), "status": st.sampled_from("TF")}),
    unique_by=lambda condition: condition["type"],
)


def difference(old: Any, new: Any) -> Any:
    """A merge patch that leads from one object to another."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    removed = dict.fromkeys(old.keys() - new.keys())
    changed = {
        key: difference(old.get(key), value)
        for key, value in new.items()
        if key not in old or old[key] != value or type(old[key]) is not type(value)
    }
    return {**removed, **changed}


@settings(max_examples=200)
@given(old=OBJECTS, new=OBJECTS)
def test_merge_patch_leads_anywhere(old: Any, new: Any) -> None:
    """Every object can be reached from every other by a merge patch."""
    assert merge_patch(old, difference(old, new)) == new


@settings(max_examples=200)
@given(target=OBJECTS, patch=PATCHES)
def test_patches_change_nothing_else(target: Any, patch: Any) -> None:
    """Neither argument is changed, and applying a patch twice is applying it once."""
    before = copy.deepcopy((target, patch))
    for kind in (MERGE, STRATEGIC):
        once = apply_patch(kind, target, patch)
        assert apply_patch(kind, once, patch) == once
        assert (target, patch) == before


@settings(max_examples=200)
@given(target=OBJECTS, patch=PATCHES)
def test_without_merge_keys_both_patches_agree(target: Any, patch: Any) -> None:
    """A strategic merge patch is a merge patch where no list has a merge key."""
    assert strategic_merge(target, patch) == merge_patch(target, patch)


@settings(max_examples=200)
@given(old=CONDITIONS, patch=CONDITIONS)
def test_conditions_merge_by_type(old: list[Any], patch: list[Any]) -> None:
    """The conditions of the patch win, the others stay, in their old order."""
    merged = strategic_merge({"status": {"conditions": old}}, {"status": {"conditions": patch}})
    expected = {c["type"]: c for c in old} | {c["type"]: c for c in patch}
    assert merged["status"]["conditions"] == list(expected.values())


def test_finalizers_are_a_set() -> None:
    """A patch adds finalizers and removes those that it names."""
    target = {"metadata": {"finalizers": ["a", "b"]}}
    added = strategic_merge(target, {"metadata": {"finalizers": ["b", "c"]}})
    assert added == {"metadata": {"finalizers": ["a", "b", "c"]}}
    removal = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"]}}
    assert strategic_merge(added, removal) == {"metadata": {"finalizers": ["a", "c"]}}


def test_replace_and_delete_directives() -> None:
    """`$patch` replaces or empties an object."""
    target = {"spec": {"a": 1, "b": 2}}
    replace = {"spec": {"$patch": "replace", "c": 3}}
    assert strategic_merge(target, replace) == {"spec": {"c": 3}}
    assert strategic_merge(target, {"spec": {"$patch": "delete"}}) == {"spec": {}}


@pytest.mark.parametrize(
    "patch",
    [
        [],
        None,
        "text",
        {"$patch": "odd"},
        {"status": {"conditions": [{"status": "True"}]}},
        {"status": {"conditions": ["Ready"]}},
        {"status": {"conditions": [{"type": []}]}},
    ],
)
def test_malformed_patches(patch: Any) -> None:
    """A patch that makes no sense is refused."""
    with pytest.raises(StatusError) as refused:
        apply_patch(STRATEGIC, {"status": {"conditions": []}}, patch)
    assert refused.value.code == 400
