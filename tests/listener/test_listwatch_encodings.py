"""What the server is asked for, and what it answers."""

import asyncio
import json

import msgspec
import pytest

from osmo_listener.errors import ExpiredError, ForbiddenError, MalformedError
from osmo_listener.informer.source import Event
from osmo_listener.kubernetes.config import Encoding, ListWatchConfig, Resource
from osmo_listener.kubernetes.listwatch import ListWatch
from osmo_listener.listeners.objects import Pod, PodMetadata
from tests.listener import protobuf, wire
from tests.listener.wire import LAST_CHUNK, Exchange, chunk, events, list_watch, pages, plain, query

BOTH = "application/vnd.kubernetes.protobuf,application/json"


async def paged(exchange: Exchange) -> None:
    """Two pages, the second one of a server that has no protobuf."""
    assert f"\r\nAccept: {BOTH}\r\n" in exchange.head
    if "continue" in query(exchange.target):
        await exchange.send(plain(wire.pod_list(9, [wire.pod("b", 2)])))
    else:
        body = protobuf.pod_list(9, [wire.pod("a", 1)], "more")
        await exchange.send(plain(body, headers=protobuf.HEADER))


async def test_each_answer_says_what_it_is() -> None:
    """Servers of one cluster may differ: each answer is read as what it says that it is."""
    async with wire.serve(paged) as server:
        source = list_watch(server)
        assert await pages(source) == [(["a"], None), (["b"], 9)]
        source.close()


async def test_objects_are_read_while_their_page_arrives() -> None:
    """A page is not put together first."""
    read = asyncio.Event()

    def note(pod: Pod) -> Pod:
        read.set()
        return pod

    async def respond(exchange: Exchange) -> None:
        body = protobuf.pod_list(9, [wire.pod("a", 1), wire.pod("b", 2)])
        await exchange.send(protobuf.CHUNKED + chunk(body[:-20]))
        await read.wait()
        await exchange.send(chunk(body[-20:]) + LAST_CHUNK)

    async with wire.serve(respond) as server:
        resource = Resource(path=wire.PATH, type=Pod, transform=note)
        source = ListWatch(server.credentials(), resource)
        async with asyncio.timeout(10):
            assert await pages(source) == [(["a", "b"], 9)]
        source.close()


async def test_a_page_that_ends_early() -> None:
    """Is an error, whatever was read of it."""

    async def respond(exchange: Exchange) -> None:
        body = protobuf.pod_list(9, [wire.pod("a", 1), wire.pod("b", 2)])
        await exchange.send(protobuf.CHUNKED + chunk(body[:-20]) + LAST_CHUNK)

    async with wire.serve(respond) as server:
        source = list_watch(server)
        with pytest.raises(MalformedError, match="ends within"):
            await pages(source)
        source.close()


async def test_json_alone() -> None:
    """Who wants JSON gets it."""

    async def respond(exchange: Exchange) -> None:
        assert "\r\nAccept: application/json\r\n" in exchange.head
        await exchange.send(plain(wire.pod_list(9, [wire.pod("b", 2)])))

    async with wire.serve(respond) as server:
        source = list_watch(server, ListWatchConfig(encoding=Encoding.JSON))
        assert await pages(source) == [(["b"], 9)]
        source.close()


class Other(msgspec.Struct):
    """An object of a kind that the listeners do not know."""

    metadata: PodMetadata


async def test_objects_without_a_message() -> None:
    """A struct whose fields are not known in protobuf is read from JSON."""

    async def respond(exchange: Exchange) -> None:
        assert "\r\nAccept: application/json\r\n" in exchange.head
        await exchange.send(plain(wire.pod_list(9, [wire.pod("b", 2)])))

    async with wire.serve(respond) as server:
        source = ListWatch(server.credentials(), Resource(path=wire.PATH, type=Other))
        (page,) = [page async for page in source.list()]
        assert [item.metadata.name for item in page.objects] == ["b"]
        source.close()


async def test_refusals() -> None:
    """An error is told in protobuf too, by its status, its text and its reason."""
    for code, reason, error in ((410, "Expired", ExpiredError), (403, "Forbidden", ForbiddenError)):
        body = protobuf.body(protobuf.status(wire.status(code, reason, "not now")))
        answer = plain(body, f"{code} {reason}", protobuf.HEADER)

        async def respond(exchange: Exchange, answer: bytes = answer) -> None:
            await exchange.send(answer)

        async with wire.serve(respond) as server:
            source = list_watch(server)
            with pytest.raises(error, match="not now"):
                await pages(source)
            with pytest.raises(error, match="not now"):
                await events(source, 1, [])
            source.close()


async def test_an_event_without_end() -> None:
    """An event that is longer than allowed ends the watch; those before it are told."""
    large = wire.pod("b", 12) | {"spec": {"nodeName": "n" * 3000}}

    async def respond(exchange: Exchange) -> None:
        whole = protobuf.pod_event("ADDED", wire.pod("a", 11))
        cut = protobuf.pod_event("ADDED", large)[:-10]
        await exchange.send(protobuf.CHUNKED + chunk(whole + cut))

    async with wire.serve(respond) as server:
        source = list_watch(server, ListWatchConfig(max_event_bytes=2000))
        told: list[Event[Pod]] = []
        with pytest.raises(MalformedError, match="max_event_bytes"):
            await events(source, 10, told)
        assert [event.version for event in told] == [11]
        source.close()


async def test_protobuf_that_is_none() -> None:
    """An answer that is not what it says is an error of the server."""

    async def respond(exchange: Exchange) -> None:
        body = json.dumps({"metadata": {"resourceVersion": "1"}}).encode()
        await exchange.send(plain(body, headers=protobuf.HEADER))

    async with wire.serve(respond) as server:
        source = list_watch(server)
        with pytest.raises(MalformedError, match="does not begin"):
            await pages(source)
        source.close()
