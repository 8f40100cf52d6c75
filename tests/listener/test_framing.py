"""Events are the same whatever pieces they arrive in."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osmo_listener.kubernetes.framing import Framer, LengthFramer, LineFramer
from tests.listener.protobuf import framed

Frames = list[bytes]


def pieces(stream: bytes, cuts: list[int]) -> Iterator[bytes]:
    """The stream, cut at these places."""
    places = sorted({cut % (len(stream) + 1) for cut in cuts} | {0, len(stream)})
    for begin, end in pairwise(places):
        yield stream[begin:end]


CUTS = st.lists(st.integers(0, 10_000), max_size=20)


@given(st.lists(st.binary(max_size=20).filter(lambda line: b"\n" not in line)), CUTS)
def test_lines(lines: Frames, cuts: list[int]) -> None:
    """Each line that is not empty is an event."""
    stream = b"".join(line + b"\n" for line in lines)
    framer = LineFramer()
    found = [frame for piece in pieces(stream, cuts) for frame in framer.feed(piece)]
    assert found == [line for line in lines if line]
    assert framer.size == 0


@given(st.lists(st.one_of(st.binary(max_size=20), st.just(bytes(300)))), CUTS)
def test_lengths(contents: Frames, cuts: list[int]) -> None:
    """Each length is followed by an event, which may be empty."""
    framer = LengthFramer()
    stream = b"".join(map(framed, contents))
    found = [frame for piece in pieces(stream, cuts) for frame in framer.feed(piece)]
    assert found == contents
    assert framer.size == 0


@given(st.lists(st.one_of(st.binary(max_size=20), st.just(bytes(300))), min_size=1), CUTS)
def test_what_completes_an_event(contents: Frames, cuts: list[int]) -> None:
    """Pieces that are kept until together they may complete an event give each one in time."""
    for framer, stream in (
        (LengthFramer(), b"".join(map(framed, contents))),
        (LineFramer(), b"".join(each.hex().encode() + b"\n" for each in contents)),
    ):
        whole = type(framer)()
        kept: Frames = []
        found = expected = 0
        for piece in pieces(stream, cuts):
            kept.append(piece)
            expected += len(whole.feed(piece))
            if framer.completes(kept):
                found += len(framer.feed(b"".join(kept)))
                kept.clear()
            assert found == expected


@pytest.mark.parametrize(
    ("framer", "whole"), [(LineFramer(), b"whole\n"), (LengthFramer(), framed(b"w"))]
)
def test_what_does_not_complete_one(framer: Framer, whole: bytes) -> None:
    """The beginning of an event needs nobody's attention."""
    assert not framer.completes([])
    assert not framer.completes([whole[:-1]])
    assert framer.completes([whole[:-1], whole[-1:]])
    framer.feed(whole + whole[:-1])
    assert not framer.completes([])
    assert framer.completes([whole[-1:]])


@pytest.mark.parametrize(
    ("framer", "stream"), [(LineFramer(), b"whole\npart"), (LengthFramer(), framed(b"w") + b"part")]
)
def test_what_is_held(framer: Framer, stream: bytes) -> None:
    """Of an event that is not complete, the size is known."""
    assert len(framer.feed(stream)) == 1
    assert framer.size == 4
    framer.feed(b"")
    assert framer.size == 4


def test_a_length_that_never_comes_true() -> None:
    """What is held grows with what arrives, not with what was promised."""
    framer = LengthFramer()
    assert not framer.feed(b"\xff\xff\xff\xff")
    assert not framer.feed(bytes(10))
    assert framer.size == 14
