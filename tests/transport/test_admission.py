"""Who is let in, and where he goes on."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from osmo_transport.admission import Place, admit, next_epoch
from osmo_transport.delivery import ProducerState
from osmo_transport.errors import FencedError

HELD = Place(9, 5, "one")
NEW = Place(10, 0, "one")

STATES = st.builds(
    ProducerState, st.sampled_from(["", "q", "before"]), st.integers(0, 5), st.integers(0, 5)
)
QUESTIONS = st.tuples(st.sampled_from(["one", "two", "three"]), STATES)


@pytest.mark.parametrize(
    ("listener", "known", "place"),
    [
        ("one", ("q", 9, 5), HELD),
        ("one", ("q", 9, 2), HELD),
        ("one", ("q", 9, 6), NEW),
        ("one", ("before", 9, 5), NEW),
        ("one", ("", 9, 5), NEW),
        ("one", ("q", 12, 0), Place(13, 0, "one")),
        ("one", ("", 0, 0), HELD),
        ("one", ("before", 4, 7), HELD),
        ("two", ("", 0, 0), Place(10, 0, "two")),
        ("two", ("q", 9, 6), Place(10, 0, "two")),
    ],
)
def test_the_rule(listener: str, known: tuple[str, int, int], place: Place) -> None:
    """Who agrees with the store goes on, who knows less than it was given is told again, everybody
    else begins anew."""
    assert admit(HELD, "q", listener, ProducerState(*known), 0.0) == place


def test_an_older_process_is_fenced() -> None:
    """It knows an epoch, and another process holds a newer one."""
    with pytest.raises(FencedError):
        admit(HELD, "q", "two", ProducerState("q", 8, 0), 0.0)


@pytest.mark.parametrize("known", [("", 0, 0), ("before", 7, 3)])
def test_a_stranger_begins_anew(known: tuple[str, int, int]) -> None:
    """Nothing is remembered of it, as after a loss of memory."""
    assert admit(None, "q", "one", ProducerState(*known), 2.0) == Place(2000, 0, "one")


@pytest.mark.parametrize(
    ("stored", "known", "now", "expected"),
    [(0, 0, 7.0, 7000), (9000, 0, 7.0, 9001), (0, 9500, 7.0, 9501), (9000, 9500, 7.0, 9501)],
)
def test_epochs_rise(stored: int, known: int, now: float, expected: int) -> None:
    """A new epoch is higher than the stored one, the known one and the time."""
    assert next_epoch(stored, known, now) == expected


@given(st.lists(QUESTIONS, max_size=20))
def test_an_epoch_belongs_to_one_process(questions: list[tuple[str, ProducerState]]) -> None:
    """Whatever is asked in whatever order: epochs only rise, and none has two holders."""
    place: Place | None = None
    holders: dict[int, str] = {}
    for listener, known in questions:
        before = place.epoch if place else 0
        if place is not None and known.epoch == place.epoch and listener != place.listener:
            continue  # a process knows an epoch only from having been told it
        try:
            place = admit(place, "q", listener, known, 0.0)
        except FencedError:
            continue
        assert place.epoch >= before
        assert holders.setdefault(place.epoch, place.listener) == place.listener == listener
