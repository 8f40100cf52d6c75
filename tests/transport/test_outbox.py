"""The outbox: coalescing, bounds, and the order of what leaves."""

from hypothesis import given, settings
from hypothesis import strategies as st

from osmo_transport import Message, OutboxConfig, Policy, encode_message, kind_of, read_message
from osmo_transport.session.outbox import Outbox
from osmo_transport.testing.kinds import STATE
from tests.transport.builders import event, size_of, state

REPORTS = st.builds(
    lambda latest, key, revision, size: (
        state(key, revision=revision, size=size) if latest else event(key, size=size)
    ),
    st.booleans(),
    st.sampled_from("abc"),
    st.integers(1, 4),
    st.sampled_from([0, 50, 300]),
)
STEPS = st.one_of(REPORTS, REPORTS, REPORTS, st.just("pop"), st.integers(1, 5))


class Model:
    """The same rules over a plain list."""

    def __init__(self, config: OutboxConfig) -> None:
        self.config = config
        self.entries: list[Message] = []
        self.coalesced = self.dropped = 0

    def put(self, message: Message) -> None:
        if kind_of(message.kind).policy is Policy.EVERY:
            self.entries.append(message)
            while len(every := self.every()) > 1 and (
                len(every) > self.config.max_every_entries
                or sum(map(size_of, every)) > self.config.max_every_bytes
            ):
                self.entries.remove(every[0])
                self.dropped += 1
            return
        key = (message.kind, message.key)
        same = [m for m in self.entries if (m.kind, m.key) == key]
        if not same:
            self.entries.append(message)
            return
        (older,) = same
        if message.supersedes(older):
            self.entries[self.entries.index(older)] = message
        self.coalesced += 1

    def every(self) -> list[Message]:
        return [m for m in self.entries if kind_of(m.kind).policy is Policy.EVERY]


def put(outbox: Outbox, message: Message) -> int:
    """Add a message as the session does; how many left without being sent."""
    return outbox.put(message.kind, message.key, encode_message(message))


def pop(outbox: Outbox) -> Message:
    """The oldest entry, taken out."""
    (data,), size = outbox.take(1, 1)
    assert size == len(data)
    return read_message(data)


def put_back(outbox: Outbox, messages: list[Message]) -> int:
    """Return what was taken."""
    return outbox.put_back(map(encode_message, messages))


@settings(max_examples=150, deadline=None)
@given(st.lists(STEPS, min_size=10, max_size=40))
def test_it_does_what_the_model_does(steps: list[Message | str | int]) -> None:
    """Contents, order, bytes and counts agree with the naive model after every step."""
    config = OutboxConfig(max_entries=10, max_every_entries=4, max_every_bytes=900)
    outbox, model = Outbox(config), Model(config)
    for step in steps:
        if isinstance(step, Message):
            before = outbox.coalesced + outbox.dropped
            gone = put(outbox, step)
            assert gone == outbox.coalesced + outbox.dropped - before
            model.put(step)
        elif isinstance(step, int):
            taken = [pop(outbox) for _ in range(min(step, len(outbox)))]
            rest, model.entries = model.entries[len(taken) :], []
            before = outbox.coalesced + outbox.dropped
            gone = put_back(outbox, taken)
            assert gone == outbox.coalesced + outbox.dropped - before
            for message in [*taken, *rest]:
                model.put(message)
        elif model.entries:
            assert pop(outbox) == model.entries.pop(0)
        assert len(outbox) == len(model.entries)
        assert outbox.bytes == sum(map(size_of, model.entries))
        assert (outbox.coalesced, outbox.dropped) == (model.coalesced, model.dropped)
        assert outbox.full == (len(model.entries) >= 10)
    assert [pop(outbox) for _ in range(len(outbox))] == model.entries


def test_as_much_is_taken_as_there_is_room_for() -> None:
    """Up to a count, and to the entry that fills the room."""
    outbox = Outbox(OutboxConfig())
    reports = [state(name) for name in "abcd"]
    messages = [encode_message(report) for report in reports]
    for report in reports:
        put(outbox, report)
    size = len(messages[0])
    assert outbox.take(0, 1000) == outbox.take(9, 0) == ([], 0)
    assert outbox.take(1, 10 * size) == (messages[:1], size)
    assert outbox.take(9, size + 1) == (messages[1:3], 2 * size)
    assert outbox.bytes == size
    assert outbox.take(9, 10 * size) == (messages[3:], size)
    assert outbox.take(9, 10 * size) == ([], 0)


def test_a_newer_report_takes_the_place_of_the_older() -> None:
    """So that the outbox holds at most one entry for each live resource."""
    outbox = Outbox(OutboxConfig())
    for revision in range(1, 100):
        put(outbox, state("a", revision=revision))
        put(outbox, state("b", revision=revision))
    assert [(m.key, m.version.revision) for m in (pop(outbox), pop(outbox))] == [
        ("a", 99),
        ("b", 99),
    ]
    assert outbox.coalesced == 196


def test_an_end_is_replaced_as_any_other_report() -> None:
    """What follows it says what has become of the resource since."""
    outbox = Outbox(OutboxConfig())
    put(outbox, state("a", revision=1, final=True))
    put(outbox, state("a", revision=2))
    assert pop(outbox).version.revision == 2
    assert len(outbox) == 0


def test_an_older_report_does_not_replace_a_newer() -> None:
    """Versions decide, not the order of arrival."""
    outbox = Outbox(OutboxConfig())
    put(outbox, state("a", revision=2))
    put(outbox, state("a", revision=1))
    assert pop(outbox).version.revision == 2


def test_the_oldest_event_makes_way_and_is_counted() -> None:
    """Beyond the bound of `every` kinds; a single one over the bytes stays."""
    outbox = Outbox(OutboxConfig(max_every_entries=2, max_every_bytes=1000))
    put(outbox, state("a"))
    for key in "abc":
        put(outbox, event(key))
    assert outbox.dropped == 1
    put(outbox, event("d", size=5000))
    assert outbox.dropped == 3
    assert [pop(outbox).kind, pop(outbox).key] == [STATE, "d"]


def test_it_is_full_at_either_bound() -> None:
    """In entries or in bytes."""
    entries = Outbox(OutboxConfig(max_entries=2))
    put(entries, state("a"))
    assert not entries.full
    put(entries, state("b"))
    assert entries.full
    by_bytes = Outbox(OutboxConfig(max_bytes=500))
    put(by_bytes, state("a", size=500))
    assert by_bytes.full
