"""The order of reports of one counter."""

from collections.abc import Callable
from operator import ge, gt, le, lt

import pytest

from osmo_transport import Version
from osmo_worker.store.stamps import Stamp

Comparison = Callable[[Stamp, Stamp], bool]


@pytest.mark.parametrize("compare", [lt, le, gt, ge])
@pytest.mark.parametrize("one", [(1, 5), (2, 3)])
@pytest.mark.parametrize("other", [(1, 5), (2, 3), (2, 4)])
def test_the_numbers_order_those_of_one_counter(
    compare: Comparison, one: tuple[int, int], other: tuple[int, int]
) -> None:
    """The epoch first, then the revision."""
    nodes = "east", "update_node"
    stamps = Stamp(nodes, Version(*one)), Stamp(nodes, Version(*other))
    assert compare(*stamps) is compare(one, other)  # type: ignore[arg-type]  # of numbers likewise


@pytest.mark.parametrize("compare", [lt, le, gt, ge])
@pytest.mark.parametrize("counter", [("west", "update_node"), ("east", "update_pod")])
def test_those_of_two_counters_do_not_compare(
    compare: Comparison, counter: tuple[str, str]
) -> None:
    """Of another backend, or of what another listener numbers."""
    one = Stamp(("east", "update_node"), Version(1, 2))
    with pytest.raises(TypeError, match="compares with"):
        compare(one, Stamp(counter, Version(1, 2)))
