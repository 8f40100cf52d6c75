"""Each fault does what its name says, to the requests it is meant for."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from osmo_simulator.builders import make_pod
from osmo_simulator.faults import Cut, Drop, Fail, Gone, Hang, Slow, Throttle
from osmo_simulator.server import Simulator
from tests.helpers import eventually
from tests.simulator.harness import NODES, PODS, ApiClient, simulator_client

FAULTS = "/_simulator/faults"


async def test_drop(sim: Simulator, client: ApiClient) -> None:
    """A dropped request breaks before anything is done; the next one works."""
    sim.faults.inject(Drop(verb="create"))
    with pytest.raises(aiohttp.ClientError):
        await client.create_pod("a")
    assert sim.cluster.list("pods") == []
    await client.create_pod("a")


async def test_cut_answer_is_lost_after_the_deed(sim: Simulator, client: ApiClient) -> None:
    """A request whose answer is cut was carried out all the same."""
    sim.faults.inject(Cut(verb="create", after_bytes=0))
    with pytest.raises(aiohttp.ClientPayloadError):
        await client.create_pod("a")
    assert len(sim.cluster.list("pods")) == 1


@pytest.mark.parametrize("after", [1, 10, 100])
async def test_cut_watch(sim: Simulator, client: ApiClient, after: int) -> None:
    """A cut watch gives exactly the first bytes of what it would have given."""
    sim.cluster.create("pods", make_pod("a"))
    async with aiohttp.ClientSession() as session:
        url = f"{sim.url}{PODS}?watch=1&timeoutSeconds=1"
        async with session.get(url) as response:
            whole = await response.content.readline()
        sim.faults.inject(Cut(verb="watch", after_bytes=after))
        async with session.get(url) as response:
            received = await response.content.readexactly(after)
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.content.read(1)
    assert received == whole[:after]


async def test_hanging_request(sim: Simulator, client: ApiClient) -> None:
    """A request that hangs gets no answer and ends when its connection does."""
    sim.faults.inject(Hang(verb="create"))
    request = asyncio.create_task(client.create_pod("a"))
    await eventually(lambda: not sim.faults.waiting())
    assert not request.done()
    sim.disconnect()
    with pytest.raises(aiohttp.ClientError):
        await request
    assert (await client.list()).body["items"] == []


async def test_silent_watch(sim: Simulator, client: ApiClient) -> None:
    """A watch that hangs keeps its connection and gives neither events nor bookmarks."""
    sim.faults.inject(Hang(verb="watch", after_bytes=0))
    async with client.watch(resourceVersion=0, allowWatchBookmarks="true") as watch:
        await client.create_pod("a")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await watch.next()
        sim.disconnect(verb="watch")
        with pytest.raises(aiohttp.ClientError):
            await watch.next()


async def test_slow(client: ApiClient) -> None:
    """A slow answer comes after its delay, which is waited for with the injected sleep."""
    slept: list[float] = []

    async def sleep(delay: float) -> None:
        slept.append(delay)

    async with Simulator(sleep=sleep) as sim, simulator_client(sim) as own:
        sim.faults.inject(Slow(verb="list", delay=30, count=2))
        for _ in range(3):
            assert (await own.list()).code == 200
    assert slept == [30, 30]


async def test_gone_list(sim: Simulator, client: ApiClient) -> None:
    """A list, also a later page of it, can be told that it is too old."""
    for name in ("a", "b"):
        await client.create_pod(name)
    page = await client.list(limit=1)
    sim.faults.inject(Gone(verb="list"))
    reply = await client.list(limit=1, **{"continue": page.body["metadata"]["continue"]})
    assert (reply.code, reply.reason) == (410, "Expired")


async def test_gone_watch_as_status(sim: Simulator, client: ApiClient) -> None:
    """A watch can be told so by the HTTP status."""
    sim.faults.inject(Gone(verb="watch"))
    reply = await client.list(watch="1")
    assert (reply.code, reply.reason) == (410, "Expired")


async def test_gone_watch_as_event(sim: Simulator, client: ApiClient) -> None:
    """A watch can be told so by an event, after which it ends."""
    sim.faults.inject(Gone(verb="watch", as_event=True))
    async with client.watch() as watch:
        (event,) = await watch.rest()
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


async def test_throttle(sim: Simulator, client: ApiClient) -> None:
    """A throttled request is told when to come back."""
    sim.faults.inject(Throttle(retry_after=7))
    reply = await client.list()
    assert (reply.code, reply.reason) == (429, "TooManyRequests")
    assert reply.headers["Retry-After"] == "7"


@pytest.mark.parametrize("code", [401, 403, 500, 503])
async def test_fail(sim: Simulator, client: ApiClient, code: int) -> None:
    """A request fails with the code that was asked for."""
    sim.faults.inject(Fail(code=code))
    reply = await client.list()
    assert (reply.code, reply.body["code"]) == (code, code)


async def test_scope_and_count(sim: Simulator, client: ApiClient) -> None:
    """A fault strikes its verb and resource, as often as it says, and waits otherwise."""
    sim.faults.inject(Fail(verb="list", resource="pods", count=2))
    codes = [(await client.list(path)).code for path in (NODES, PODS, NODES, PODS, PODS)]
    assert codes == [200, 500, 200, 500, 200]
    assert (await client.create_pod("a"))["metadata"]["name"] == "a"


async def test_lasting_fault(sim: Simulator, client: ApiClient) -> None:
    """A fault without a count strikes until the faults are cleared."""
    sim.faults.inject(Fail(count=None))
    assert {(await client.list()).code for _ in range(5)} == {500}
    sim.faults.clear()
    assert (await client.list()).code == 200


async def test_oldest_fault_strikes_first(sim: Simulator, client: ApiClient) -> None:
    """Faults that match the same request strike one after another."""
    sim.faults.inject(Fail(code=500))
    sim.faults.inject(Fail(code=503))
    assert [(await client.list()).code for _ in range(3)] == [500, 503, 200]


async def test_control_endpoint(sim: Simulator, client: ApiClient) -> None:
    """Faults are injected, listed and cleared over HTTP."""
    fault = {"fault": "throttle", "verb": "list", "count": 2, "retry_after": 3}
    assert (await client.send("POST", FAULTS, fault)).code == 201
    assert (await client.list()).code == 429
    (waiting,) = (await client.send("GET", FAULTS)).body
    assert (waiting["fault"], waiting["retry_after"]) == ("throttle", 3)
    assert (await client.send("DELETE", FAULTS)).code == 200
    assert (await client.list()).code == 200
    assert sim.faults.waiting() == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b'{"fault":"odd"}', b'{"fault":"fail","unknown":1}', b'{"fault":"cut"}'],
)
async def test_malformed_fault(client: ApiClient, body: bytes) -> None:
    """What is not a fault is refused with a reason."""
    reply = await client.send("POST", FAULTS, body)
    assert (reply.code, reply.reason) == (400, "BadRequest")
    assert "not a fault" in reply.body["message"]


async def test_unknown_control(client: ApiClient) -> None:
    """Another path under the control endpoint is NotFound."""
    assert (await client.send("POST", "/_simulator/unknown")).code == 404
    assert (await client.send("POST", "/_simulator/restart", {"odd": 1})).code == 400


@pytest.mark.parametrize("over_http", [False, True])
async def test_disconnect(sim: Simulator, client: ApiClient, over_http: bool) -> None:
    """Open watches of one resource break, those of another go on."""
    async with client.watch(resourceVersion=0) as pods, client.watch(NODES) as nodes:
        if over_http:
            path = "/_simulator/disconnect?verb=watch&resource=pods"
            assert (await client.send("POST", path)).code == 202
        else:
            sim.disconnect("watch", "pods")
        with pytest.raises(aiohttp.ClientError):
            await pods.next()
        await client.send("POST", NODES, {"metadata": {"name": "n"}})
        assert await nodes.seen(1) == [("ADDED", "n")]


@pytest.mark.parametrize("compact", [True, False])
async def test_restart(sim: Simulator, client: ApiClient, compact: bool) -> None:
    """A restart keeps the objects and the address, breaks every connection, and can forget the
    history."""
    before = await client.version()
    await client.create_pod("a")
    async with client.watch(resourceVersion=before) as watch:
        assert await watch.seen(1) == [("ADDED", "a")]
        await sim.restart(compact=compact)
        with pytest.raises(aiohttp.ClientError):
            await watch.next()
    async with client.watch(resourceVersion=before, timeoutSeconds=1) as resumed:
        event = await resumed.next()
    assert event["type"] == ("ERROR" if compact else "ADDED")
    assert len((await client.list()).body["items"]) == 1


async def test_restart_over_http(sim: Simulator, client: ApiClient) -> None:
    """A restart over HTTP is answered, refuses connections for a while, and comes back."""
    restart = {"down": 0.1, "compact": False}
    assert (await client.send("POST", "/_simulator/restart", restart)).code == 202

    async def answers() -> bool:
        try:
            return (await client.list()).code == 200
        except aiohttp.ClientConnectionError:
            return False

    refused = False
    while not await answers():
        refused = True
        await asyncio.sleep(0)
    assert refused


async def test_compaction(sim: Simulator, client: ApiClient) -> None:
    """After a compaction, what resumes from before it is too old and what is open goes on."""
    for name in ("a", "b"):
        await client.create_pod(name)
    page = await client.list(limit=1)
    before = page.body["metadata"]["resourceVersion"]
    await client.create_pod("c")
    async with client.watch(resourceVersion=await client.version()) as open_watch:
        assert (await client.send("POST", "/_simulator/compact")).code == 200
        await client.create_pod("d")
        assert await open_watch.seen(1) == [("ADDED", "d")]
    async with client.watch(resourceVersion=before) as watch:
        (event,) = await watch.rest()
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)
    assert event["object"]["reason"] == "Expired"
    for params in (
        {"continue": page.body["metadata"]["continue"]},
        {"resourceVersion": before, "resourceVersionMatch": "Exact"},
    ):
        reply = await client.list(**params)
        assert (reply.code, reply.reason) == (410, "Expired")


ALL: list[tuple[Callable[[], Any], str]] = [
    (Drop, "drop"),
    (lambda: Cut(after_bytes=1), "cut"),
    (Hang, "hang"),
    (Slow, "slow"),
    (Gone, "gone"),
    (Throttle, "throttle"),
    (Fail, "fail"),
]


@pytest.mark.parametrize(("make", "name"), ALL, ids=[name for _, name in ALL])
async def test_every_fault_over_http(
    sim: Simulator, client: ApiClient, make: Callable[[], Any], name: str
) -> None:
    """Every fault can be written as JSON, with its name under `fault`."""
    sim.faults.inject(make())
    (listed,) = (await client.send("GET", FAULTS)).body
    assert listed["fault"] == name
    sim.faults.clear()
    await client.send("POST", FAULTS, json.dumps(listed).encode())
    assert sim.faults.waiting() == [make()]
