"""The listener service over HTTP: every listener, the rules, the signs of life, the identity."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import astuple

from osmo_listener.config import ListenerConfig
from osmo_listener.errors import (
    ForbiddenError,
    KubeconfigError,
    ListenerError,
    MalformedError,
    NotFoundError,
    UnauthorizedError,
)
from osmo_listener.installed import listener_types
from osmo_listener.kubernetes.access import find_credentials
from osmo_listener.kubernetes.connecting import Endpoint, connect
from osmo_listener.kubernetes.http import HttpClient
from osmo_listener.kubernetes.identity import read_cluster_uid
from osmo_listener.listeners.registry import ListenersConfig
from osmo_listener.listeners.usage import UsageConfig
from osmo_listener.service import run_listener
from osmo_reports.bodies import Registration, UpdateNode, decode_body
from osmo_reports.directory.abc import RULES_KIND, encode_rules
from osmo_simulator.builders import make_event, make_node, make_pod, task_labels
from osmo_simulator.faults import Fail, Hang
from osmo_simulator.server import Simulator, SimulatorConfig
from osmo_transport import (
    Greeting,
    Limits,
    Message,
    ProducerState,
    Push,
    Server,
    ServerConfig,
    SessionConfig,
    UsageError,
    listen,
)
from tests.helpers import eventually

RUNNING = {"phase": "Running"}


class Operator:
    """Acknowledges what comes and keeps the newest of each kind and key."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.newest: dict[tuple[str, str], Message] = {}
        self.messages: list[Message] = []

    async def serve(self) -> None:
        """Until the server stops."""
        while taken := await self.server.receive():
            for incoming in taken:
                assert all(incoming.kinds)
                for message in incoming.messages:
                    self.messages.append(message)
                    place = (message.kind, message.key)
                    known = self.newest.get(place)
                    if known is None or message.supersedes(known):
                        self.newest[place] = message
                incoming.acknowledge()

    def body(self, kind: str, key: str) -> Any:
        """The newest body, or None."""
        message = self.newest.get((kind, key))
        return None if message is None else decode_body(kind, message.payload)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """Two nodes, on one of them a workflow's pod and one of another namespace, and an event."""
    async with Simulator(SimulatorConfig(bookmark_interval=0.05)) as simulator:
        cluster = simulator.cluster
        for name in ("n1", "n2"):
            labels = {"kubernetes.io/hostname": f"host-{name}"}
            cluster.create("nodes", make_node(name, labels=labels))
        task = make_pod("task", labels=task_labels("w", "t"), node="n1", status=RUNNING)
        cluster.create("pods", task)
        cluster.create("pods", make_pod("other", namespace="default", node="n1", status=RUNNING))
        cluster.create("events", make_event(task, "Pulled", "an image", now="2026-01-01T00:00:00Z"))
        yield simulator


def settings(simulator: Simulator, server: Server, folder: Path, **changes: Any) -> ListenerConfig:
    """Of a listener of that cluster and operator, which flushes usage often."""
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(simulator.kubeconfig("osmo"))
    rules = ListenersConfig(usage=UsageConfig(flush_interval=0.01))
    given = {"connect": server.url, "kubeconfig": kubeconfig, "rules": rules, "backend": "b"}
    return ListenerConfig(**{**given, **changes})


@asynccontextmanager
async def running(
    simulator: Simulator, folder: Path, *, limits: Limits | None = None, **changes: Any
) -> AsyncIterator[tuple[Operator, asyncio.Task[None]]]:
    """The service and its operator."""
    stop = asyncio.Event()
    session = SessionConfig(limits=limits or Limits())
    async with listen("memory://", config=ServerConfig(session=session)) as server:
        operator = Operator(server)
        serving = asyncio.create_task(operator.serve())
        config = settings(simulator, server, folder, **changes)
        listening = asyncio.create_task(run_listener(config, stop))
        try:
            yield operator, listening
        finally:
            stop.set()
            await asyncio.gather(listening, return_exceptions=True)
            serving.cancel()


async def test_heartbeats_say_how_blind_each_listener_is(
    simulator: Simulator, tmp_path: Path
) -> None:
    """By the age of the last sign of life of what it is told from."""
    names = ("workflow", "usage")
    async with running(simulator, tmp_path, heartbeat_interval=0.01, listeners=names) as (
        operator,
        _,
    ):
        await eventually(lambda: operator.body("heartbeat", "b") is not None)
        ages = operator.body("heartbeat", "b").watch_ages
        assert ages.keys() == {"workflow", "usage"}
        assert all(0.0 <= age < 30.0 for age in ages.values())


