"""Listing and watching over HTTP, against servers that answer as they like."""

import asyncio
import json
from urllib.parse import urlsplit

import msgspec
import pytest

from osmo_listener.errors import (
    ExpiredError,
    ForbiddenError,
    KubernetesError,
    MalformedError,
    NotFoundError,
    SilentError,
    ThrottledError,
    TruncatedError,
    UnauthorizedError,
)
from osmo_listener.informer.source import Event, EventType
from osmo_listener.kubernetes.config import ListWatchConfig, Resource
from osmo_listener.kubernetes.listwatch import ListWatch
from osmo_listener.listeners.objects import Pod
from tests.listener import wire
from tests.listener.wire import (
    CHUNKED,
    LAST_CHUNK,
    PATH,
    Exchange,
    chunk,
    events,
    list_watch,
    paged,
    pages,
    plain,
    query,
    refusal,
)

ADDED, MODIFIED, DELETED, BOOKMARK = EventType


async def test_pages() -> None:
    """All pages come in order, over two connections; only the last one tells the version."""
    async with wire.serve(paged) as server:
        source = list_watch(server, label_selector="app=osmo,tier in (a,b)", field_selector="x=ü")
        assert await pages(source) == [(["a"], None), (["b", "c"], None), (["d"], 9)]
        asked = [query(target) for target in server.targets]
        selectors = {"labelSelector": "app=osmo,tier in (a,b)", "fieldSelector": "x=ü"}
        assert asked == [
            {"limit": "100"} | selectors,
            {"limit": "500", "continue": "1"} | selectors,
            {"limit": "500", "continue": "2"} | selectors,
        ]
        assert server.connections == 2
        source.close()


async def test_the_next_page_is_on_its_way_before_this_one_has_ended() -> None:
    """The server encodes two pages at once."""
    asked = asyncio.Event()

    async def respond(exchange: Exchange) -> None:
        if "continue" in query(exchange.target):
            asked.set()
            await exchange.send(plain(wire.pod_list(9, [wire.pod("b", 2)])))
        else:
            body = wire.pod_list(9, [wire.pod("a", 1)], "more")
            begin, end = body[:-20], body[-20:]
            await exchange.send(CHUNKED + chunk(begin))
            await asked.wait()
            await exchange.send(chunk(end) + LAST_CHUNK)

    async with wire.serve(respond) as server:
        source = list_watch(server)
        async with asyncio.timeout(10):
            assert await pages(source) == [(["a"], None), (["b"], 9)]
        source.close()


@pytest.mark.parametrize(
    "metadata",
    [
        {"resourceVersion": "9", "continue": 'odd " token'},
        {"continue": "odd \u00fc", "resourceVersion": "9"},
    ],
)
async def test_a_page_that_does_not_begin_with_what_follows(metadata: dict[str, str]) -> None:
    """What an API server never sends is decoded first, and then asked for."""

    async def respond(exchange: Exchange) -> None:
        if "continue" in query(exchange.target):
            assert query(exchange.target)["continue"] == metadata["continue"]
            await exchange.send(plain(wire.pod_list(9, [wire.pod("b", 2)])))
        else:
            first = {"items": [wire.pod("a", 1)], "metadata": metadata}
            await exchange.send(plain(json.dumps(first).encode()))

    async with wire.serve(respond) as server:
        source = list_watch(server)
        assert await pages(source) == [(["a"], None), (["b"], 9)]
        source.close()


async def test_objects_are_transformed() -> None:
    """What pages and watches show has gone through the resource's transform."""

    def shout(pod: Pod) -> Pod:
        metadata = msgspec.structs.replace(pod.metadata, name=pod.metadata.name.upper())
        return msgspec.structs.replace(pod, metadata=metadata)

    async def respond(exchange: Exchange) -> None:
        if "watch" in query(exchange.target):
            line = wire.event("DELETED", wire.pod("e", 10))
            await exchange.send(CHUNKED + chunk(line) + LAST_CHUNK)
        else:
            await paged(exchange)

    async with wire.serve(respond) as server:
        resource = Resource(path=PATH, type=Pod, transform=shout)
        source = ListWatch(server.credentials(), resource)
        assert await pages(source) == [(["A"], None), (["B", "C"], None), (["D"], 9)]
        seen: list[Event[Pod]] = []
        await events(source, 9, seen)
        assert [event.object and event.object.metadata.name for event in seen] == ["E"]
        source.close()


