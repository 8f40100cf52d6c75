"""The examples in the documents run as they stand."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from osmo_reports import UpdatePod, encode_body
from osmo_simulator.builders import make_pod, task_labels
from osmo_simulator.server import Simulator, SimulatorConfig
from osmo_transport import Ack, Delivery, Retry, Version, new_message
from tests.examples import ROOT, examples, names_of
from tests.helpers import eventually
from tests.transport.test_plugin import ASYNCIO, run_pytest

EXAMPLES = examples()
TESTS = {
    name: code for name, code in EXAMPLES.items() if re.search(r"(def test|class Test)_?", code)
}
TRANSPORT = "libs_transport_EXTENDING_0"
"""The complete transport, which is installed as it says."""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says of all examples that are tests, a file each."""
    folder = tmp_path_factory.mktemp("examples")
    for name, code in TESTS.items():
        (folder / f"test_{name}.py").write_text(code)
    (folder / "osmo_tcp.py").write_text(EXAMPLES[TRANSPORT])
    info = folder / "osmo_tcp-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: osmo-tcp\nVersion: 1.0\n")
    text = (ROOT / "libs/transport/EXTENDING.md").read_text()
    entry = re.search(r'^(tcp) = "(\S+)"', text, re.MULTILINE)
    assert entry
    entries = f"[osmo_transport.transports]\n{entry[1]} = {entry[2]}\n"
    (info / "entry_points.txt").write_text(entries)
    return run_pytest(folder, *ASYNCIO, "-W", "error", PYTHONPATH=str(folder))


@pytest.mark.parametrize("name", TESTS)
def test_an_example_that_is_a_test_passes(name: str, said: str) -> None:
    """As pytest runs it, over each implementation if it takes a fixture."""
    assert re.search(rf"test_{name}\.py::\S+ PASSED", said), said
    assert not re.search(rf"test_{name}\.py::\S+ (FAILED|ERROR)", said), said


def test_the_fixtures_run_over_the_third_partys(said: str) -> None:
    """The transport of the text is installed, so each user's test runs over it too."""
    assert "test_README_0.py::test_a_report_arrives[tcp] PASSED" in said


async def test_the_informer_prints_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And what comes."""
    config = tmp_path / "config"
    async with Simulator(SimulatorConfig(port=0)) as simulator:
        config.write_text(simulator.kubeconfig())
        simulator.cluster.create("pods", make_pod("a", labels=task_labels("workflow", "task")))
        watching = asyncio.create_task(names_of("libs_listener_README", 1)["watch_pods"](config))
        printed = ""

        def seen(text: str) -> bool:
            nonlocal printed
            printed += capsys.readouterr().out
            return text in printed

        await eventually(lambda: seen("these are all 1"))
        simulator.cluster.create("pods", make_pod("b", labels=task_labels("workflow", "next")))
        await eventually(lambda: seen("ADDED b"))
        watching.cancel()
        await asyncio.wait([watching])


async def test_the_simulator_shows_its_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    """A scenario to its end."""
    await names_of("libs_simulator_README")["main"]()
    assert "workflow" in capsys.readouterr().out


async def test_the_handler_tells_the_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    """And tries again later while it is away."""
    announce = names_of("services_worker_README")["announce"]
    body = UpdatePod("flow", "task", 0, "RUNNING")
    message = new_message("update_pod", "flow/task/0", encode_body(body), version=Version(1, 1))
    delivery = Delivery("1-0", "pods", "backend", message)
    told = asyncio.get_running_loop().create_future()

    async def chat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.set_result(await reader.readline())
        writer.close()

    connect = asyncio.open_connection
    async with await asyncio.start_server(chat, "127.0.0.1", 0) as server:
        place = server.sockets[0].getsockname()
        monkeypatch.setattr(asyncio, "open_connection", lambda *_: connect(*place))
        assert await announce(delivery) == Ack()
        assert await told == b"PRIVMSG #tasks :task is RUNNING\r\n"
    assert isinstance(await announce(delivery), Retry)


def test_the_program_has_its_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that the text names, from the sources that it names."""
    program = names_of("libs_runtime_README")["main"]
    monkeypatch.setenv("QUEUE_URL", "memory://named")
    monkeypatch.setattr(sys, "argv", ["p", "--listen", "here", "--print-config"])
    assert program() == 0
    said = capsys.readouterr().out
    assert 'listen = ["here"]' in said
    assert 'queue = "memory://named"' in said


@pytest.mark.parametrize("name", ["libs_reports_README_0", "libs_transport_README_1"])
def test_an_example_of_values_holds(name: str) -> None:
    """Its assertions, and its registrations, in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", EXAMPLES[name]],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
