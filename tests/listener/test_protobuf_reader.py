"""Our own reader of protobuf: what it reads, and what it leaves to the library.

That both give the same is in `test_protobuf_decoding`, and for whatever a server may send in
`tests.fuzz.kubernetes`.
"""

import contextlib
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osmo_listener.kubernetes.protobuf_reader import (
    Slot,
    Table,
    UnusualError,
    content,
    fields,
    read,
)
from osmo_listener.kubernetes.protobuf_structs import reader_of
from osmo_listener.kubernetes.protobuf_tables import table_of
from osmo_listener.listeners.objects import Event, Node, Pod, SharedPod, UsagePod
from osmo_protos import kubernetes_pb2 as pb
from tests.fuzz.draw import Draw
from tests.fuzz.messages import Writer, field, varint
from tests.listener.record_answers import ANSWERS

POD = pb.Pod(
    metadata=pb.ObjectMeta(name="a", labels={"x": "y"}, creationTimestamp=pb.Time(seconds=7)),
    spec=pb.PodSpec(
        containers=[pb.Container(restartPolicyRules=[pb.ContainerRestartRule()])],
        overhead={"cpu": pb.Quantity(string="1")},
    ),
    status=pb.PodStatus(
        initContainerStatuses=[
            pb.ContainerStatus(
                state=pb.ContainerState(terminated=pb.ContainerStateTerminated(exitCode=-7))
            )
        ]
    ),
).SerializeToString()


def of_pod(data: bytes, kind: type[Pod | UsagePod] = Pod) -> object:
    return read(table_of(kind, "Pod"), data, 0, len(data))


def test_what_is_usual_is_read() -> None:
    """As the library reads it, wherever it lies."""
    data = b"before" + POD + b"behind"
    pod = read(table_of(SharedPod, "Pod"), data, 6, 6 + len(POD))
    assert pod == reader_of(SharedPod, "Pod")(data, 6, 6 + len(POD))
    terminated = pod.status.init_container_statuses[0].state.terminated
    assert terminated.exit_code == -7


WITHOUT = """
import sys
from pathlib import Path
from osmo_listener.kubernetes.protobuf_decoding import ProtobufDecoder
from osmo_listener.listeners.objects import Pod
decoder = ProtobufDecoder(Pod, by_table=True)
assert decoder.page(Path(sys.argv[1]).read_bytes()).objects
for frame in decoder.framer().feed(Path(sys.argv[2]).read_bytes()):
    decoder.event(frame)
assert "google.protobuf" not in sys.modules
"""


def test_the_library_is_not_imported() -> None:
    """As long as an API server sends what is usual: importing it is a good part of a start."""
    answers = [str(ANSWERS / name) for name in ("pods.pb", "pods-watch.pb")]
    subprocess.run([sys.executable, "-c", WITHOUT, *answers], check=True)


@pytest.mark.parametrize("kind", [Pod, SharedPod, UsagePod, Node, Event])
def test_most_messages_are_read(kind: type[Pod]) -> None:
    """Those that are in order; so the fuzzer compares the two readers, and not one with itself."""
    name = kind.PROTOBUF_MESSAGE
    table, by_library = table_of(kind, name), reader_of(kind, name)
    descriptor = getattr(pb, name).DESCRIPTOR
    for seed in range(20):
        data = Writer(Draw(str(seed)), odd=0.0).message(descriptor)
        assert read(table, data, 0, len(data)) == by_library(data, 0, len(data))


SKIPPED = {
    "number": varint(99 << 3) + varint(2**64 - 1),
    "fixed64": varint(99 << 3 | 1) + b"\xff" * 8,
    "fixed32": varint(99 << 3 | 5) + b"\xff" * 4,
    "text": field(2047, b"\xff"),
    "tag of five bytes": varint((2**29 - 1) << 3 | 2) + b"\x01x",
}


@pytest.mark.parametrize("unknown", SKIPPED.values(), ids=SKIPPED)
def test_unknown_fields_are_skipped(unknown: bytes) -> None:
    """Whatever newer servers add."""
    assert of_pod(POD + unknown) == of_pod(POD)


