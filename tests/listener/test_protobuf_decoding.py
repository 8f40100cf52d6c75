"""Protobuf gives the same pages, events and errors as JSON."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osmo_listener.errors import ExpiredError, KubernetesError, MalformedError, StatusError
from osmo_listener.informer.source import Event as WatchEvent
from osmo_listener.informer.source import EventType, KubernetesObject
from osmo_listener.kubernetes.decoding import Decoder, ListPage
from osmo_listener.kubernetes.json_decoding import JsonDecoder, json_status
from osmo_listener.kubernetes.protobuf_decoding import ProtobufDecoder, protobuf_status
from osmo_listener.kubernetes.protobuf_reader import MAGIC
from osmo_listener.listeners.objects import Event, Node, Pod, SharedPod, UsagePod
from osmo_protos import kubernetes_pb2 as pb
from osmo_transport.message import MAX_REVISION
from tests.listener import protobuf, wire
from tests.listener.record_answers import ANSWERS

Object = type[KubernetesObject]

BOTH = pytest.mark.parametrize("by_table", [True, False], ids=["table", "library"])
"""Both readers, be ours compiled or not."""

DECODERS = {by_table: ProtobufDecoder(Pod, by_table=by_table) for by_table in (True, False)}


def answer(name: str) -> tuple[bytes, bytes]:
    """What a real API server said to one question, in JSON and in protobuf."""
    found = (ANSWERS / f"{name}.json", ANSWERS / f"{name}.pb")
    as_json, as_protobuf = map(Path.read_bytes, found)
    return as_json, as_protobuf


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("pods", Pod),
        ("pods", UsagePod),
        ("pods", SharedPod),
        ("nodes", Node),
        ("events", Event),
    ],
)
@BOTH
def test_recorded_lists(name: str, kind: Object, by_table: bool) -> None:
    """A real API server's lists say the same in both."""
    as_json, as_protobuf = answer(name)
    page = JsonDecoder(kind).page(as_json)
    assert page.objects
    # Two requests: a token holds the moment of its list.
    of_protobuf = ProtobufDecoder(kind, by_table=by_table).page(as_protobuf)
    assert of_protobuf.objects == page.objects
    assert of_protobuf.version == page.version
    assert bool(of_protobuf.more) == bool(page.more) == (name == "pods")


@pytest.mark.parametrize(("name", "kind"), [("pods-watch", Pod), ("nodes-watch", Node)])
@BOTH
def test_recorded_watches(name: str, kind: Object, by_table: bool) -> None:
    """So do its watches, bookmarks included."""

    def events(of: Decoder[KubernetesObject], stream: bytes) -> Iterator[object]:
        framer = of.framer()
        yield from map(of.event, framer.feed(stream))
        assert framer.size == 0

    as_json, as_protobuf = answer(name)
    told = [*events(JsonDecoder(kind), as_json)]
    assert told == [*events(ProtobufDecoder(kind, by_table=by_table), as_protobuf)]
    assert len(told) >= 1


@BOTH
def test_recorded_refusal(by_table: bool) -> None:
    """So do its errors."""
    as_json, as_protobuf = answer("refusal")
    status = json_status(as_json)
    assert (status.code, status.reason) == (400, "BadRequest")
    assert protobuf_status(as_protobuf, by_table=by_table) == status


def test_what_the_messages_do_not_have() -> None:
    """Every field that a listener reads is in protobuf too, but for the one that only another API
    group has."""

    def missing(kind: Any, message: Any) -> Iterator[str]:
        for field in msgspec.structs.fields(kind):
            found = message.fields_by_name.get(field.encode_name)
            if found is None:
                yield f"{kind.__name__}.{field.name}"
            elif found.message_type and not found.message_type.GetOptions().map_entry:
                inner = [
                    each
                    for each in (field.type, *getattr(field.type, "__args__", ()))
                    if isinstance(each, type) and issubclass(each, msgspec.Struct)
                ]
                for each in inner:
                    yield from missing(each, found.message_type)

    found = {
        name
        for kind in (Pod, SharedPod, UsagePod, Node, Event)
        for name in missing(kind, getattr(pb, kind.PROTOBUF_MESSAGE).DESCRIPTOR)
    }
    assert found == {"Event.reporting_controller"}


