"""One object that cannot be read is left out and named; its page and its watch go on."""

import json
from typing import Any

import pytest

from osmo_listener.errors import MalformedError
from osmo_listener.informer.source import Event, EventType, Page
from osmo_listener.informer.store import ChangeType, Store
from osmo_listener.kubernetes.decoding import OddObjectError
from osmo_listener.kubernetes.json_decoding import JsonDecoder
from osmo_listener.kubernetes.protobuf_decoding import ProtobufDecoder
from osmo_listener.kubernetes.protobuf_reader import MAGIC
from osmo_listener.listeners.objects import Event as NotedEvent
from osmo_listener.listeners.objects import Pod
from osmo_protos import kubernetes_pb2 as pb
from tests.helpers import eventually
from tests.listener import wire
from tests.listener.harness import make_pod, running

DECODER = JsonDecoder(Pod)


def listed(*items: dict[str, Any]) -> bytes:
    """A page."""
    return json.dumps({"metadata": {"resourceVersion": "100"}, "items": items}).encode()


def event(kind: str, item: dict[str, Any]) -> bytes:
    """A line of a watch."""
    return json.dumps({"type": kind, "object": item}).encode()


def pod(name: str, version: int = 90, **status: Any) -> dict[str, Any]:
    """A pod whose status may be odd."""
    return {**wire.pod(name, version), "status": {"phase": "Running", **status}}


NULLS: tuple[dict[str, Any], ...] = (
    {"containerStatuses": None},
    {"initContainerStatuses": None, "conditions": None},
    {"message": None, "podIP": None},
    {"containerStatuses": [None, {"name": "c", "state": None}]},
)
ODD: tuple[dict[str, Any], ...] = (
    {"containerStatuses": "many"},
    {"phase": 7},
    {"conditions": [{"type": ["Ready"]}]},
    {"containerStatuses": {"name": "c"}},
)


@pytest.mark.parametrize("status", NULLS)
def test_a_null_is_none(status: dict[str, Any]) -> None:
    """Where a list or a text was promised; of a page as of an event."""
    page = DECODER.page(listed(pod("a"), pod("b", 91, **status), pod("c", 92)))
    assert [each.metadata.name for each in page.objects] == ["a", "b", "c"]
    assert page.odd == []
    told = DECODER.event(event("MODIFIED", pod("b", 91, **status)))
    assert told.object is not None
    assert told.object.status.phase == "Running"


@pytest.mark.parametrize("status", ODD)
def test_what_cannot_be_read_is_left_out(status: dict[str, Any]) -> None:
    """By name, with what is wrong with it; the others are told."""
    page = DECODER.page(listed(pod("a"), pod("odd", 91, **status), pod("c", 92)))
    assert [each.metadata.name for each in page.objects] == ["a", "c"]
    assert (page.version, page.more) == (100, "")
    ((key, why),) = page.odd
    assert key == "osmo/odd"
    assert "Expected" in why
    with pytest.raises(OddObjectError, match="osmo/odd, which cannot be read") as caught:
        DECODER.event(event("ADDED", pod("odd", 91, **status)))
    assert caught.value.version == 91


@pytest.mark.parametrize("status", ODD)
def test_what_cannot_be_read_is_gone_all_the_same(status: dict[str, Any]) -> None:
    """Its metadata says whose end it is; what was known of it is its last state."""
    store: Store[Pod] = Store()
    store.apply([DECODER.event(event("ADDED", pod("odd", 90)))])
    with pytest.raises(OddObjectError) as caught:
        DECODER.event(event("DELETED", pod("odd", 91, **status)))
    assert (caught.value.type, caught.value.version) == (EventType.DELETED, 91)
    ((kind, old, new, version),) = store.apply([Event(EventType.DELETED, 91, None, "osmo/odd")])
    assert (kind, new, version) == (ChangeType.VANISHED, None, 91)
    assert old is not None
    assert (old.metadata.name, old.status.phase) == ("odd", "Running")


