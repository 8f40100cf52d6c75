"""Who is let in, and where he goes on."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from osmo_transport.errors import FencedError, QueueUnavailableError
from osmo_transport.queues.delivery import NEW, Producer, ProducerState
from osmo_transport.session import admission
from osmo_transport.session.admission import (
    MAX_AHEAD,
    NOWHERE,
    PRODUCER_MEMORY,
    STRANGER_MEMORY,
    Border,
    Place,
    Record,
    admit,
    next_epoch,
    raised,
)

HELD = Place(9, 5, "one")
ANEW = Place(10, 0, "one")
NO_BORDER = Border()
NOW = 1_767_355_200.0
"""2026-01-02T12:00:00Z."""
PRESENT = int(NOW * 1000)
"""The epoch of now."""

STATES = st.builds(
    ProducerState, st.sampled_from(["", "q", "before"]), st.integers(0, 5), st.integers(0, 5)
)
QUESTIONS = st.tuples(st.sampled_from(["one", "two", "three"]), STATES)


@pytest.mark.parametrize(
    ("instance", "known", "place"),
    [
        ("one", ("q", 9, 5), HELD),
        ("one", ("q", 9, 2), HELD),
        ("one", ("q", 9, 6), ANEW),
        ("one", ("before", 9, 5), ANEW),
        ("one", ("", 9, 5), ANEW),
        ("one", ("q", 12, 0), Place(13, 0, "one")),
        ("one", ("", 0, 0), HELD),
        ("one", ("before", 4, 7), HELD),
        ("two", ("", 0, 0), Place(10, 0, "two")),
        ("two", ("q", 9, 6), Place(10, 0, "two")),
    ],
)
def test_the_rule(instance: str, known: tuple[str, int, int], place: Place) -> None:
    """Who agrees with the store goes on, who knows less than it was given is told again, everybody
    else begins anew."""
    assert admit(HELD, NO_BORDER, "q", instance, ProducerState(*known), 0.0) == place


def test_an_older_process_is_fenced() -> None:
    """It knows an epoch, and another process holds a newer one."""
    with pytest.raises(FencedError):
        admit(HELD, NO_BORDER, "q", "two", ProducerState("q", 8, 0), 0.0)


@pytest.mark.parametrize("known", [("", 0, 0), ("before", 7, 3)])
def test_a_stranger_begins_anew(known: tuple[str, int, int]) -> None:
    """Nothing is remembered of it, as after a loss of memory."""
    place = admit(None, NO_BORDER, "q", "one", ProducerState(*known), 2.0)
    assert place == Place(2000, 0, "one")


@pytest.mark.parametrize(
    ("stored", "known", "now", "expected"),
    [(0, 0, 7.0, 7000), (9000, 0, 7.0, 9001), (0, 9500, 7.0, 9501), (9000, 9500, 7.0, 9501)],
)
def test_epochs_rise(stored: int, known: int, now: float, expected: int) -> None:
    """A new epoch is higher than the stored one, the known one and the time."""
    assert next_epoch(stored, known, now) == expected


@pytest.mark.parametrize("stored", [0, PRESENT + 5, PRESENT + 2 * MAX_AHEAD])
@pytest.mark.parametrize("ahead", [0, 1, MAX_AHEAD, MAX_AHEAD + 1, 2 * MAX_AHEAD, 2**53])
def test_a_claim_is_believed_as_far_as_a_clock_may_be_ahead(stored: int, ahead: int) -> None:
    """What was not given out here, or by a clock that was wrong, would put every later epoch out of
    reach of those that the clock gives."""
    claimed = PRESENT + ahead
    epoch = next_epoch(stored, claimed, NOW)
    assert epoch > stored
    assert epoch >= PRESENT
    if ahead <= MAX_AHEAD:
        assert epoch > claimed
    else:
        assert epoch <= max(stored, PRESENT + MAX_AHEAD) + 1


@pytest.mark.parametrize(
    ("border", "held", "known", "place"),
    [
        # Nobody of this backend begins below what another one of it was given.
        (Border(20, 0), None, NEW, Place(21, 0, "one")),
        (Border(20, 0), HELD, ProducerState("before", 9, 5), Place(21, 0, "one")),
        # An epoch below the lowest counts no more, whatever the process knows.
        (Border(20, 9), HELD, ProducerState("q", 9, 5), HELD),
        (Border(20, 10), HELD, ProducerState("q", 9, 5), Place(21, 0, "one")),
        (Border(20, 10), HELD, ProducerState("q", 8, 0), Place(21, 0, "one")),
        (Border(20, 10), HELD, NEW, Place(21, 0, "one")),
    ],
)
def test_the_border_of_a_backend(
    border: Border, held: Place | None, known: ProducerState, place: Place
) -> None:
    """What other producers of it were given, and what is remembered elsewhere."""
    assert admit(held, border, "q", "one", known, 0.0) == place


@pytest.mark.parametrize(
    ("border", "epoch", "expected"),
    [
        (Border(), PRESENT - 1, Border()),
        (Border(), PRESENT, Border(PRESENT, PRESENT + 1)),
        (Border(PRESENT + 5, 0), PRESENT + 5, Border(PRESENT + 5, 0)),
        (Border(PRESENT + 5, 0), PRESENT + 6, Border(PRESENT + 6, PRESENT + 7)),
        (Border(PRESENT + 6, PRESENT + 7), PRESENT + 6, Border(PRESENT + 6, PRESENT + 7)),
    ],
)
def test_a_border_is_raised_by_what_the_clock_does_not_see_to(
    border: Border, epoch: int, expected: Border
) -> None:
    """An epoch of the past is below every one that will be given out."""
    assert raised(border, epoch, NOW) == expected


@given(st.lists(QUESTIONS, max_size=20))
def test_an_epoch_belongs_to_one_process(questions: list[tuple[str, ProducerState]]) -> None:
    """Whatever is asked in whatever order: epochs only rise, and none has two holders."""
    place: Place | None = None
    holders: dict[int, str] = {}
    for instance, known in questions:
        before = place.epoch if place else 0
        if place is not None and known.epoch == place.epoch and instance != place.instance:
            continue  # a process knows an epoch only from having been told it
        try:
            place = admit(place, NO_BORDER, "q", instance, known, 0.0)
        except FencedError:
            continue
        assert place.epoch >= before
        assert holders.setdefault(place.epoch, place.instance) == place.instance == instance


# What a process remembers

MINE, OTHER, THIRD = (Producer("backend", source) for source in ("one", "two", "three"))


def welcome(record: Record, producer: Producer = MINE, now: float = NOW) -> ProducerState:
    """Of a process that has just started."""
    return record.admit(producer, "q", f"{producer}", NEW, now)


def test_a_record_goes_on_where_it_stands() -> None:
    """With what was stored, in whatever order it is told so."""
    record = Record()
    state = welcome(record)
    assert state == ProducerState("q", PRESENT, 0)
    for sequence in (3, 2):
        record.stored(MINE, state.epoch, sequence)
    record.stored(MINE, state.epoch - 1, 9)
    record.stored(OTHER, state.epoch, 9)
    assert record.place(MINE) == Place(state.epoch, 3, f"{MINE}")
    assert welcome(record).sequence == 3
    assert record.place(OTHER) == NOWHERE


def test_no_two_producers_of_a_backend_share_an_epoch() -> None:
    """The later one has the higher epoch, though both began in the same millisecond."""
    record = Record()
    one, two = welcome(record, MINE), welcome(record, OTHER)
    assert two.epoch > one.epoch
    assert welcome(record, MINE) == one
    assert welcome(record, THIRD).epoch > two.epoch
    assert welcome(record, Producer("elsewhere", "one")).epoch == PRESENT


def test_raised_epochs_end_what_is_below_them() -> None:
    """Of the backends that are named: they go on above what is remembered elsewhere."""
    record = Record()
    stranger = Producer("elsewhere", "one")
    states = {producer: welcome(record, producer) for producer in (MINE, stranger)}
    record.stored(MINE, states[MINE].epoch, 7)
    ahead = PRESENT + 10 * MAX_AHEAD
    record.raise_epochs({"backend": ahead, "nobody": 5}, NOW)
    assert record.place(MINE) == NOWHERE
    assert record.place(stranger).epoch == states[stranger].epoch
    anew = record.admit(MINE, "q", f"{MINE}", states[MINE]._replace(sequence=7), NOW)
    assert (anew.epoch, anew.sequence) == (ahead + 1, 0)
    record.raise_epochs({"backend": ahead}, NOW)
    assert record.place(MINE).epoch == anew.epoch


def test_who_never_had_anything_stored_is_forgotten_soon() -> None:
    """And who had, a season after his last connection; nobody is forgotten while he comes again."""
    record = Record()
    record.stored(MINE, welcome(record, MINE).epoch, 1)
    welcome(record, OTHER)
    later = NOW + STRANGER_MEMORY
    welcome(record, THIRD, later - 1)
    assert record.place(OTHER) != NOWHERE
    welcome(record, Producer("backend", "four"), later)
    assert record.place(OTHER) == NOWHERE
    assert record.place(MINE).sequence == 1
    assert welcome(record, MINE, later).sequence == 1
    welcome(record, Producer("backend", "five"), later + PRODUCER_MEMORY - 1)
    assert record.place(MINE).sequence == 1
    welcome(record, Producer("backend", "six"), later + PRODUCER_MEMORY)
    assert record.place(MINE) == NOWHERE


def test_who_comes_again_does_not_keep_others_in_memory() -> None:
    """Each is forgotten for his own silence, whoever came first."""
    record = Record()
    welcome(record, MINE)
    welcome(record, OTHER)
    later = NOW + STRANGER_MEMORY
    welcome(record, MINE, later)
    welcome(record, THIRD, later)
    assert record.place(OTHER) == NOWHERE
    assert record.place(MINE) != NOWHERE


def test_a_raised_border_outlives_the_producers_that_it_was_raised_for() -> None:
    """The clock does not see to an epoch that was ahead of it."""
    record = Record()
    ahead = PRESENT + 10 * MAX_AHEAD
    welcome(record, MINE)
    record.raise_epochs({"backend": ahead}, NOW)
    later = NOW + STRANGER_MEMORY
    welcome(record, Producer("elsewhere", "one"), later)
    assert record.place(MINE) == NOWHERE
    assert welcome(record, MINE, later).epoch == ahead + 1


def test_a_stranger_is_turned_away_when_too_many_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To forget somebody for him would end a fencing; who is remembered comes in all the same."""
    monkeypatch.setattr(admission, "MAX_PRODUCERS", 2)
    record = Record()
    welcome(record, MINE)
    welcome(record, OTHER)
    with pytest.raises(QueueUnavailableError, match="remembers 2 producers"):
        welcome(record, THIRD)
    assert welcome(record, MINE).epoch == PRESENT
    assert welcome(record, THIRD, NOW + STRANGER_MEMORY).epoch > PRESENT


EVENTS = st.one_of(
    st.tuples(st.just("admit"), st.sampled_from([MINE, OTHER, THIRD]), st.sampled_from("xy")),
    st.tuples(st.just("raise"), st.integers(-5, 5), st.none()),
    st.tuples(st.just("wait"), st.integers(0, 4000), st.none()),
)


@given(st.lists(EVENTS, max_size=30))
def test_epochs_of_a_backend_only_rise(events: list[tuple[str, object, object]]) -> None:
    """Whoever asks, whatever was forgotten or is remembered elsewhere: a new epoch is above every
    one that was given out or raised before."""
    record, now, highest = Record(), NOW, 0
    for kind, what, instance in events:
        if kind == "wait" and isinstance(what, int):
            now += what
        elif kind == "raise" and isinstance(what, int):
            record.raise_epochs({"backend": int(now * 1000) + what}, now)
            highest = max(highest, int(now * 1000) + what)
        elif isinstance(what, Producer):
            held = record.place(what)
            state = record.admit(what, "q", f"{instance}", NEW, now)
            goes_on = state.epoch == held.epoch
            assert goes_on or state.epoch > highest
            assert not goes_on or held.instance == instance
            highest = max(highest, state.epoch)