# What Go leaves out of JSON when it is empty is not drawn as empty.
TEXT = st.text(min_size=1, max_size=5)
TIMES = st.datetimes().map(lambda time: f"{time.replace(microsecond=0).isoformat()}Z")
MICRO_TIMES = st.datetimes().map(lambda time: f"{time.isoformat(timespec='microseconds')}Z")
LABELS = st.dictionaries(st.one_of(TEXT, st.just("osmo.task_uuid")), st.text(max_size=3))
STATES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"waiting": st.fixed_dictionaries({}, optional={"reason": TEXT})}),
    st.fixed_dictionaries({"terminated": st.fixed_dictionaries({"exitCode": st.integers(0, 255)})}),
)
CONTAINER_STATUSES = st.lists(st.fixed_dictionaries({"name": TEXT, "state": STATES}), max_size=2)
METADATA = st.fixed_dictionaries(
    {"name": TEXT, "resourceVersion": st.integers(0, MAX_REVISION).map(str)},
    optional={
        "labels": LABELS,
        "creationTimestamp": TIMES,
        "namespace": TEXT,
        "annotations": LABELS,
    },
)
REQUESTS = st.dictionaries(st.sampled_from(["cpu", "x"]), TEXT)
RESOURCES = st.fixed_dictionaries({"requests": REQUESTS})
RULES = st.lists(
    st.fixed_dictionaries(
        {"action": TEXT},
        optional={
            "exitCodes": st.fixed_dictionaries(
                {"operator": TEXT, "values": st.lists(st.integers(0, 255), max_size=3)}
            )
        },
    ),
    max_size=2,
)
CONTAINERS = st.lists(
    st.fixed_dictionaries(
        {"name": TEXT},
        optional={"resources": RESOURCES, "restartPolicy": TEXT, "restartPolicyRules": RULES},
    ),
    max_size=2,
)
PODS = st.fixed_dictionaries(
    {"metadata": METADATA},
    optional={
        "spec": st.fixed_dictionaries(
            {"containers": CONTAINERS},
            optional={
                "nodeName": TEXT,
                "hostNetwork": st.booleans(),
                "initContainers": CONTAINERS,
                "resources": RESOURCES,
                "overhead": REQUESTS,
            },
        ),
        "status": st.fixed_dictionaries(
            {},
            optional={
                "phase": TEXT,
                "podIP": TEXT,
                "reason": TEXT,
                "message": TEXT,
                "initContainerStatuses": CONTAINER_STATUSES,
                "containerStatuses": CONTAINER_STATUSES,
                "conditions": st.lists(
                    st.fixed_dictionaries(
                        {"type": TEXT, "status": TEXT},
                        optional={"reason": TEXT, "lastTransitionTime": st.none() | TIMES},
                    ),
                    max_size=2,
                ),
            },
        ),
    },
)
EVENTS = st.fixed_dictionaries(
    {"metadata": METADATA, "involvedObject": st.fixed_dictionaries({"kind": TEXT, "name": TEXT})},
    optional={
        "count": st.integers(0, 2**31 - 1),
        "firstTimestamp": st.none() | TIMES,
        "eventTime": st.none() | MICRO_TIMES,
        "series": st.fixed_dictionaries(
            {"count": st.integers(0, 9), "lastObservedTime": MICRO_TIMES}
        ),
    },
)


@given(PODS, st.sampled_from([Pod, UsagePod, SharedPod]))
def test_pods(pod: dict[str, Any], kind: Object) -> None:
    """A pod is the same from both."""
    as_json = JsonDecoder(kind).event(wire.event("ADDED", pod))
    framed = protobuf.pod_event("ADDED", pod)
    for by_table in (True, False):
        assert ProtobufDecoder(kind, by_table=by_table).event(framed[4:]) == as_json


