"""Deployed listeners' messages among ours, and ours among theirs: rules 2.1 and 2.2."""

from datetime import UTC, datetime

import hypothesis.strategies as st
import pytest
from hypothesis import given
from msgspec.structs import astuple

from osmo_deployed.messages import (
    MAX_AHEAD,
    SEQUENCE_BITS,
    Arrivals,
    ConditionMessage,
    ListenerMessage,
    LoggingBody,
    LoggingType,
    NodeInventoryBody,
    PodEventBody,
    Taint,
    UpdateNodeBody,
    UpdateNodeUsageBody,
    UpdatePodBody,
    arrival_at,
    from_message,
    to_message,
)
from osmo_deployed.times import plain_time, written, zoned_time
from osmo_reports import bodies
from osmo_reports.bodies import decode_body, encode_body
from osmo_reports.errors import BodyError
from osmo_transport.message import (
    Message,
    Version,
    encode_message,
    new_message,
    read_message,
)
from tests.deployed.messages import KINDS, messages

NOON = 1_767_355_200_000
"""2026-01-02T12:00:00, in milliseconds since the Unix epoch."""
ARRIVAL = arrival_at(NOON + 5, 3)
POD = UpdatePodBody("w", "t", status="RUNNING")


def stamped(timestamp: str) -> ListenerMessage:
    return ListenerMessage("id", timestamp, update_pod=POD)


# Times and versions


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("2026-01-02T12:00:00", 0),  # 2.1: the fraction is absent when it is zero
        ("2026-01-02T12:00:00.9", 900_000),  # 2.1: zeros at the end are trimmed
        ("2026-01-02T12:00:00.000001", 1),  # 2.1: up to six digits
        ("2026-01-02T12:00:00.123456", 123_456),
        ("2026-01-02T12:00:00Z", 0),  # 2.1: parsed leniently, with a zone or none
        ("2026-01-02T12:00:00.5+00:00", 500_000),
        ("2026-01-02T14:30:00.25+02:30", 250_000),
        ("2026-01-02T12:00:00.123456789Z", 123_456),
        ("2026-01-02 12:00:00", 0),
    ],
)
def test_a_version_is_the_time_of_creation(text: str, micros: int) -> None:
    """2.1: whole milliseconds are the epoch, and what remains ranks before the arrival."""
    message = to_message(stamped(text), ARRIVAL)
    assert message.version == Version(NOON + micros // 1000, micros % 1000 << 52 | ARRIVAL)
    assert message.timestamp == NOON / 1000 + micros / 1e6


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "12:00:00",
        "2026-13-02T12:00:00",
        "0001-01-01T00:00:00",  # what Go says of no time
        "9999-12-31T23:59:59",
        "1969-12-31T23:59:59.999",
        "1" * 100_000,
        "\ud800",
    ],
)
def test_a_time_that_is_none_is_that_of_the_arrival(text: str) -> None:
    """What is missing, unreadable or cannot be true does no harm."""
    message = to_message(stamped(text), ARRIVAL)
    assert message.version == Version(NOON + 5, ARRIVAL)
    assert message.timestamp == (NOON + 5) / 1000


def test_a_clock_may_be_ahead_for_a_day() -> None:
    """Beyond that a time is nonsense, and would outrank everything that follows."""
    arrived = NOON + 5
    for ahead, epoch in ((MAX_AHEAD, arrived + MAX_AHEAD), (MAX_AHEAD + 1, arrived)):
        text = written((arrived + ahead) / 1000)
        assert to_message(stamped(text), ARRIVAL).version.epoch == epoch


@given(
    st.lists(st.integers(-(10**6), 10**6), min_size=2, max_size=2),
    st.lists(st.integers(0, 10**9), min_size=2, max_size=2),
)
def test_the_time_decides_whatever_comes_later(micros: list[int], later: list[int]) -> None:
    """An older message never beats a newer one; of two of one time the one that comes later does,
    and a message is as new as itself."""
    one, two = (
        to_message(stamped(written((NOON * 1000 + at) / 1e6)), arrival_at(NOON + after, 0)).version
        for at, after in zip(micros, later, strict=True)
    )
    assert (astuple(one) < astuple(two)) == ((micros[0], later[0]) < (micros[1], later[1]))
    assert (one == two) == ((micros[0], later[0]) == (micros[1], later[1]))


