"""From JSON to pages, events and errors."""

import contextlib
import itertools
import json
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osmo_listener.errors import (
    ExpiredError,
    KubernetesError,
    MalformedError,
    ServerFailedError,
    StatusError,
)
from osmo_listener.informer.objects import ObjectMeta
from osmo_listener.informer.source import Event, EventType
from osmo_listener.kubernetes.decoding import ListPage, to_version
from osmo_listener.kubernetes.json_decoding import JsonDecoder, json_status
from osmo_listener.listeners.objects import Pod
from tests.listener import wire

decoder = JsonDecoder(Pod)


def test_page() -> None:
    """A page holds slim objects, the list's version and what to ask for next."""
    page = decoder.page(wire.pod_list(7, [wire.pod("a", 3), wire.pod("b", 5)], more="token"))
    assert [(pod.metadata.name, pod.status.phase) for pod in page.objects] == [
        ("a", "Running"),
        ("b", "Running"),
    ]
    assert (page.version, page.more) == (7, "token")


@pytest.mark.parametrize(
    ("beginning", "token"),
    [
        (b'{"metadata":{"resourceVersion":"7","continue":"ab-_="},"items":[{"me', "ab-_="),
        (b'{"metadata":{"resourceVersion":"7","continue":"ab"},"it', ""),
        (b'{"metadata":{"resourceVersion":"7"},"items":[{"a":{"continue":"no"}}]}', ""),
        (b'{"items":[],"metadata":{"continue":"late"}}', ""),
        (b"", ""),
    ],
)
def test_what_follows_a_page(beginning: bytes, token: str) -> None:
    """It is told by the beginning of a page, or by none."""
    reader = decoder.page_reader()
    reader.feed(beginning)
    assert reader.more == token
    reader.feed(b"," + beginning.replace(b"t", b"x"))
    assert reader.more == token or not beginning


ODD = {"metadata": {"name": "odd", "resourceVersion": "3"}, "spec": {"nodeName": 1}}
NESTED = wire.pod("nested", 4) | {"volumes": [{"metadata": {}}, {"metadata": {}}]}


def compact(content: object) -> bytes:
    """As an API server writes it."""
    return json.dumps(content, separators=(",", ":")).encode()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from([wire.pod("a", 3), wire.pod("b", 5), ODD, NESTED, {}]), max_size=8),
    st.lists(st.integers(1, 400), min_size=1),
    st.sampled_from([compact, lambda content: json.dumps(content).encode()]),
)
def test_page_in_pieces(
    pods: list[dict[str, object]], sizes: list[int], encode: Callable[[object], bytes]
) -> None:
    """A page is the same in whatever pieces it comes, and whatever is odd about its objects."""
    metadata = {"resourceVersion": "7", "continue": "token"}
    body = encode({"kind": "PodList", "metadata": metadata, "items": pods})
    reader = decoder.page_reader()

    def read() -> ListPage[Pod]:
        at = 0
        for size in itertools.cycle(sizes):
            reader.feed(body[at : at + size])
            at += size
            if at >= len(body):
                return reader.page()
        raise AssertionError

    try:
        whole = decoder.page(body)
    except MalformedError:
        with pytest.raises(MalformedError):
            read()
    else:
        assert read() == whole
        assert reader.more in {"", "token"}


def test_page_is_decoded_as_it_comes() -> None:
    """Of the objects that are there no text is kept."""
    pods = [wire.pod(f"pod-{number}", number) for number in range(1, 1001)]
    body = compact({"metadata": {"resourceVersion": "9"}, "items": pods})
    reader = decoder.page_reader()
    most = 0
    for at in range(0, len(body), 5000):
        reader.feed(body[at : at + 5000])
        most = max(most, reader.size)
    assert most < 5000 < len(body) / 20
    assert [pod.metadata.name for pod in reader.page().objects] == [
        f"pod-{n}" for n in range(1, 1001)
    ]


class _Unread(msgspec.Struct):
    """A type of somebody else, who reads a part of it himself."""

    metadata: ObjectMeta
    spec: msgspec.Raw


def test_what_refers_to_the_text_keeps_it() -> None:
    """Though the page is given up piece by piece."""
    pods = [{"metadata": wire.pod("a", n)["metadata"], "spec": {"n": n}} for n in range(1, 101)]
    reader = JsonDecoder(_Unread).page_reader()
    body = compact({"metadata": {"resourceVersion": "9"}, "items": pods})
    for at in range(0, len(body), 500):
        reader.feed(body[at : at + 500])
    told = [msgspec.json.decode(each.spec) for each in reader.page().objects]
    assert told == [{"n": n} for n in range(1, 101)]