@given(EVENTS)
def test_events(event: dict[str, Any]) -> None:
    """An Event is the same from both, its times to the microsecond."""
    as_json = JsonDecoder(Event).event(wire.event("ADDED", event))
    framed = protobuf.event("ADDED", protobuf.message_of(pb.Event, event))
    for by_table in (True, False):
        assert ProtobufDecoder(Event, by_table=by_table).event(framed[4:]) == as_json


@BOTH
def test_what_follows_a_page(by_table: bool) -> None:
    """The beginning of a page tells what comes after it, as soon as it is there, and nothing else
    than the page itself does."""
    decoder = ProtobufDecoder(Pod, by_table=by_table)

    def told(beginning: bytes) -> str:
        reader = decoder.page_reader()
        reader.feed(beginning)
        return reader.more

    page = protobuf.pod_list(9, [wire.pod("a", 1), wire.pod("b", 2)], "token")
    answers = [told(page[:end]) for end in range(len(page) + 1)]
    assert set(answers) == {"", "token"}
    assert answers == sorted(answers)
    assert answers.index("token") < page.index(b"osmo")
    assert told(protobuf.pod_list(9, [wire.pod("token", 1)])) == ""


@BOTH
@pytest.mark.parametrize("step", [1, 7, 100])
def test_a_page_in_pieces(step: int, by_table: bool) -> None:
    """Its objects are read as they arrive, whatever the pieces are."""
    pods = [wire.pod(f"pod-{number}", number + 1) for number in range(20)]
    page = protobuf.pod_list(9, pods, "token") + b"what follows"
    transformed: list[str] = []

    def note(pod: Pod) -> Pod:
        transformed.append(pod.metadata.name)
        return pod

    decoder = ProtobufDecoder(Pod, note, by_table=by_table)
    reader, middle = decoder.page_reader(), len(page) // 2
    for start in range(0, middle, step):
        reader.feed(page[start : min(start + step, middle)])
    assert transformed
    for start in range(middle, len(page), step):
        reader.feed(page[start : start + step])
    assert reader.page() == ProtobufDecoder(Pod).page(page)
    assert len(transformed) == len(pods)


@BOTH
def test_a_large_object_in_small_pieces(by_table: bool) -> None:
    """Is put together some times, and not once for each piece."""
    page = protobuf.pod_list(9, [{**wire.pod("a", 1), "status": {"message": "x" * 400_000}}])
    reader = ProtobufDecoder(Pod, by_table=by_table).page_reader()
    joined = 0
    for start in range(0, len(page), 100):
        held = reader.size
        reader.feed(page[start : start + 100])
        joined += reader.size if len(reader._held) == 1 else 0
        assert reader.size <= held + 100
    assert joined < 4 * len(page)
    assert len(reader.page().objects) == 1


@BOTH
def test_empty_page(by_table: bool) -> None:
    """A list may hold nothing."""
    assert DECODERS[by_table].page(protobuf.pod_list(7, [])) == ListPage([], 7, "", [])


@BOTH
def test_unknown_fields(by_table: bool) -> None:
    """What newer servers add, numbers too, is skipped."""
    metadata = protobuf.message_of(pb.ListMeta, {"resourceVersion": "7"})
    numbers = b"\x98\x06\xff\xff\x03"
    content = numbers + b"\x0a" + bytes([metadata.ByteSize()]) + metadata.SerializeToString()
    body = MAGIC + b"\xa2\x06\x01x" + pb.Unknown(raw=content).SerializeToString()
    assert DECODERS[by_table].page(body) == ListPage([], 7, "", [])


@BOTH
def test_error_event(by_table: bool) -> None:
    """An ERROR event is raised as the error that its status is."""
    status = protobuf.status(wire.status(410, "Expired", "too old resource version: 1 (9)"))
    with pytest.raises(ExpiredError, match="too old"):
        DECODERS[by_table].event(protobuf.event("ERROR", status)[4:])
    status = protobuf.status(wire.status(429, "TooManyRequests", "slow", retryAfterSeconds=4))
    with pytest.raises(StatusError) as raised:
        DECODERS[by_table].event(protobuf.event("ERROR", status)[4:])
    assert raised.value.retry_after == 4


