"""Lists and watches that are cut at every byte, and lists that are streams."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest

from osmo_listener.errors import SilentError, TruncatedError
from osmo_listener.informer import Store
from osmo_listener.kubernetes.config import ListMode, ListWatchConfig
from osmo_listener.listeners.objects import Pod
from tests.helpers import eventually
from tests.listener import protobuf, wire
from tests.listener.harness import INSTANT, running
from tests.listener.wire import (
    CHUNKED,
    LAST_CHUNK,
    Exchange,
    chunk,
    list_watch,
    paged,
    pages,
    plain,
    query,
    refusal,
)

HISTORY = [
    wire.event("ADDED", wire.pod("c", 11)),
    wire.event("MODIFIED", wire.pod("a", 12, "Succeeded")),
    wire.bookmark(13),
    wire.event("DELETED", wire.pod("b", 14)),
    wire.event("ADDED", wire.pod("d", 15)),
]


class Encoded(NamedTuple):
    """How a server says it."""

    header: str
    chunked: bytes
    pod_list: Callable[[int, list[dict[str, Any]]], bytes]
    event: Callable[[bytes], bytes]


JSON = Encoded("", CHUNKED, wire.pod_list, lambda line: line)
PROTOBUF = Encoded(protobuf.HEADER, protobuf.CHUNKED, protobuf.pod_list, protobuf.of_line)
ENCODINGS = pytest.mark.parametrize(
    "encoded", [pytest.param(JSON, id="json"), pytest.param(PROTOBUF, id="protobuf")]
)


@ENCODINGS
async def test_cut_at_every_byte(encoded: Encoded) -> None:
    """Wherever the connection of a watch ends, in the head, between bytes of one character or in
    the framing, the next watch goes on from the last whole event: nothing is lost or told twice."""
    versions = [11, 12, 13, 14, 15]
    history = [*map(encoded.event, HISTORY)]
    stream = encoded.chunked + b"".join(map(chunk, history)) + LAST_CHUNK

    async def respond(exchange: Exchange, cut: int) -> None:
        asked = query(exchange.target)
        if asked.get("limit") == "1":
            await exchange.send(plain(encoded.pod_list(15, []), headers=encoded.header))
        elif "watch" not in asked:
            listed = encoded.pod_list(10, [wire.pod("a", 1), wire.pod("b", 2)])
            await exchange.send(plain(listed, headers=encoded.header))
        elif asked["resourceVersion"] == "10" and exchange.connection == 0:
            await exchange.send(stream[:cut])
            exchange.cut()
        else:
            after = int(asked["resourceVersion"])
            rest = [event for event, at in zip(history, versions, strict=True) if at > after]
            await exchange.send(encoded.chunked + (chunk(b"".join(rest)) if rest else b""))

    for cut in range(len(stream)):
        async with wire.serve(partial(respond, cut=cut)) as server:
            source = list_watch(server)
            async with running(source, INSTANT) as (_, recorder):
                told = recorder.changes
                await eventually(lambda: told and told[-1].resource_version == 15)  # noqa: B023
            source.close()
            assert [change.resource_version for change in recorder.changes] == [
                1,
                2,
                11,
                12,
                14,
                15,
            ]
            assert recorder.pods.keys() == {"a", "c", "d"}
            lists = [query(target) for target in server.targets if "watch" not in target]
            assert sum(asked["limit"] != "1" for asked in lists) == 1


@ENCODINGS
async def test_list_cut_at_every_byte(encoded: Encoded) -> None:
    """Wherever the connection of a list ends, nothing half-read is taken for the whole."""
    stream = plain(encoded.pod_list(10, [wire.pod("a", 1)]), headers=encoded.header)

    async def respond(exchange: Exchange, cut: int) -> None:
        await exchange.send(stream[:cut])
        exchange.cut()

    for cut in range(0, len(stream), 3):
        async with wire.serve(partial(respond, cut=cut)) as server:
            with pytest.raises(TruncatedError):
                await pages(list_watch(server))


STREAM = ListWatchConfig(mode=ListMode.STREAM, silence=0.2)


@ENCODINGS
async def test_stream(encoded: Encoded) -> None:
    """Initial events become pages; their versions do not count, the closing bookmark's does."""

    async def respond(exchange: Exchange) -> None:
        lines = [
            wire.event("ADDED", wire.pod("a", 90)),
            wire.event("ADDED", wire.pod("b", 3)),
            wire.bookmark(100, **{"k8s.io/initial-events-end": "true"}),
        ]
        first, *rest = map(encoded.event, lines)
        await exchange.send(encoded.chunked + chunk(first) + chunk(b"".join(rest)))

    async with wire.serve(respond) as server:
        source = list_watch(server, STREAM)
        listed = await pages(source)
        assert [name for names, _ in listed for name in names] == ["a", "b"]
        assert [version for _, version in listed][-1] == 100
        assert all(version is None for _, version in listed[:-1])
        assert query(server.targets[0])["sendInitialEvents"] == "true"
        source.close()