async def test_all_listeners_report_what_there_is(simulator: Simulator, tmp_path: Path) -> None:
    """By default all of them; the workflow and the usage listener share a watch, and each is told
    of its own pods alone."""
    async with running(simulator, tmp_path) as (operator, _):
        await eventually(lambda: ("snapshot_end", "update_node_usage") in operator.newest)
        await eventually(lambda: ("snapshot_end", "update_pod") in operator.newest)
        await eventually(lambda: operator.body("pod_event", "osmo/task") is not None)
        await eventually(lambda: operator.body("node_inventory", "nodes") is not None)
        assert operator.body("node_inventory", "nodes").nodes == ("n1", "n2")
        await eventually(lambda: operator.body("update_node_usage", "n1").hostname == "host-n1")
        usage = operator.body("update_node_usage", "n1")
        assert usage.usage["nvidia.com/gpu"] == "2"
        assert usage.non_workflow_usage["nvidia.com/gpu"] == "1"
        tasks = {key for kind, key in operator.newest if kind == "update_pod"}
        assert tasks == {"w/t/0"}
        simulator.cluster.delete("pods", "task", namespace="osmo")
        await eventually(lambda: operator.body("update_pod", "w/t/0").deleted)
        await eventually(
            lambda: operator.body("update_node_usage", "n1").usage["nvidia.com/gpu"] == "1"
        )


async def test_an_inventory_that_the_link_refuses_goes_in_parts(
    simulator: Simulator, tmp_path: Path
) -> None:
    """Here one has room for the names, and not for the hostnames besides."""
    for number in range(60):
        simulator.cluster.create("nodes", make_node(f"more-{number}"))
    limits = Limits(message_bytes=800)
    async with running(simulator, tmp_path, limits=limits, listeners=("node",)) as (operator, _):
        await eventually(lambda: operator.body("node_inventory_part", "nodes/0") is not None)
        assert len(operator.body("node_inventory_part", "nodes/0").nodes) == 62
        assert operator.body("node_inventory", "nodes") is None


@pytest.mark.parametrize("name", ListenerConfig.listeners)
async def test_each_listener_runs_alone(name: str, simulator: Simulator, tmp_path: Path) -> None:
    """What it reports needs none of the others; usage has its hostnames all the same."""
    async with running(simulator, tmp_path, listeners=(name,)) as (operator, _):
        kind = listener_types([name])[name].kind
        await eventually(lambda: any(each == kind for each, _ in operator.newest))
        if name == "usage":
            await eventually(lambda: operator.body("update_node_usage", "n1").hostname == "host-n1")
        kinds = {m.kind for m in operator.messages}
        assert kinds <= {kind, "heartbeat", "snapshot_end", "node_inventory"}


@pytest.mark.parametrize(
    "names", [("workflow",), ("workflow", "usage"), ("node", "usage", "event")], ids=str
)
async def test_who_reports_pods_says_until_when(
    names: tuple[str, ...], simulator: Simulator, tmp_path: Path
) -> None:
    """With the watch's signs of life, from a shared watch too; who reports none does not."""
    changes: dict[str, Any] = {"heartbeat_interval": 0.01, "listeners": names}
    async with running(simulator, tmp_path, **changes) as (operator, _):

        def moments() -> list[float]:
            bodies = [m.payload for m in operator.messages if m.kind == "pods_current"]
            return [decode_body("pods_current", payload).at for payload in bodies]

        if "workflow" in names:
            await eventually(lambda: len(moments()) >= 3)
            assert moments() == sorted(set(moments()))
        else:
            await eventually(lambda: ("heartbeat", "b") in operator.newest)
            await eventually(lambda: ("node_inventory", "nodes") in operator.newest)
            assert moments() == []


async def test_rules_are_followed(simulator: Simulator, tmp_path: Path) -> None:
    """New ones judge every node at once, unreadable ones change nothing."""
    async with running(simulator, tmp_path, listeners=("node",)) as (operator, _):

        def available(name: str) -> bool | None:
            body: UpdateNode | None = operator.body("update_node", name)
            return None if body is None else body.available

        await eventually(lambda: available("n1") is available("n2") is True)
        none = encode_rules({"DiskPressure": "True"})
        operator.server.push("b", Push(RULES_KIND, 5, none))
        await eventually(lambda: available("n1") is available("n2") is False)
        operator.server.push("b", Push(RULES_KIND, 6, b"["))
        operator.server.push("b", Push(RULES_KIND, 7, encode_rules({"DiskPressure": "False"})))
        await eventually(lambda: available("n1") is available("n2") is True)


async def test_signs_of_life_say_who_reports(simulator: Simulator, tmp_path: Path) -> None:
    """At once and then again and again, with the cluster's uid."""
    uid = simulator.cluster.get("namespaces", "kube-system")["metadata"]["uid"]
    changes: dict[str, Any] = {"heartbeat_interval": 0.01, "listeners": ("event",)}
    async with running(simulator, tmp_path, **changes) as (operator, _):

        def beats() -> list[Message]:
            return [m for m in operator.messages if m.kind == "heartbeat"]

        await eventually(lambda: len(beats()) >= 3)
        versions = [astuple(m.version) for m in beats()]
        assert versions == sorted(set(versions))
        body = operator.body("heartbeat", "b")
        assert isinstance(body, Registration)
        assert (body.cluster_uid, body.namespace) == (uid, "osmo")
        assert re.match(r"\d+\.\d+", body.version)
        assert body.node_condition_prefix == "osmo.nvidia.com/"