@given(
    st.one_of(st.text(), st.datetimes().map(datetime.isoformat)),
    st.integers(0, 2**64),
    st.integers(0, 2**64),
)
def test_a_version_fits_every_store(text: str, milliseconds: int, sequence: int) -> None:
    """Whatever the time and the entry's id, both parts are from 0 to below 2**62."""
    message = to_message(stamped(text), arrival_at(milliseconds, sequence))
    assert all(0 <= part < 2**62 for part in astuple(message.version))
    assert read_message(encode_message(message)) == message


def test_arrivals_rise_with_the_clock() -> None:
    """Each is higher than the one before, whatever the clock does, and tells the time."""
    times = iter([5.0, 5.0, 4.0, 6.0, *[6.0] * 5000, 7.0])
    arrivals = Arrivals(wall=lambda: next(times))
    found = [arrivals.next() for _ in range(5005)]
    assert found == sorted(set(found))
    assert [found[i] >> SEQUENCE_BITS for i in (0, 1, 2, 3, -1)] == [5000, 5000, 5000, 6000, 7000]
    assert arrival_at(6000, 5) < arrival_at(6000, 1023) == arrival_at(6000, 4000)


def test_compares_with_the_epochs_of_our_listeners() -> None:
    """One of ours that starts later outranks what was created before, and not what comes after."""
    at = datetime(2026, 1, 2, 12, tzinfo=UTC).timestamp()
    ours = (int(at * 1000), 10**9)
    before, after = (
        astuple(to_message(stamped(written(at + moved)), ARRIVAL).version)
        for moved in (-0.001, 0.001)
    )
    assert before < ours < after


@pytest.mark.parametrize(
    ("zoned", "plain"),
    [
        ("2026-01-02T12:00:00Z", "2026-01-02T12:00:00"),
        ("2026-01-02T12:00:00.120000Z", "2026-01-02T12:00:00.12"),
        ("2026-01-02T13:00:00+01:00", "2026-01-02T12:00:00"),
        ("", ""),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00"),
    ],
)
def test_times_have_a_zone_here_and_none_there(zoned: str, plain: str) -> None:
    """2.1: theirs are UTC without saying so."""
    assert plain_time(zoned) == plain_time(plain) == plain
    assert zoned_time(plain) == zoned_time(zoned) == (f"{plain}Z" if plain else "")


@pytest.mark.parametrize("text", ["soon", "x" * 100, "\0"])
def test_a_text_that_is_no_time(text: str) -> None:
    """Is shown here as it is, and is no time there: a report would be dropped for it."""
    assert zoned_time(text) == text
    assert plain_time(text) == ""


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "9999-12-31T23:59:59Z"]
)
def test_a_time_that_deployed_workers_cannot_calculate_with(text: str) -> None:
    """Is none."""
    assert plain_time(text) == ""


def test_a_time_that_cannot_be_written_is_left_out() -> None:
    """The reader takes the arrival then."""
    assert [written(at) for at in (float("nan"), float("inf"), 1e18)] == ["", "", ""]


# Bodies


@given(messages())
def test_what_both_can_say_comes_back(message: ListenerMessage) -> None:
    """2.1: there and back is the same."""
    ours = to_message(message, ARRIVAL)
    assert ours.id == message.uuid
    assert from_message(ours, "east", NOON / 1000) == message
    assert decode_body(ours.kind, ours.payload) is not None