@pytest.mark.parametrize(
    "body",
    [
        b'{"metadata":{"resourceVersion":"7"},"\\"items":[{"metadata":{}},{"metadata":{}}]}',
        b'{"a":{"items":[{"b":1},{"b":2}]},"metadata":{"resourceVersion":"7"},"items":[]}',
        b'{"items":[{"b":1},{"b":2}],"metadata":{}}',
    ],
)
def test_what_only_looks_like_the_objects(body: bytes) -> None:
    """Objects are those of the list alone."""
    reader = decoder.page_reader()
    reader.feed(body)
    if b"7" in body:
        assert reader.page() == ListPage([], 7, "")
    else:
        with pytest.raises(MalformedError):
            reader.page()


def test_empty_page() -> None:
    """`items` may be null, and `continue` absent."""
    assert decoder.page(b'{"metadata":{"resourceVersion":"7"},"items":null}') == ListPage([], 7, "")


@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED", "DELETED"])
def test_event(kind: str) -> None:
    """An event holds the object and its version, whatever the order of its fields."""
    line = wire.event(kind, wire.pod("a", 3))
    for text in (line, json.dumps(dict(reversed(json.loads(line).items()))).encode()):
        event = decoder.event(text)
        assert (event.type, event.version) == (EventType(kind), 3)
        assert event.object is not None
        assert event.object.status.message == "grün ✓ 🚀"


def test_bookmark() -> None:
    """A bookmark has a version, and an object that no decoder of pods reads."""
    assert decoder.event(wire.bookmark(9)) == Event(EventType.BOOKMARK, 9)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (wire.status(410, "Expired", "too old resource version: 1 (9)"), ExpiredError),
        (wire.status(410, "Gone"), ExpiredError),
        (wire.status(500, "InternalError", "etcdserver: leader changed"), ServerFailedError),
    ],
)
def test_error_event(status: object, error: type[StatusError]) -> None:
    """An ERROR event is raised as the error that its status is."""
    with pytest.raises(error) as raised:
        decoder.event(wire.event("ERROR", status))
    assert type(raised.value) is error


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b'{"type":"ADDED","object":{"metadata":', "cannot be read"),
        (b"[]", "cannot be read"),
        (b'{"type":"ADDED"}', "cannot be read"),
        (b'{"type":"ADDED","object":{}}', "metadata"),
        (b'{"type":"ADDED","object":{"metadata":{"name":1}}}', "name"),
        (b'{"type":"ADDED","object":{"metadata":{"name":"a"}}}', "no number"),
        (b'{"type":"BOOKMARK","object":{"metadata":{}}}', "no number"),
        (
            b'{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"%d"}}}' % 2**63,
            "too large",
        ),
        (
            b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"%s"}}}' % (b"9" * 5000),
            "too large",
        ),
        (b'{"type":"RENAMED","object":{"metadata":{"resourceVersion":"1"}}}', "RENAMED"),
        (b'{"type":"RENAMED","object":{}}', "RENAMED"),
        (b'{"type":"ADDED","object":{"metadata":{"name":"\xc3"}}}', "no number"),
    ],
)
def test_malformed_event(line: bytes, text: str) -> None:
    """What cannot be read is an error that says what is wrong, never skipped."""
    with pytest.raises(MalformedError, match=text):
        decoder.event(line)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{}", b'{"metadata":{"resourceVersion":"x"},"items":[]}', b'{"items":[{}]}'),
        b'{"metadata":{"resourceVersion":"%s"},"items":[]}' % (b"9" * 5000),
    ],
)
def test_malformed_page(body: bytes) -> None:
    """So it is with a list."""
    with pytest.raises(MalformedError):
        decoder.page(body)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_garbage_is_our_error(data: st.DataObject) -> None:
    """Whatever bytes come, and however an event is damaged, the error is of our tree."""
    line = bytearray(wire.event("MODIFIED", wire.pod("a", 3)))
    for _ in range(data.draw(st.integers(0, 4))):
        line[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.integers(0, 255))
    for text in (bytes(line), data.draw(st.binary(max_size=40))):
        for decode in (decoder.event, decoder.page):
            with contextlib.suppress(KubernetesError):
                decode(text)


def test_status() -> None:
    """An error's body tells its reason and how long to wait; a body that is none tells nothing."""
    body = json.dumps(wire.status(429, "TooManyRequests", "slow", retryAfterSeconds=4)).encode()
    status = json_status(body)
    assert (status.reason, status.message) == ("TooManyRequests", "slow")
    assert status.details.retry_after_seconds == 4
    assert json_status(b"<html>").message == ""


@pytest.mark.parametrize("text", ["", "-1", "1.5", "١٢", "abc"])
def test_no_version(text: str) -> None:
    """A version that is no plain number cannot be compared, and is refused."""
    with pytest.raises(MalformedError):
        to_version(text)