async def test_the_clusters_uid_may_be_given(simulator: Simulator, tmp_path: Path) -> None:
    """Then nobody is asked for it; else a refusal says what to do, and ends the service."""
    simulator.faults.inject(Fail(code=403, resource="namespaces", verb="get", count=None))
    async with running(simulator, tmp_path, cluster_uid="mine") as (operator, _):
        await eventually(lambda: operator.body("heartbeat", "b") is not None)
        assert operator.body("heartbeat", "b").cluster_uid == "mine"
    async with running(simulator, tmp_path) as (_, listening):
        with pytest.raises(ForbiddenError, match="--cluster-uid"):
            await listening


async def test_an_api_server_that_is_away_at_start_is_waited_for(
    simulator: Simulator, tmp_path: Path
) -> None:
    """As it is later; and a stop is heard meanwhile, also while it does not answer."""
    simulator.faults.inject(Fail(code=503, resource="namespaces", verb="get", count=2))
    async with running(simulator, tmp_path, listeners=("event",)) as (operator, _):
        await eventually(lambda: operator.body("heartbeat", "b") is not None)
    simulator.faults.inject(Hang(resource="namespaces", verb="get", count=None))
    async with asyncio.timeout(5), running(simulator, tmp_path) as (operator, listening):
        await asyncio.sleep(0.05)
        assert not listening.done()
    assert operator.messages == []


@pytest.mark.parametrize(
    ("fault", "changes", "error"),
    [
        (None, {"namespace": "nowhere"}, NotFoundError),
        (None, {"kubeconfig": Path("/nowhere")}, KubeconfigError),
        (Fail(code=401, count=None), {}, UnauthorizedError),
        (Fail(code=403, resource="nodes", verb="list", count=None), {}, ForbiddenError),
        (Fail(code=403, resource="events", verb="watch", count=None), {}, ForbiddenError),
    ],
)
async def test_a_start_that_fails_is_not_heard_of(
    fault: Fail | None,
    changes: dict[str, Any],
    error: type[ListenerError],
    simulator: Simulator,
    tmp_path: Path,
) -> None:
    """By no operator: a process that cannot report takes the place of none that can."""
    heard: list[Greeting] = []

    async def admit(greeting: Greeting) -> ProducerState:
        heard.append(greeting)
        return ProducerState("queue", 1, 0)

    if fault is not None:
        simulator.faults.inject(fault)
    async with listen("memory://", admit=admit) as server:
        config = settings(simulator, server, tmp_path, **changes)
        with pytest.raises((ExceptionGroup, ListenerError)) as failed:
            await run_listener(config, asyncio.Event())
    assert ExceptionGroup("why", [failed.value]).subgroup(error) is not None
    assert heard == []


async def test_an_event_about_a_name_without_end_ends_nothing(
    simulator: Simulator, tmp_path: Path
) -> None:
    """The API server takes it, and so somebody can make it; what follows is reported."""
    long = make_event(make_pod("x" * 1100), "Pulled", "an image", now="2026-01-01T00:00:00Z")
    simulator.cluster.create("events", long)
    async with running(simulator, tmp_path, listeners=("event",)) as (operator, _):
        await eventually(lambda: operator.body("pod_event", "osmo/task") is not None)


async def test_the_first_questions_share_a_connection(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each costs both sides a handshake: one for the uid, the trial list and the trial watch, which
    cannot be used again, and one for the list and the watch."""
    opened: list[Endpoint] = []

    async def counted(end: Endpoint, *arguments: Any) -> Any:
        opened.append(end)
        return await connect(end, *arguments)

    monkeypatch.setattr("osmo_listener.kubernetes.http.connect", counted)
    simulator.cluster.create("pods", make_pod("pod", labels=task_labels("workflow", "task")))
    async with running(simulator, tmp_path, listeners=("workflow",)) as (operator, _):
        await eventually(lambda: operator.body("snapshot_end", "update_pod") is not None)
        assert len(opened) == 2


async def test_an_answer_that_is_no_namespace_is_an_error(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The uid of something else would be compared with nothing."""
    monkeypatch.setattr("osmo_listener.kubernetes.identity.PATH", "/version")
    async with listen("memory://") as server:
        credentials = find_credentials(settings(simulator, server, tmp_path).kubeconfig)
        with pytest.raises(MalformedError, match="no namespace"):
            await read_cluster_uid(credentials, HttpClient(credentials.endpoint, credentials.tls))


async def test_warnings_are_reported_too(simulator: Simulator, tmp_path: Path) -> None:
    """Where the worker's log shows them."""
    async with running(simulator, tmp_path, listeners=("node",)) as (operator, _):
        await eventually(lambda: operator.body("node_inventory", "nodes") is not None)
        operator.server.push("b", Push(RULES_KIND, 5, encode_rules({"Disk(": "True"})))
        await eventually(lambda: operator.body("logging", "listener") is not None)
        assert "Disk(" in operator.body("logging", "listener").text


async def test_an_unknown_listener_is_named(simulator: Simulator, tmp_path: Path) -> None:
    """With those that there are."""
    async with running(simulator, tmp_path, listeners=("nodes",)) as (_, listening):
        with pytest.raises(UsageError, match=r"'nodes'.*event, node, usage, workflow"):
            await listening