@BOTH
def test_text_that_a_node_cut_off(by_table: bool) -> None:
    """A message that ends within a character costs its last character, not the pod."""
    pod = pb.Pod(
        metadata=pb.ObjectMeta(resourceVersion="1"), status=pb.PodStatus(message=b"gr\xc3")
    )
    event = DECODERS[by_table].event(protobuf.event("ADDED", pod)[4:])
    assert event.object is not None
    assert event.object.status.message == "gr\ufffd"


@BOTH
def test_bookmark(by_table: bool) -> None:
    """A bookmark has a version, and no object."""
    bookmark = protobuf.of_line(wire.bookmark(9))
    assert DECODERS[by_table].event(bookmark[4:]) == WatchEvent(EventType.BOOKMARK, 9)


BADLY_TIMED = pb.Pod(
    metadata=pb.ObjectMeta(resourceVersion="1", creationTimestamp=pb.Time(seconds=2**62))
)


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (b"\xff", "cannot be read"),
        (b"", "cannot be read"),
        (pb.WatchEvent(type="ADDED").SerializeToString(), "cannot be read"),
        (protobuf.pod_event("ADDED", wire.pod("a", 3))[4:-1], "cannot be read"),
        (protobuf.pod_event("ADDED", {})[4:], "no number"),
        (protobuf.pod_event("BOOKMARK", {})[4:], "no number"),
        (protobuf.pod_event("ADDED", wire.pod("a", 2**63))[4:], "too large"),
        (protobuf.pod_event("BOOKMARK", wire.pod("a", 10**400))[4:], "too large"),
        (protobuf.pod_event("RENAMED", wire.pod("a", 3))[4:], "RENAMED"),
        (protobuf.event("ADDED", BADLY_TIMED)[4:], "cannot be read"),
        (protobuf.pod_event("ADDED", wire.pod("abc", 3)).replace(b"abc", b"\xc3bc")[4:], "read"),
    ],
)
@BOTH
def test_malformed_event(frame: bytes, text: str, by_table: bool) -> None:
    """What cannot be read is an error that says what is wrong, never skipped."""
    with pytest.raises(MalformedError, match=text):
        DECODERS[by_table].event(frame)


WHOLE = protobuf.pod_list(9, [wire.pod("a", 1)])


@pytest.mark.parametrize("body", [b"", b"{}", MAGIC, MAGIC + b"\x12", MAGIC + b"\x00" * 20])
@BOTH
def test_malformed_page(body: bytes, by_table: bool) -> None:
    """So it is with a list."""
    with pytest.raises(MalformedError):
        DECODERS[by_table].page(body)


@BOTH
def test_a_page_cut_anywhere(by_table: bool) -> None:
    """A part of a page is never taken for the whole."""
    for end in range(len(WHOLE)):
        with pytest.raises(MalformedError):
            DECODERS[by_table].page(WHOLE[:end])


@settings(max_examples=300)
@given(st.data())
def test_garbage_is_our_error(data: st.DataObject) -> None:
    """Whatever bytes come, and however an answer is damaged, the error is of our tree."""
    for whole in (WHOLE, protobuf.pod_event("MODIFIED", wire.pod("a", 3))[4:]):
        damaged = bytearray(whole)
        for _ in range(data.draw(st.integers(0, 4))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        for content in (bytes(damaged), MAGIC + data.draw(st.binary(max_size=40))):
            for decoder in DECODERS.values():
                for decode in (decoder.event, decoder.page, decoder.page_reader().feed):
                    with contextlib.suppress(KubernetesError):
                        decode(content)


def test_no_status() -> None:
    """An error's body that holds no status tells nothing."""
    assert protobuf_status(b"<html>").message == ""
    assert protobuf_status(json.dumps(wire.status(404, "NotFound")).encode()).message == ""
