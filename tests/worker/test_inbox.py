"""What is in hand: compaction and order, without any I/O."""

from hypothesis import given, settings
from hypothesis import strategies as st

from osmo_transport import Delivery, Message, Version, new_message
from osmo_worker.inbox import Inbox, Work
from tests.worker.harness import delivery, event, report


def _handed_out(inbox: Inbox) -> list[Work]:
    works: list[Work] = []
    while taken := inbox.take(1):
        works += taken
        inbox.done(taken)
    return works


def test_only_the_newest_of_a_latest_key_is_handed_out() -> None:
    """Older reports of a key go with the newest, whatever the order of arrival."""
    old, new, late = (delivery(report(version=(1, rv))) for rv in (1, 3, 2))
    inbox = Inbox()
    inbox.add([old, new, late])
    (work,) = _handed_out(inbox)
    assert work.delivery is new
    assert {d.id for d in work.superseded or ()} == {old.id, late.id}


def test_an_equal_version_that_comes_later_supersedes() -> None:
    """A report that comes twice is handled once, and both deliveries share the outcome."""
    first, again = delivery(report()), delivery(report())
    inbox = Inbox()
    inbox.add([first, again])
    (work,) = _handed_out(inbox)
    assert (work.delivery, work.superseded) == (again, [first])


def test_an_end_is_superseded_as_any_other_report() -> None:
    """The pod was created anew, or the cluster was restored."""
    final = delivery(report(status="COMPLETED", version=(1, 5)))
    later = delivery(report(status="RUNNING", version=(2, 2)))
    inbox = Inbox()
    inbox.add([later, final])
    (work,) = _handed_out(inbox)
    assert (work.delivery, work.superseded) == (later, [final])


def test_each_report_of_an_every_kind_is_handed_out_in_order() -> None:
    """Events of one key are never compacted."""
    events = [delivery(event("pod", str(number))) for number in range(5)]
    inbox = Inbox()
    inbox.add(events)
    assert [work.delivery for work in _handed_out(inbox)] == events


def test_an_unknown_kind_is_never_compacted() -> None:
    """What this version does not know is kept report by report."""
    unknown = [delivery(new_message("from_the_future", "key", b"")) for _ in range(3)]
    inbox = Inbox()
    inbox.add(unknown)
    assert [work.delivery for work in _handed_out(inbox)] == unknown


def test_a_key_waits_while_one_of_it_is_out() -> None:
    """A key that is being handled gives nothing more until it is done, across reads."""
    inbox = Inbox()
    inbox.add([delivery(report(version=(1, 1)))])
    first = inbox.take(10)
    inbox.add([delivery(report(version=(1, 2))), delivery(report("other"))])
    assert [work.key[2] for work in inbox.take(10)] == ["flow/other/0"]
    assert not inbox.ready
    inbox.done(first)
    assert inbox.ready
    assert [work.delivery.message.version for work in inbox.take(10)] == [Version(1, 2)]


def test_the_same_key_of_two_backends_is_two_keys() -> None:
    """One backend's report never stands for another's."""
    inbox = Inbox()
    inbox.add([delivery(report(), backend=name) for name in ("one", "two")])
    assert len(inbox.take(10)) == 2


messages = st.builds(
    lambda kind, key, version, final: Message(kind, key, Version(*version), "", 0.0, b"", final),
    st.sampled_from(("update_pod", "update_pod", "pod_event")),
    st.sampled_from("ab"),
    st.tuples(st.integers(1, 2), st.integers(1, 4)),
    st.booleans(),
)
steps = st.lists(
    st.one_of(st.lists(messages, min_size=1, max_size=5), st.just("take"), st.just("done"))
)


@settings(max_examples=200, deadline=None)
@given(steps)
def test_every_delivery_leaves_once_and_none_overtakes(script: list[list[Message] | str]) -> None:
    """Whatever the interleaving, each delivery goes out once, by itself or with a newer one that
    supersedes it; of a key one is out at a time and the order of arrival holds."""
    inbox, arrived, out, left = Inbox(), 0, list[Work](), list[Delivery]()
    last: dict[tuple[str, ...], int] = {}
    for step in [*script, *["take", "done"] * 100]:
        if step == "take":
            for work in inbox.take(2):
                assert work.key not in {other.key for other in out}
                out.append(work)
                for older in work.superseded or ():
                    assert work.delivery.message.supersedes(older.message)
                assert int(work.delivery.id) > last.get(work.key, 0)
                last[work.key] = int(work.delivery.id)
                left += [work.delivery, *(work.superseded or ())]
        elif step == "done":
            inbox.done(out[:1])
            del out[:1]
        else:
            batch = [delivery(message) for message in step if isinstance(message, Message)]
            arrived += len(batch)
            inbox.add(batch)
    assert len(left) == len({item.id for item in left}) == arrived
