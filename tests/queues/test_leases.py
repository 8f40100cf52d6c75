"""Who may have a place, and until when its lease lasts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osmo_transport.errors import OccupiedError
from osmo_transport.queues.delivery import NEW, Producer, ProducerState
from osmo_transport.queues.leases import AT_ONCE, MAX_LEASE, Claim, Leases, Renewal
from osmo_transport.session.admission import Record

PLACE, OTHER = Producer("backend", "one"), Producer("backend", "two")
NOW = 1_767_355_200.0
LEASE = 12.0


def claim(connection: str = "c1", *, waits: bool = True) -> Claim:
    """Of a process that holds its place for a while."""
    return Claim(waits, LEASE, connection, f"at {connection}")


def held() -> Leases:
    """The leases when the process `old` was let in."""
    leases = Leases()
    leases.take(PLACE, "old", claim(), NOW)
    return leases


def occupied(leases: Leases, now: float, instance: str = "new") -> bool:
    """Whether a process has to wait."""
    try:
        leases.check(PLACE, instance, claim("c2"), now)
    except OccupiedError:
        return True
    return False


def test_who_waits_is_told_for_whom() -> None:
    """Which process it is, where, and since when, in however many connections."""
    leases = held()
    leases.take(PLACE, "old", claim("c3"), NOW + 5)
    with pytest.raises(OccupiedError, match="backend/one is reported by old at at c3") as caught:
        leases.check(PLACE, "new", claim("c2"), NOW + 6)
    assert (caught.value.instance, caught.value.address, caught.value.since) == (
        "old",
        "at c3",
        NOW,
    )


def test_a_lease_ends_when_it_was_not_renewed() -> None:
    """To the moment; its own process, and one that does not wait, are let in before."""
    leases = held()
    assert occupied(leases, NOW + LEASE - 0.001)
    assert not occupied(leases, NOW + LEASE)
    assert not occupied(leases, NOW, instance="old")
    leases.check(PLACE, "new", AT_ONCE, NOW)
    leases.check(OTHER, "new", claim("c2"), NOW)


def test_only_the_connection_that_was_let_in_last_renews() -> None:
    """What is told of an older one, as that it broke, does not count any more."""
    leases = held()
    leases.take(PLACE, "old", claim("c3"), NOW)
    assert leases.renew([Renewal(PLACE, "c1", 0.0)], [PLACE], NOW) == set()
    assert leases.renew([Renewal(PLACE, "c3", 20.0)], [PLACE], NOW) == set()
    assert occupied(leases, NOW + 19)
    assert leases.renew([Renewal(PLACE, "c3", 0.0)], [PLACE, OTHER], NOW) == {PLACE, OTHER}


def test_a_clock_that_was_set_back_lets_nobody_wait() -> None:
    """Longer than a lease can last."""
    leases = held()
    assert occupied(leases, NOW + LEASE - MAX_LEASE)
    assert not occupied(leases, NOW + LEASE - MAX_LEASE - 1)


def test_who_takes_the_place_without_a_lease_holds_none() -> None:
    """Whoever waits comes in after it."""
    leases = held()
    leases.take(PLACE, "publisher", AT_ONCE, NOW)
    assert not occupied(leases, NOW)


def test_an_older_process_comes_back_as_its_successor() -> None:
    """With a new epoch, once the newer one has gone; until then it waits and nobody is fenced."""
    record = Record()
    old = record.admit(PLACE, "q", "old", NEW, NOW, claim())
    later = NOW + LEASE
    new = record.admit(PLACE, "q", "new", NEW, later, claim("c2"))
    assert new.epoch > old.epoch
    with pytest.raises(OccupiedError):
        record.admit(PLACE, "q", "old", old, later, claim("c3"))
    record.renew([Renewal(PLACE, "c2", 0.0)], (), later)
    back = record.admit(PLACE, "q", "old", old, later, claim("c3"))
    assert back.epoch > new.epoch


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "renew", "leave", "wait"]),
        st.sampled_from(["a", "b", "c"]),
        st.integers(1, 20),
    ),
    max_size=40,
)


@given(STEPS)
def test_nobody_who_shows_signs_of_life_loses_its_place(steps: list[tuple[str, str, int]]) -> None:
    """Whatever processes that wait do, in whatever order: the place has one holder until it leaves
    or its lease has run out, and then the next one that asks."""
    record, now = Record(), NOW
    holder, until = "", NOW
    states: dict[str, ProducerState] = {}
    for what, name, seconds in steps:
        free = holder in ("", name) or now >= until
        if what == "ask":
            try:
                state = record.admit(PLACE, "q", name, states.get(name, NEW), now, claim(name))
            except OccupiedError as exc:
                waits_for = exc.instance
            else:
                waits_for = ""
            assert waits_for == ("" if free else holder)
            if waits_for:
                continue
            assert state.epoch >= max((each.epoch for each in states.values()), default=0)
            states[name], holder, until = state, name, now + LEASE
        elif what == "wait":
            now += seconds
        else:
            rest = LEASE if what == "renew" else 0.0
            record.renew([Renewal(PLACE, name, rest)], (), now)
            if name == holder:
                until = now + rest
