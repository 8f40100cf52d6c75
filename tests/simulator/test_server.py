"""What the simulator does besides answering: connections, limits, the token, slow watchers."""

import asyncio
import re
import socket
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from osmo_simulator.__main__ import Settings, run
from osmo_simulator.builders import make_pod
from osmo_simulator.cluster import Cluster, ClusterConfig
from osmo_simulator.scenario import Scenario, ScenarioConfig
from osmo_simulator.serve import serve
from osmo_simulator.server import Simulator, SimulatorConfig
from osmo_transport.errors import AddressInUseError, UsageError
from tests.helpers import eventually
from tests.simulator.harness import PODS, ApiClient, simulator_client


async def test_port_in_use() -> None:
    """A port that is taken is named, with what to do."""
    async with Simulator() as first:
        port = int(first.url.rsplit(":", 1)[1])
        with pytest.raises(AddressInUseError, match=f"{port}.*choose another"):
            async with Simulator(SimulatorConfig(port=port)):
                pass


@pytest.mark.parametrize("listen", ["a..b:1", f"{'a' * 64}.b:1", "192.0.2.1:0"])
async def test_an_address_that_is_not_of_this_machine(listen: str) -> None:
    """Is refused, and named."""
    with pytest.raises(UsageError, match=re.escape(listen)):
        await run(Settings(listen=listen), asyncio.Event())


async def test_port_is_free_afterwards() -> None:
    """A closed simulator leaves its port and its tasks behind for nobody."""
    before = asyncio.all_tasks()
    async with Simulator() as sim, simulator_client(sim) as client:
        port = int(sim.url.rsplit(":", 1)[1])
        async with client.watch(resourceVersion=0):
            pass
    async with Simulator(SimulatorConfig(port=port)) as again:
        assert again.url == sim.url
    assert asyncio.all_tasks() == before


