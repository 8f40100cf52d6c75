"""What has arrived and is not appended yet: ordered, bounded and fair."""

from collections import defaultdict
from itertools import chain, count
from typing import cast

import hypothesis.strategies as st
import pytest
from hypothesis import given

from osmo_operator.backlog import Backlog
from osmo_transport import NEW, Incoming, Producer
from osmo_transport._peer import Peer

NOBODY = cast("Peer", None)
"""Whose the batches are: nothing is answered here."""

backends = st.sampled_from(["east", "west", "north", "south"])
batches = st.tuples(backends, st.integers(1, 5), st.integers(0, 50), st.booleans())
"""Backend, messages, bytes, and whether it is over its quota."""
arrivals = st.lists(batches, max_size=8)
bounds = st.tuples(st.integers(1, 12), st.integers(1, 120))
"""Messages and bytes of a group."""
moves = st.lists(st.one_of(arrivals, bounds), max_size=40)

_numbers = count()


def batch(backend: str, messages: int, size: int, slowed: bool = False) -> Incoming:
    """A batch that has arrived, with a sequence number of its own."""
    kinds, encoded = ("state",) * messages, (b"message",) * messages
    producer = Producer(backend, "s")
    return Incoming(producer, NEW, next(_numbers), kinds, encoded, NOBODY, size, slowed)


@given(moves)
def test_is_ordered_bounded_and_fair(steps: list[object]) -> None:
    """Whatever arrives between which groups."""
    backlog = Backlog()
    waiting: dict[str, list[Incoming]] = defaultdict(list)
    before: dict[str, set[str]] = {}
    """Of each backend, who waited when it had its last turn and has had none since."""
    for step in [*steps, *[(12, 120)] * 400]:
        if isinstance(step, list):
            arrived = [batch(*each) for each in step]
            backlog.add(arrived)
            for incoming in arrived:
                waiting[incoming.producer.backend].append(incoming)
        elif isinstance(step, tuple):
            messages, size = step
            group = backlog.take(messages, size)
            assert bool(group) is any(waiting.values())
            fits = sum(len(b.encoded) for b in group) <= messages and (
                sum(b.size for b in group) <= size
            )
            assert fits or len(group) == 1
            slowed = [each.producer.backend for each in group if each.slowed]
            assert len(slowed) == len(set(slowed)), "whoever is slowed has one turn in a group"
            for incoming in group:
                backend = incoming.producer.backend
                assert waiting[backend].pop(0) is incoming, "out of order"
                assert not before.get(backend), "another one has waited for longer"
                for others in before.values():
                    others.discard(backend)
                before[backend] = {name for name, line in waiting.items() if line} - {backend}
        assert backlog.size == sum(b.size for b in chain(*waiting.values()))
        assert bool(backlog) is any(waiting.values())
    assert not backlog


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([], []),
        ([3], [[3]]),
        ([4, 4, 4], [[4, 4], [4]]),
        ([20, 1], [[20], [1]]),
        ([1, 20], [[1], [20]]),
        ([10, 10], [[10], [10]]),
    ],
)
def test_groups_keep_order_and_bound(sizes: list[int], groups: list[list[int]]) -> None:
    """Groups hold up to ten messages; a larger batch is one by itself."""
    backlog = Backlog()
    backlog.add(batch("b", size, 1) for size in sizes)
    got = []
    while group := backlog.take(10, 1_000):
        got.append([len(incoming.encoded) for incoming in group])
    assert got == groups


def test_groups_are_bounded_in_bytes() -> None:
    """As in messages."""
    backlog = Backlog()
    backlog.add(batch("b", 1, size) for size in (4, 4, 4, 20, 1, 9))
    got = []
    while group := backlog.take(1_000, 10):
        got.append([incoming.size for incoming in group])
    assert got == [[4, 4], [4], [20], [1, 9]]


def test_backends_take_turns() -> None:
    """A batch each, in the order in which they came first; one that comes later is next in its
    turn."""
    backlog = Backlog()
    backlog.add(batch(name, 1, 1) for name in ("a", "a", "a", "b", "b", "c"))
    first = [incoming.producer.backend for incoming in backlog.take(4, 100)]
    backlog.add([batch("d", 1, 1)])
    rest = [incoming.producer.backend for incoming in backlog.take(100, 100)]
    assert (first, rest) == (["a", "b", "c", "a"], ["b", "a", "d"])