@pytest.mark.parametrize(
    ("theirs", "kind", "key", "ours"),
    [
        (
            ListenerMessage(
                update_pod=UpdatePodBody(
                    *("w", "t", 2, "main", "n", "10.0.0.1", "text", "FAILED", 3006, "ignored"),
                    (ConditionMessage("R", "M", "2026-01-02T12:00:00.5", True, "Ready"),),
                )
            ),
            "update_pod",
            "w/t/2",
            bodies.UpdatePod(
                *("w", "t", 2, "FAILED", "main", "n", "10.0.0.1", "text", 3006),
                (bodies.Condition("Ready", True, "R", "M", "2026-01-02T12:00:00.5Z"),),
            ),
        ),
        (
            ListenerMessage(
                update_node=UpdateNodeBody(
                    *("n", True, ("Ready",), {"a": "1"}, {"cpu": "8"}, {"l": "2"}),
                    (Taint("k", "v", "NoSchedule", "2026-01-02T12:00:00"),),
                )
            ),
            "update_node",
            "n",
            bodies.UpdateNode(
                *("n", "n", True, ("Ready",), {"cpu": "8"}, {"l": "2"}),
                (bodies.Taint("k", "v", "NoSchedule", "2026-01-02T12:00:00Z"),),
                {"a": "1"},
            ),
        ),
        (
            ListenerMessage(update_node=UpdateNodeBody("n", delete=True)),
            "update_node",
            "n",
            bodies.UpdateNode("n", "n", deleted=True),
        ),
        (
            ListenerMessage(update_node_usage=UpdateNodeUsageBody("n", {"cpu": "1"}, {})),
            "update_node_usage",
            "n",
            bodies.UpdateNodeUsage("n", "n", {"cpu": "1"}),
        ),
        (
            ListenerMessage(node_inventory=NodeInventoryBody(("a", "b"))),
            "node_inventory",
            "nodes",
            bodies.NodeInventory(("a", "b")),
        ),
        (
            ListenerMessage(pod_event=PodEventBody("p", "Pulled", "m", "2026-01-02T12:00:00")),
            "pod_event",
            "p",
            bodies.PodEvent("p", "Pulled", "m", timestamp="2026-01-02T12:00:00Z"),
        ),
        (
            ListenerMessage(logging=LoggingBody(LoggingType.EXCEPTION, "text", "w")),
            "logging",
            "w",
            bodies.Logging(bodies.LogType.EXCEPTION, "text", "w"),
        ),
        (
            ListenerMessage(
                logging=LoggingBody(text='__HEARTBEAT__:{"cluster_uid":"uid","version":"1.0"}')
            ),
            "heartbeat",
            "heartbeat",
            bodies.Registration("uid", version="1.0"),
        ),
        (
            ListenerMessage(logging=LoggingBody(text="__BACKEND_OP__:create")),
            "logging",
            "log",
            bodies.Logging(bodies.LogType.INFO, "__BACKEND_OP__:create"),
        ),
    ],
)
def test_each_body_has_its_kind_and_key(
    theirs: ListenerMessage, kind: str, key: str, ours: object
) -> None:
    """2.1: field by field."""
    message = to_message(theirs, ARRIVAL)
    assert (message.kind, message.key) == (kind, key)
    assert decode_body(kind, message.payload) == ours


@pytest.mark.parametrize(
    ("status", "final"),
    [
        ("COMPLETED", True),
        ("FAILED", True),
        ("FAILED_PREEMPTED", True),
        ("RUNNING", False),
        ("", False),
    ],
)
def test_the_end_of_a_pod_is_final(status: str, final: bool) -> None:
    """3.1: COMPLETED, and all that begin with FAILED."""
    theirs = ListenerMessage(update_pod=UpdatePodBody("w", "t", status=status))
    assert to_message(theirs, ARRIVAL).final is final


def test_of_several_bodies_the_first_in_order_counts() -> None:
    """2.2: the order in which a deployed worker asks for them."""
    rest: dict[str, object] = {
        "update_pod": POD,
        "update_node": UpdateNodeBody("n"),
        "update_node_usage": UpdateNodeUsageBody("n"),
        "node_inventory": NodeInventoryBody(),
        "pod_event": PodEventBody("p"),
        "logging": LoggingBody(),
    }
    for kind in list(rest):
        assert to_message(ListenerMessage(**rest), ARRIVAL).kind == kind  # type: ignore[arg-type]
        del rest[kind]


@pytest.mark.parametrize(
    "theirs",
    [
        ListenerMessage("id", "2026-01-02T12:00:00"),
        ListenerMessage(update_node=UpdateNodeBody()),
        ListenerMessage(update_node_usage=UpdateNodeUsageBody()),
        ListenerMessage(pod_event=PodEventBody(reason="Pulled")),
        ListenerMessage(logging=LoggingBody(text="__HEARTBEAT__:")),
        ListenerMessage(logging=LoggingBody(text="__HEARTBEAT__:" + "[" * 100_000)),
    ],
)
def test_what_is_about_nothing_is_refused(theirs: ListenerMessage) -> None:
    """A message without a body, about a node or a pod without a name, and a heartbeat that cannot
    be read."""
    with pytest.raises(BodyError):
        to_message(theirs, ARRIVAL)