async def test_next_page_is_asked_for_while_this_one_is_handled() -> None:
    """The server can work on the next page before the reader is done with this one."""
    async with wire.serve(paged) as server:
        source = list_watch(server)
        listing = source.list()
        await anext(listing)
        for _ in range(100):
            await asyncio.sleep(0)
        assert [query(target).get("continue") for target in server.targets] == [None, "1"]
        await listing.aclose()
        source.close()


async def test_expired_page_makes_the_next_list_larger_steps() -> None:
    """When the server forgets a list before it was read, the next one has fewer, larger pages."""

    async def respond(exchange: Exchange) -> None:
        if int(query(exchange.target)["limit"]) in {500, 2000}:
            await exchange.send(refusal(410, "Expired", "the continue token has expired"))
        else:
            await paged(exchange)

    async with wire.serve(respond) as server:
        source = list_watch(server)
        for _ in range(2):
            with pytest.raises(ExpiredError):
                await pages(source)
        assert len(await pages(source)) == 3
        limits = [query(target)["limit"] for target in server.targets]
        assert limits == ["100", "500", "100", "2000", "100", "8000", "8000"]
        with pytest.raises(ExpiredError):
            await pages(source)
        source.close()


async def test_pages_do_not_grow_for_ever() -> None:
    """However often a list expires, a page stays small enough to be read."""

    async def respond(exchange: Exchange) -> None:
        if "continue" in query(exchange.target):
            await exchange.send(refusal(410, "Expired", "the continue token has expired"))
        else:
            await paged(exchange)

    async with wire.serve(respond) as server:
        source = list_watch(server)
        for _ in range(8):
            with pytest.raises(ExpiredError):
                await pages(source)
        assert query(server.targets[-1])["limit"] == "8000"
        source.close()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refusal(401, "Unauthorized"), UnauthorizedError),
        (refusal(403, "Forbidden", "pods is forbidden"), ForbiddenError),
        (refusal(404, "NotFound"), NotFoundError),
        (refusal(410, "Gone"), ExpiredError),
        (refusal(504, "Timeout", "Timeout: Too large resource version: 9"), ExpiredError),
        (plain(b"<html>", "502 Bad Gateway"), KubernetesError),
        (plain(b"not json\n"), MalformedError),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 99\r\n\r\ncut", ForbiddenError),
    ],
)
async def test_refusals(answer: bytes, error: type[KubernetesError]) -> None:
    """A status becomes its error, for lists and for watches, whatever the body."""

    async def respond(exchange: Exchange) -> None:
        await exchange.send(answer)
        exchange.cut()

    async with wire.serve(respond) as server:
        source = list_watch(server)
        with pytest.raises(error):
            await pages(source)
        source.close()
        source = list_watch(server)
        with pytest.raises(error):
            await events(source, 1, [])
        source.close()


async def test_retry_after() -> None:
    """The header tells how long to wait, and without it the status does."""

    async def respond(exchange: Exchange) -> None:
        header = "Retry-After: 3\r\n" if "watch" in exchange.target else ""
        body = json.dumps(wire.status(429, "TooManyRequests", retryAfterSeconds=5)).encode()
        await exchange.send(plain(body, "429 Too Many Requests", header))

    async with wire.serve(respond) as server:
        source = list_watch(server)
        with pytest.raises(ThrottledError) as raised:
            await pages(source)
        assert raised.value.retry_after == 5
        with pytest.raises(ThrottledError) as raised:
            await events(source, 1, [])
        assert raised.value.retry_after == 3
        source.close()


def empty_namespace(answer: bytes) -> wire.Respond:
    async def respond(exchange: Exchange) -> None:
        is_list = urlsplit(exchange.target).path == PATH
        await exchange.send(plain(wire.pod_list(9, [])) if is_list else answer)

    return respond


async def test_absent_namespace() -> None:
    """A namespace that does not exist is an error, not an empty cluster."""
    respond = empty_namespace(refusal(404, "NotFound", 'namespaces "osmo" not found'))
    async with wire.serve(respond) as server:
        source = list_watch(server)
        with pytest.raises(NotFoundError, match="there is no namespace 'osmo' in the cluster"):
            await pages(source)
        source.close()


@pytest.mark.parametrize(
    "answer", [plain(b"{}"), refusal(403, "Forbidden")], ids=["exists", "may-not-ask"]
)
async def test_empty_namespace(answer: bytes) -> None:
    """An empty namespace that exists, or of which we may not know, is empty; it is asked once."""
    async with wire.serve(empty_namespace(answer)) as server:
        source = list_watch(server)
        assert await pages(source) == [([], 9)]
        assert await pages(source) == [([], 9)]
        assert server.targets.count("/api/v1/namespaces/osmo") == 1
        source.close()