async def test_close_ends_open_watches() -> None:
    """Closing does not wait for watches."""
    async with Simulator() as sim:
        with socket.create_connection((sim.config.host, int(sim.url.rsplit(":", 1)[1]))) as raw:
            raw.sendall(f"GET {PODS}?watch=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            await asyncio.to_thread(raw.recv, 65536)
            started = asyncio.get_running_loop().time()
            await sim.__aexit__(None, None, None)
            assert asyncio.get_running_loop().time() - started < 0.9


async def test_token() -> None:
    """Without the right token nothing is told; health is for everybody."""
    async with Simulator(SimulatorConfig(token="secret")) as sim:
        async with simulator_client(sim) as client:
            assert (await client.list()).code == 200
            for header in ("", "Bearer wrong", "secret", "Bearer secret2"):
                for path in (PODS, "/version", "/_simulator/faults", "/unknown"):
                    reply = await client.send("GET", path, Authorization=header)
                    assert (reply.code, reply.reason) == (401, "Unauthorized")
            assert (await client.send("GET", "/readyz", Authorization="")).body == "ok"
        assert "secret" not in repr(sim.config)


@pytest.mark.parametrize("token", [None, 'a"b: {c}'])
async def test_kubeconfig(token: str | None) -> None:
    """The kubeconfig is YAML that names the server, the token and the namespace."""
    async with Simulator(SimulatorConfig(token=token)) as sim:
        config: Any = yaml.safe_load(sim.kubeconfig(namespace="other"))
        assert config["clusters"][0]["cluster"] == {"server": sim.url}
        assert config["users"][0]["user"] == ({"token": token} if token else {})
        assert config["contexts"][0]["context"]["namespace"] == "other"


async def test_unknown_paths(client: ApiClient) -> None:
    """What is not served is NotFound, as a Status."""
    for path in ("/", "/unknown", "/openapi/v3", "/api/v2", f"{PODS}/a/log", "/api/v1/pods/a/b/c"):
        reply = await client.send("GET", path)
        assert (reply.code, reply.body["kind"]) == (404, "Status")


async def test_body_limit() -> None:
    """A body over the limit is refused, and the connection goes on."""
    config = SimulatorConfig(max_body_bytes=1000)
    async with Simulator(config) as sim, simulator_client(sim) as client:
        reply = await client.send("POST", PODS, {"metadata": {"name": "x" * 1000}})
        assert (reply.code, reply.reason) == (413, "RequestEntityTooLarge")
        await client.create_pod("a")


async def test_bookmarks(sim: Simulator, client: ApiClient) -> None:
    """An idle watch is told how far it has come, also past what its selector hides."""
    async with client.watch(
        resourceVersion=await client.version(), allowWatchBookmarks="true", labelSelector="no"
    ) as watch:
        await client.create_pod("a")
        event = await watch.next()
        while event["object"]["metadata"]["resourceVersion"] != str(sim.cluster.version):
            event = await watch.next()
    assert (event["type"], event["object"]["kind"]) == ("BOOKMARK", "Pod")
    assert "annotations" not in event["object"]["metadata"]


async def test_no_bookmarks_unless_allowed(client: ApiClient) -> None:
    """A client that did not ask for bookmarks gets none."""
    async with client.watch(resourceVersion=await client.version(), timeoutSeconds=1) as watch:
        assert await watch.rest() == []


async def test_bookmark_before_the_timeout(sim: Simulator, client: ApiClient) -> None:
    """The last thing that a watch says is how far it came."""
    async with client.watch(allowWatchBookmarks="true", timeoutSeconds=1) as watch:
        last = (await watch.rest())[-1]
    assert last["object"]["metadata"]["resourceVersion"] == str(sim.cluster.version)


async def test_gone_client_is_forgotten(sim: Simulator, client: ApiClient) -> None:
    """A watch whose client went away ends at once, not at the next event."""
    async with client.watch(resourceVersion=await client.version()):
        await eventually(lambda: len(sim._open) == 1)
    await eventually(lambda: not sim._open)


async def test_slow_watcher_is_told_to_list_again() -> None:
    """A watcher that reads too slowly is cut off by the history's bound, without a buffer."""
    history = ClusterConfig(history_changes=300, history_bytes=1 << 40)
    config = SimulatorConfig(cluster=history)
    async with Simulator(config) as sim, simulator_client(sim) as client:
        sim.cluster.create("pods", make_pod("a", padding=100_000))
        async with client.watch(resourceVersion=sim.cluster.version) as slow:
            for number in range(2000):
                patch = {"metadata": {"labels": {"n": str(number)}}}
                sim.cluster.patch("pods", "a", patch, namespace="osmo")
                if number % 10 == 0:
                    await asyncio.sleep(0)
            events = await slow.rest()
    assert len(events) < 2000
    assert [e["type"] for e in events[-1:]] == ["ERROR"]
    assert events[-1]["object"]["code"] == 410
    numbers = [int(e["object"]["metadata"]["labels"]["n"]) for e in events[:-1]]
    assert numbers == list(range(len(numbers))), "nothing before the cut is missing"


async def test_watchers_see_the_same(sim: Simulator, client: ApiClient) -> None:
    """Many watchers of one resource each see every event."""
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(10):

        async def follow() -> list[tuple[str, str]]:
            async with client.watch(resourceVersion=sim.cluster.version) as watch:
                following.append(True)
                return await watch.seen(100)

        following: list[bool] = []
        watchers = [tasks.create_task(follow()) for _ in range(8)]
        await eventually(lambda: len(following) == 8)
        for number in range(100):
            sim.cluster.create("pods", make_pod(f"p{number}"))
    expected = [("ADDED", f"p{number}") for number in range(100)]
    assert all(watcher.result() == expected for watcher in watchers)


async def test_clock_is_injected() -> None:
    """Times come from the clock that was given."""
    moment = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    cluster = Cluster(clock=lambda: moment)
    pod = cluster.create("pods", make_pod("a"))
    assert pod["metadata"]["creationTimestamp"] == "2030-01-02T03:04:05Z"


async def test_serve_until_stopped() -> None:
    """The program's task plays its scenario, goes on serving, and ends when told."""
    stop = asyncio.Event()
    running: list[tuple[Simulator, Scenario]] = []
    scenario = ScenarioConfig(workflows=2, nodes=1, pace=0)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(
            serve(SimulatorConfig(), scenario, stop, lambda *both: running.append(both))
        )
        await eventually(lambda: running and running[0][1].done)
        async with simulator_client(running[0][0]) as client:
            assert (await client.list("/api/v1/nodes")).body["items"]
        stop.set()


async def test_serve_stops_in_the_middle() -> None:
    """A scenario that is not over does not hold the program up."""
    stop = asyncio.Event()
    running: list[Scenario] = []
    scenario = ScenarioConfig(workflows=2, nodes=1, pace=1000)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(
            serve(SimulatorConfig(), scenario, stop, lambda _, played: running.append(played))
        )
        await eventually(lambda: running)
        stop.set()
    assert not running[0].done