@pytest.mark.parametrize("together", [True, False])
async def test_stream_with_changes_before_its_end(together: bool) -> None:
    """The server may delete and replace what it has shown before it marks the end, be it in one
    chunk or in many: what is gone by then is not taken for alive."""
    lines = [
        wire.event("ADDED", wire.pod("a", 1)),
        wire.event("ADDED", wire.pod("b", 2)),
        wire.event("ADDED", wire.pod("c", 3)),
        wire.event("DELETED", wire.pod("a", 11)),
        wire.event("DELETED", wire.pod("b", 12)),
        wire.event("ADDED", wire.pod("b", 13)),
        wire.bookmark(13, **{"k8s.io/initial-events-end": "true"}),
        wire.event("DELETED", wire.pod("c", 14)),
    ]

    async def respond(exchange: Exchange) -> None:
        if "sendInitialEvents" not in exchange.target:
            await exchange.send(CHUNKED + chunk(lines[-1]))
            return
        await exchange.send(CHUNKED)
        for part in [b"".join(lines)] if together else lines:
            await exchange.send(chunk(part))

    async with wire.serve(respond) as server:
        source = list_watch(server, STREAM)
        async with running(source, INSTANT) as (informer, recorder):
            await informer.synced()
            told = recorder.changes
            await eventually(lambda: told and told[-1].resource_version == 14)
            assert recorder.pods.keys() == {"b"}
            assert [item.metadata.name for item in informer.store.values()] == ["b"]
        source.close()


@pytest.mark.parametrize("together", [True, False])
async def test_stream_that_holds_odd_objects(together: bool) -> None:
    """What cannot be read ends no list: what follows it is listed, and what was known of it stays,
    unless it goes."""
    end = wire.bookmark(100, **{"k8s.io/initial-events-end": "true"})
    known = [wire.event("ADDED", wire.pod(name, 1)) for name in "abcd"]
    odd = [wire.event("ADDED", {**wire.pod(name, 50), "status": 7}) for name in "ab"]
    gone = wire.event("DELETED", {**wire.pod("a", 60), "status": 7})
    lists = iter([[*known, end], [*odd, known[2], gone, end]])

    async def respond(exchange: Exchange) -> None:
        await exchange.send(CHUNKED)
        lines = next(lists)
        for part in [b"".join(lines)] if together else lines:
            await exchange.send(chunk(part))

    async with wire.serve(respond) as server:
        source = list_watch(server, STREAM)
        store: Store[Pod] = Store()
        for _ in range(2):
            store.start_list()
            async for page in source.list():
                store.apply_page(page)
            assert page.version == 100
            store.finish_list(100)
        assert [item.metadata.name for item in store.values()] == ["b", "c"]
        assert source.left_out == 2
        source.close()


async def test_stream_that_ends_too_early() -> None:
    """Initial events whose end was not marked are no list: it is begun anew, and what the first try
    showed and the second one no longer holds has vanished."""
    end = wire.bookmark(100, **{"k8s.io/initial-events-end": "true"})

    async def respond(exchange: Exchange) -> None:
        if "sendInitialEvents" not in exchange.target:
            await exchange.send(CHUNKED)
        elif exchange.target in server.targets[:-1]:
            await exchange.send(CHUNKED + chunk(wire.event("ADDED", wire.pod("b", 3)) + end))
        else:
            await exchange.send(CHUNKED + chunk(wire.event("ADDED", wire.pod("a", 2))) + LAST_CHUNK)

    async with wire.serve(respond) as server:
        source = list_watch(server, STREAM)
        async with running(source, INSTANT) as (informer, recorder):
            await informer.synced()
            assert recorder.syncs == [(100, 1)]
            assert recorder.pods.keys() == {"b"}
            assert informer.status().failures == {"TruncatedError": 1}
        source.close()


@pytest.mark.parametrize("code", [400, 422])
async def test_stream_that_is_refused(code: int) -> None:
    """A server without streaming lists is asked for pages, now and from then on."""

    async def respond(exchange: Exchange) -> None:
        if "watch" in query(exchange.target):
            await exchange.send(refusal(code, "Invalid", "sendInitialEvents is forbidden"))
        else:
            await paged(exchange)

    async with wire.serve(respond) as server:
        source = list_watch(server, STREAM)
        assert len(await pages(source)) == 3
        assert len(await pages(source)) == 3
        assert sum("watch" in target for target in server.targets) == 1
        source.close()


async def test_stream_whose_end_is_never_marked() -> None:
    """A server that takes no notice of the request for initial events is found out by its silence,
    and then asked for pages."""

    async def respond(exchange: Exchange) -> None:
        if "watch" in query(exchange.target):
            await exchange.send(CHUNKED + chunk(wire.event("ADDED", wire.pod("a", 1))))
        else:
            await paged(exchange)

    async with wire.serve(respond) as server:
        source = list_watch(server, ListWatchConfig(mode=ListMode.STREAM, silence=0.05))
        with pytest.raises(SilentError):
            await pages(source)
        assert len(await pages(source)) == 3
        source.close()