async def test_watch() -> None:
    """A watch asks for bookmarks and an end, shows events in order, and ends when it ends."""

    async def respond(exchange: Exchange) -> None:
        lines = [wire.event("ADDED", wire.pod("a", 6)), wire.bookmark(8)]
        await exchange.send(CHUNKED + chunk(b"".join(lines)) + LAST_CHUNK)

    async with wire.serve(respond) as server:
        source = list_watch(server)
        seen: list[Event[Pod]] = []
        await events(source, 5, seen)
        assert [(event.type, event.version) for event in seen] == [(ADDED, 6), (BOOKMARK, 8)]
        assert query(server.targets[0]) == {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": "5",
            "timeoutSeconds": "450",
        }
        source.close()


async def test_events_before_an_error_count() -> None:
    """What stands before an ERROR event, or before garbage, in the same bytes is not lost."""

    async def respond(exchange: Exchange) -> None:
        bad = wire.event("ERROR", wire.status(410, "Expired"))
        if query(exchange.target)["resourceVersion"] == "2":
            bad = b'{"type":"RENAMED","object":{}}\n'
        good = wire.event("ADDED", wire.pod("a", 6))
        await exchange.send(CHUNKED + chunk(good + bad + good))

    async with wire.serve(respond) as server:
        source = list_watch(server)
        for version, error in ((1, ExpiredError), (2, MalformedError)):
            seen: list[Event[Pod]] = []
            with pytest.raises(error):
                await events(source, version, seen)
            assert [event.version for event in seen] == [6]
        source.close()


async def test_watch_that_ends_within_an_event() -> None:
    """Half an event at the proper end of an answer is an error, after the whole ones before it."""
    line = wire.event("ADDED", wire.pod("a", 6))

    async def respond(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + chunk(line + line[:-1]) + LAST_CHUNK)

    async with wire.serve(respond) as server:
        source = list_watch(server)
        seen: list[Event[Pod]] = []
        with pytest.raises(TruncatedError):
            await events(source, 1, seen)
        assert [event.version for event in seen] == [6]
        source.close()


async def test_silent_watch() -> None:
    """A watch on which nothing comes, not even half an event, is given up."""

    async def respond(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + chunk(b'{"type":'))

    async with wire.serve(respond) as server:
        source = list_watch(server, ListWatchConfig(silence=0.05))
        with pytest.raises(SilentError):
            await events(source, 1, [])


async def test_huge_event() -> None:
    """An event of 10 MiB in many pieces is one event; one over the limit is refused in time."""
    big = wire.pod("a", 6)
    big["spec"] = {"padding": "x" * (10 * 1024 * 1024)}
    line = wire.event("ADDED", big)

    async def respond(exchange: Exchange) -> None:
        await exchange.send(CHUNKED + chunk(line) + LAST_CHUNK)

    async with wire.serve(respond) as server:
        source = list_watch(server)
        seen: list[Event[Pod]] = []
        await events(source, 1, seen)
        assert [event.version for event in seen] == [6]
        source.close()
        source = list_watch(server, ListWatchConfig(max_event_bytes=1024 * 1024))
        with pytest.raises(MalformedError, match="over 1048576 bytes"):
            await events(source, 1, [])


@pytest.mark.parametrize(
    ("path", "namespace"),
    [
        ("/api/v1/namespaces/osmo/pods", "osmo"),
        ("/api/v1/pods", None),
        ("/api/v1/namespaces", None),
        ("/api/v1/nodes", None),
        ("/apis/events.k8s.io/v1/namespaces/a/events", "a"),
    ],
)
def test_namespace_of_a_path(path: str, namespace: str | None) -> None:
    """The namespace of a resource is read from its path."""
    assert Resource(path=path, type=Pod).namespace == namespace


async def test_a_resource_that_the_server_does_not_have_is_named() -> None:
    """The server's own text does not: a wrong version, or a definition that is not installed, has
    to be found among several watches. So of a list as of a watch."""
    text = "the server could not find the requested resource"

    async def respond(exchange: Exchange) -> None:
        await exchange.send(refusal(404, "NotFound", text))

    async with wire.serve(respond) as server:
        source = list_watch(server)
        for ask in (source.list(), source.watch(7)):
            with pytest.raises(NotFoundError, match=rf"no {PATH}: {text}"):
                await anext(ask)
        source.close()