def test_the_end_of_an_older_one_is_not_that_of_its_successor() -> None:
    """Nor is there anything to tell of what was never known."""
    store: Store[Pod] = Store()
    store.apply([DECODER.event(event("ADDED", pod("odd", 95)))])
    gone = Event[Pod](EventType.DELETED, 91, None, "osmo/odd")
    assert store.apply([gone, gone._replace(unread="osmo/other")]) == []
    assert len(store) == 1


def test_text_that_is_none_is_replaced() -> None:
    """As the API server does where it writes JSON itself."""
    line = event("ADDED", pod("a", 91, message="@")).replace(b"@", b"\xff")
    told = DECODER.event(line)
    assert told.object is not None
    assert told.object.status.message == "\ufffd"
    page = DECODER.page(listed(pod("a", message="@"), pod("b")).replace(b"@", b"\xff"))
    assert [each.metadata.name for each in page.objects] == ["a", "b"]


@pytest.mark.parametrize("version", [None, "", "x", "-5", 91, 9.5, [91]])
def test_what_has_no_version_is_left_out(version: Any) -> None:
    """Of a list, by its name: nothing that is known can be compared with it. An event without one
    has no place among the others, so it is followed by a list."""
    odd = pod("odd")
    odd["metadata"]["resourceVersion"] = version
    page = DECODER.page(listed(pod("a"), odd, pod("c", 92)))
    assert [each.metadata.name for each in page.objects] == ["a", "c"]
    ((key, _),) = page.odd
    assert key == "osmo/odd"
    with pytest.raises(MalformedError):
        DECODER.event(event("MODIFIED", odd))


@pytest.mark.parametrize(
    "half", [r"\ud800", r"\udfff", r"\ud800x", r"\ud800\ud800", r"\udc00\ud83d"]
)
def test_half_a_character_is_replaced(half: str) -> None:
    """As Go does it where a text has half of a surrogate pair; whole pairs stay."""
    line = event("ADDED", pod("a", 91, message="@ \U0001f600")).replace(b"@", half.encode())
    told = DECODER.event(line)
    assert told.object is not None
    assert told.object.status.message.strip("x\ufffd") == " \U0001f600"
    page = DECODER.page(listed(pod("a", message="@"), pod("b")).replace(b"@", half.encode()))
    assert [each.metadata.name for each in page.objects] == ["a", "b"]


@pytest.mark.parametrize("item", [{}, {"metadata": {}}, {"metadata": {"name": 7}}, 7, None])
def test_what_has_no_name_is_no_object(item: Any) -> None:
    """Nobody could say what was left out."""
    with pytest.raises(MalformedError, match=r"cannot be read|no number"):
        DECODER.page(listed(pod("a"), item))


def test_what_is_left_out_stays_as_it_was() -> None:
    """An object that is there and cannot be read any more has not vanished."""
    store: Store[Pod] = Store()
    store.apply_page(Page([make_pod("a", version=1), make_pod("b", version=2)], None))
    store.finish_list(10)
    store.apply_page(Page([make_pod("a", version=1)], None, (), ["osmo/b"]))
    assert store.finish_list(20) == []
    assert store.apply([Event(EventType.MODIFIED, 21, None, "osmo/b")]) == []
    assert len(store) == 2


def noted(name: str, seconds: int) -> Any:
    """An Event whose time may be none that can be written."""
    item = pb.Event()
    item.metadata.name, item.metadata.namespace = name, "osmo"
    item.metadata.resourceVersion = "91"
    item.lastTimestamp.seconds = seconds
    return item


def in_protobuf(content: bytes) -> bytes:
    """A body."""
    return MAGIC + pb.Unknown(raw=content).SerializeToString()