def test_a_message_without_a_uuid_is_known_by_its_arrival() -> None:
    """The same one each time that it is read."""
    one, again = (to_message(ListenerMessage(update_pod=POD), ARRIVAL) for _ in range(2))
    assert one == again
    assert len(one.id) == 32
    assert to_message(ListenerMessage(update_pod=POD), ARRIVAL + 1).id != one.id


# Ours there


def ours(kind: str, body: object) -> Message:
    return Message(kind, "key", Version(7, 9), "id", NOON / 1000, encode_body(body))  # type: ignore[arg-type]


def test_ours_is_told_as_a_deployed_listener_would() -> None:
    """2.1: a pod that is gone as its last state, a pod of an event by its name alone, a node by
    what its label says, in an inventory too."""
    gone = bodies.UpdatePod("w", "t", 0, "RUNNING", pod="osmo/p", created_at="x", deleted=True)
    assert from_message(ours("update_pod", gone), "east", NOON / 1000) == ListenerMessage(
        "id",
        "2026-01-02T12:00:00",
        update_pod=UpdatePodBody("w", "t", status="RUNNING", exit_code=-1, backend="east"),
    )
    event = from_message(
        ours("pod_event", bodies.PodEvent("osmo/p", "Pulled", count=3)), "east", NOON / 1000
    )
    assert event is not None
    assert event.pod_event == PodEventBody("p", "Pulled", timestamp="2026-01-02T12:00:00")
    node = from_message(
        ours("update_node", bodies.UpdateNode("name", "label")), "east", NOON / 1000
    )
    assert node is not None
    assert node.update_node == UpdateNodeBody("label")
    usage = from_message(
        ours("update_node_usage", bodies.UpdateNodeUsage("name", "label")), "east", NOON / 1000
    )
    assert usage is not None
    assert usage.update_node_usage == UpdateNodeUsageBody("label")
    for hostnames, told in (((), ("name",)), (("label",), ("label",))):
        nodes = from_message(
            ours("node_inventory", bodies.NodeInventory(("name",), hostnames)), "east", NOON / 1000
        )
        assert nodes is not None
        assert nodes.node_inventory == NodeInventoryBody(told)


def test_nodes_without_a_hostname_stay_apart_among_theirs() -> None:
    """By their names: one row for all would be deleted with the first of them."""
    for name in ("n1", "n2"):
        node = from_message(
            ours("update_node", bodies.UpdateNode(name, "-", deleted=True)), "east", NOON / 1000
        )
        usage = from_message(
            ours("update_node_usage", bodies.UpdateNodeUsage(name, "-")), "east", NOON / 1000
        )
        assert node is not None
        assert node.update_node == UpdateNodeBody(name, delete=True)
        assert usage is not None
        assert usage.update_node_usage == UpdateNodeUsageBody(name)
    inventory = bodies.NodeInventory(("n1", "n2", "n3"), ("-", "-", "h3"))
    listed = from_message(ours("node_inventory", inventory), "east", NOON / 1000)
    assert listed is not None
    assert listed.node_inventory == NodeInventoryBody(("n1", "n2", "h3"))


@pytest.mark.parametrize(
    "message",
    [
        ours("pod_exists", bodies.PodExists("w", "t", 0)),
        ours("pods_current", bodies.PodsCurrent(1.0)),
        ours("snapshot_end", bodies.SnapshotEnd("update_pod", 1)),
        new_message("from_the_future", "key", b"\xff"),
    ],
    ids=lambda message: message.kind,
)
def test_some_have_no_equivalent(message: Message) -> None:
    """They are not told, and not looked into."""
    assert from_message(message, "east", NOON / 1000) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_payload_that_does_not_fit_is_refused(kind: str) -> None:
    """With an error of this library."""
    with pytest.raises(BodyError):
        from_message(new_message(kind, "key", b"\xff"), "east", NOON / 1000)