UNUSUAL = {
    "field 0": b"\x02\x00",
    "field 0, larger": b"\x82\x00\x00",
    "group": varint(99 << 3 | 3) + varint(99 << 3 | 4),
    "end of a group": varint(99 << 3 | 4),
    "wire type 6": varint(99 << 3 | 6) + b"\x00",
    "wire type 7": varint(99 << 3 | 7) + b"\x00",
    "tag of six bytes": b"\x8a\x80\x80\x80\x80\x00\x00",
    "tag of 33 bits": b"\x8a\x80\x80\x80\x10\x00",
    "length of six bytes": b"\x7a\x80\x80\x80\x80\x80\x00",
    "length below zero": b"\x7a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    "length beyond the end": b"\x7a\x02x",
    "no length": b"\x7a",
    "half a length": b"\x7a\x80",
    "half a tag": b"\x80",
    "no number": varint(99 << 3),
    "number of eleven bytes": varint(99 << 3) + b"\xff" * 10 + b"\x01",
    "number of 65 bits": varint(99 << 3) + b"\xff" * 9 + b"\x02",
    "half a fixed64": varint(99 << 3 | 1) + b"\x00" * 7,
    "half a fixed32": varint(99 << 3 | 5) + b"\x00" * 3,
    "a message twice": field(1, b""),
    "a message as a number": b"\x08\x01",
    "a text as a number": field(3, b"\x08\x01"),
    "a number as a text": field(3, field(8, field(2, field(3, field(1, b"x"))))),
    "a message as a fixed64": b"\x09" + b"\x00" * 8,
    "a number of 32 bits": field(3, field(8, field(2, field(3, b"\x08" + varint(2**31))))),
    "no UTF-8": field(3, field(1, b"\xff")),
    "no UTF-8 that is not read": field(2, field(2, field(8, field(2, field(1, b"\xff"))))),
    "a key without a value": field(1, field(11, field(1, b"x"))),
    "a value before its key": field(1, field(11, field(2, b"x") + field(1, b"x"))),
    "an entry with more": field(1, field(11, field(1, b"x") + field(2, b"x") + field(3, b""))),
    "a time of nanoseconds": field(1, field(8, b"\x10\x01")),
    "a time in two parts": field(1, field(8, b"\x08\x01") * 2),
    "a time with more": field(1, field(8, b"\x08\x01\x18\x01")),
    "a time that is cut": field(1, field(8, b"\x08")),
    "a time that is none": field(1, field(8, b"\x08" + varint(2**62))),
}


@pytest.mark.parametrize("unusual", UNUSUAL.values(), ids=UNUSUAL)
def test_what_is_left_to_the_library(unusual: bytes) -> None:
    """What it refuses, and what no API server sends; alone and behind what is in order."""
    for data in {POD + unusual, field(1, b"") + unusual}:
        with pytest.raises(UnusualError):
            of_pod(data)


@pytest.mark.parametrize(("begin", "end"), [(-1, 3), (0, len(POD) + 1), (3, 2), (-2, -1)])
def test_places_that_are_none(begin: int, end: int) -> None:
    """Nothing beside what was given is read."""
    with pytest.raises(UnusualError):
        read(table_of(Pod, "Pod"), POD, begin, end)


def test_the_end_of_a_message_is_the_end() -> None:
    """A field does not go on behind the message that it is in, though there are bytes."""
    ends = {0, *[stop for _, _, stop in fields(POD, 0, len(POD))[0]]}
    for end in set(range(len(POD))) - ends:
        with pytest.raises(UnusualError):
            read(table_of(Pod, "Pod"), POD[:end] + b"\x01" * 300, 0, end)


class Loose(msgspec.Struct):
    """What can be changed."""

    labels: dict[str, str] = {}


class Holder(msgspec.Struct, frozen=True):
    """What holds something that can be changed."""

    metadata: Loose = msgspec.field(default_factory=Loose)


def slot_of(table: Table, *numbers: int) -> Slot:
    """What becomes of a field of a message within others."""
    first, *others = numbers
    slot = table.slots[first]
    assert slot is not None
    if not others:
        return slot
    assert slot.table is not None
    return slot_of(slot.table, *others)


def test_what_is_only_checked_is_remembered() -> None:
    """What containers ask for, which the workflow listener does not read, is checked once; few and
    short ones are kept, and what is unusual is so each time."""
    table = table_of(Pod, "Pod")
    slot = slot_of(table, 2, 2, 8)

    def asking(requests: bytes) -> bytes:
        return field(2, field(2, field(8, requests)))

    def requests(text: str) -> bytes:
        return pb.ResourceRequirements(
            requests={"cpu": pb.Quantity(string=text)}
        ).SerializeToString()

    for number in range(1000):
        read(table, asking(requests(str(number))), 0, len(asking(requests(str(number)))))
        assert requests(str(number)) in slot.checked
        assert len(slot.checked) <= 64
    long = requests("1" * 1000)
    read(table, asking(long), 0, len(asking(long)))
    assert long not in slot.checked
    unusual = asking(requests("1") + varint(3 << 3 | 3))
    for _ in range(2):
        with pytest.raises(UnusualError):
            read(table, unusual, 0, len(unusual))


def test_nothing_that_can_be_changed_is_shared() -> None:
    """Each object has its own, also where the message has nothing."""
    table = table_of(Holder, "Pod")
    first, second = (read(table, b"", 0, 0) for _ in range(2))
    first.metadata.labels["x"] = "y"
    assert second.metadata.labels == {}
    table = table_of(Pod, "Pod")
    first, second = (read(table, b"", 0, 0) for _ in range(2))
    assert first.status is second.status


class Moment(msgspec.Struct):
    """What no object is read as."""

    seconds: int = 0


def test_types_without_a_table() -> None:
    """Are told where the reader is made, not where an object is read."""
    with pytest.raises(TypeError, match="no table"):
        table_of(Moment, "Time")


@given(st.binary(max_size=60))
def test_garbage(data: bytes) -> None:
    """Is refused, or read within its bounds."""
    with contextlib.suppress(ValueError):
        found, position = fields(data, 0, len(data))
        assert position <= len(data)
        assert all(0 <= start <= stop <= position for _, start, stop in found)
    with contextlib.suppress(ValueError):
        where = content(b"k8s\0" + data)
        assert where is None or 4 < where[0] <= where[1]