def test_the_same_in_protobuf() -> None:
    """Of a page, of an event, and of the end."""
    decoder = ProtobufDecoder(NotedEvent)
    far = 2**60
    items = [noted("a", 5), noted("odd", far), noted("c", 5)]
    meta = pb.ListMeta(resourceVersion="100").SerializeToString()
    content = b"\x0a" + bytes([len(meta)]) + meta
    unversioned = noted("unversioned", 0)
    unversioned.metadata.resourceVersion = ""
    for item in (*items, unversioned):
        data = item.SerializeToString()
        content += b"\x12" + bytes([len(data)]) + data
    page = decoder.page(in_protobuf(content))
    assert [each.metadata.name for each in page.objects] == ["a", "c"]
    assert [odd.key for odd in page.odd] == ["osmo/odd", "osmo/unversioned"]

    def frame(kind: str) -> bytes:
        watched = pb.WatchEvent(type=kind)
        watched.object.raw = in_protobuf(noted("odd", far).SerializeToString())
        data: bytes = watched.SerializeToString()
        return data

    with pytest.raises(OddObjectError, match="osmo/odd") as caught:
        decoder.event(frame("ADDED"))
    assert caught.value.version == 91
    with pytest.raises(OddObjectError, match="osmo/odd") as caught:
        decoder.event(frame("DELETED"))
    assert (caught.value.type, caught.value.version) == (EventType.DELETED, 91)


@pytest.mark.parametrize("depth", [500, 5_000, 100_000])
@pytest.mark.parametrize("field", ["conditions", "somethingElse"])
def test_what_nests_too_deeply_is_left_out(field: str, depth: int) -> None:
    """Whether it is read or not; what stands beside it on its page, or comes behind it, is told."""
    deep = '[{"a":' * depth + r'"]}\"[{"' + "}]" * depth
    odd = pod("odd", 91, **{field: "@"})

    def deepened(body: bytes) -> bytes:
        return body.replace(b'"@"', deep.encode())

    page = DECODER.page(deepened(listed(pod("a"), odd, pod("c", 92, message="[[[{{{"))))
    assert [each.metadata.name for each in page.objects] == ["a", "c"]
    assert [each.key for each in page.odd] == ["osmo/odd"]
    assert (page.version, page.objects[1].status.message) == (100, "[[[{{{")
    with pytest.raises(OddObjectError, match="osmo/odd") as caught:
        DECODER.event(deepened(event("MODIFIED", odd)))
    assert caught.value.version == 91


def test_what_nests_too_deeply_and_is_no_json_is_none() -> None:
    """Cut off in its depths, or with an end too many."""
    for body in (b'{"items":' + b"[" * 5_000, b"[" * 5_000 + b"]" * 5_001, b"[" * 5_000 + b'"'):
        with pytest.raises(MalformedError):
            DECODER.page(body)


async def test_its_page_and_its_watch_go_on(caplog: pytest.LogCaptureFixture) -> None:
    """It is named once in the log, and counted each time."""
    odd = pod("odd", 91, phase=7)
    changed = pod("odd", 101, phase=7)

    async def respond(exchange: wire.Exchange) -> None:
        asked = wire.query(exchange.target)
        if "watch" not in asked:
            page = wire.pod_list(100, [wire.pod("a", 90), odd, wire.pod("c", 92)])
            await exchange.send(wire.plain(page))
        elif asked["resourceVersion"] == "100":
            events = wire.event("MODIFIED", changed) + wire.event("ADDED", wire.pod("d", 102))
            await exchange.send(wire.CHUNKED + wire.chunk(events))

    async with wire.serve(respond) as server:
        source = wire.list_watch(server)
        async with running(source) as (informer, recorder):
            await eventually(lambda: "d" in recorder.pods)
            assert recorder.pods.keys() == {"a", "c", "d"}
            assert (informer.status().left_out, informer.status().lists) == (2, 1)
        source.close()
    (record,) = [each for each in caplog.records if "left out" in each.getMessage()]
    assert record.getMessage().startswith("osmo/odd at ")
