"""What is too long in a report is cut, with a mark where something is missing."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osmo_reports.bodies import (
    MAX_PARTS,
    Condition,
    NodeInventory,
    Taint,
    UpdateNode,
    UpdatePod,
    decode_body,
    encode_body,
)
from osmo_reports.fitting import MAX_REPORT, MORE, encode_report, inventory_parts, shortened
from osmo_transport import Limits

SHAPES = st.sampled_from([(0, 0), (1, 0), (2, 10), (1, 200_000), (4, 30_000), (2_000, 20)])
"""How many entries there are, and how long their texts."""
PARTS = st.text(min_size=1, max_size=2)
"""What a text is made of, again and again."""


def pod(part: str, *shapes: tuple[int, int]) -> UpdatePod:
    """A report of a pod whose conditions have this shape, and its texts the other ones."""
    (count, length), *lengths = shapes
    texts = [part * length for _, length in lengths]
    condition = Condition(part * length, True, part * length, part * length)
    return UpdatePod(
        *("w", "t", 3, texts[0]),
        container=texts[1],
        message=texts[2],
        pod=texts[1],
        conditions=(condition,) * count,
    )


def node(part: str, *shapes: tuple[int, int]) -> UpdateNode:
    """A report of a node whose lists and mappings have these shapes."""
    (taints, labels, conditions) = shapes[:3]
    return UpdateNode(
        node="n",
        hostname=part * taints[1],
        conditions=(part * conditions[1],) * conditions[0],
        labels={f"{key}{part}": part * labels[1] for key in range(labels[0])},
        allocatable={part * labels[1]: part},
        taints=(Taint(part * taints[1], part),) * taints[0],
    )


@given(st.sampled_from([pod, node]), PARTS, st.tuples(SHAPES, SHAPES, SHAPES, SHAPES))
def test_every_report_fits(
    make: Callable[..., UpdatePod | UpdateNode], part: str, shapes: tuple[tuple[int, int], ...]
) -> None:
    """Whatever a body holds, its payload can be read, says the same of what it is about, and is cut
    only if it has to be."""
    body = make(part, *shapes)
    payload, cut = encode_report(body)
    assert len(payload) <= MAX_REPORT < Limits().message_bytes
    whole = encode_body(body)
    assert cut == (len(whole) > MAX_REPORT)
    assert cut or payload == whole
    read = decode_body("update_pod" if make is pod else "update_node", payload)
    assert read.node == body.node
    assert len(read.conditions) <= len(body.conditions)
    assert bool(read.conditions) == bool(body.conditions)


@given(st.text(), st.text(max_size=3), st.integers(0, 5_000), st.integers(64, 300))
def test_texts(start: str, part: str, times: int, limit: int) -> None:
    """A text is cut at the limit and between characters: what stays are its two ends, and the mark
    counts the rest."""
    text = start + part * times
    short = shortened(text, limit)
    if len(text.encode()) <= limit:
        assert short == text
        return
    assert len(short.encode()) <= limit
    head, _, rest = short.rpartition(f"[{MORE} ")
    mark, _, tail = rest.partition(f" {MORE}]")
    assert (text.startswith(head), text.endswith(tail)) == (True, True)
    assert mark == f"{len(text) - len(head) - len(tail)} characters left out"


def test_a_text_of_surrogates() -> None:
    """What is no Unicode does no harm here: it is left out with the rest."""
    assert shortened("a" * 50 + "\udc80" * 500, 100).startswith("a" * 27 + "[…")


def test_the_end_of_a_message_stays() -> None:
    """What a pod says of itself does not hide why its container failed."""
    message = "x" * 1_100_000 + "\nFailure reason:\n- Exit code 1 due to Task user failure. "
    payload, cut = encode_report(UpdatePod("w", "t", 0, "FAILED", message=message))
    read: UpdatePod = decode_body("update_pod", payload)
    assert cut
    assert read.message.startswith("x" * 1000)
    assert read.message.endswith("Task user failure. ")
    assert "characters left out" in read.message


def test_marks_of_lists() -> None:
    """The first entries of a list or mapping stay, and the last says how many there are more."""
    labels = {f"label-{number}": "v" * 50 for number in range(10_000)}
    made = UpdateNode(
        "n",
        "h",
        conditions=tuple(f"condition-{number}" for number in range(20_000)),
        labels=labels,
        taints=tuple(Taint(f"taint-{number}", "v" * 50) for number in range(10_000)),
    )
    read: UpdateNode = decode_body("update_node", encode_report(made).payload)
    kept = len(read.labels) - 1
    assert read.labels[MORE] == f"{10_000 - kept} more"
    assert list(read.labels)[:kept] == list(labels)[:kept]
    assert read.conditions[0] == "condition-0"
    assert read.conditions[-1] == f"{MORE} {20_000 - len(read.conditions) + 1} more"
    assert read.taints[-1] == Taint(f"{MORE} {10_000 - len(read.taints) + 1} more")
    body = UpdatePod(
        "w", "t", 0, "RUNNING", conditions=(Condition("C", True, "", "m" * 9000),) * 99
    )
    shown: UpdatePod = decode_body("update_pod", encode_report(body).payload)
    assert shown.conditions[-1] == Condition(f"{MORE} {99 - len(shown.conditions) + 1} more", False)
    assert shown.conditions[0].status


def test_one_long_entry_does_not_push_out_the_others() -> None:
    """Of a list with one text without end every entry stays."""
    conditions = (
        Condition("A", True, message="m" * 1_000_000),
        Condition("B", True),
        Condition("C", False),
    )
    body = UpdatePod("w", "t", 0, "RUNNING", conditions=conditions)
    read: UpdatePod = decode_body("update_pod", encode_report(body).payload)
    assert [each.type for each in read.conditions] == ["A", "B", "C"]


@pytest.mark.parametrize("names", [("w" * 2 * MAX_REPORT, "t"), ("w", "t" * 2 * MAX_REPORT)])
def test_names_are_never_cut(names: tuple[str, str]) -> None:
    """A name that is too long is not made another's: its message is refused."""
    payload, _ = encode_report(UpdatePod(*names, retry_id=0, status="RUNNING"))
    assert len(payload) > MAX_REPORT


def test_inventories_are_never_cut() -> None:
    """What an inventory left out would count as gone."""
    body = NodeInventory(tuple(f"node-{number:060}" for number in range(4000)))
    assert encode_report(body) == (encode_body(body), False)


def test_an_inventory_in_parts() -> None:
    """Of 100 000 nodes whose names are as long as they may be: each name is in one part, each part
    fits, and there are not many."""
    names = [f"node-{number:0248}" for number in range(100_000)]
    parts = inventory_parts(names)
    assert [name for part in parts for name in part.nodes] == names
    assert [(part.part, part.parts) for part in parts] == [(n, 195) for n in range(195)]
    assert len(parts) < MAX_PARTS / 4
    assert all(len(encode_body(part)) <= MAX_REPORT for part in parts)


@given(st.lists(st.text(max_size=3).map(lambda text: text * 11_000), max_size=12))
def test_parts_are_full_at_the_border(names: list[str]) -> None:
    """Whatever the names: nothing is left out, and a part that is too large has one name alone."""
    parts = inventory_parts(names)
    assert [name for part in parts for name in part.nodes] == names
    for part in parts:
        assert len(encode_body(part)) <= MAX_REPORT or len(part.nodes) == 1
