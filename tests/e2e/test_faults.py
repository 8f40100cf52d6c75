"""What machines and networks do to two operators, two workers and a listener at work."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from osmo_simulator.api_server import Session
from osmo_transport.testing.redis_server import RedisServer
from tests.conftest import FAILED
from tests.e2e.backends import Churn
from tests.e2e.pipeline import Pipeline
from tests.e2e.programs import Program, wait_until

PODS = 40
CHANGES = 8
SOON = 60.0
"""Seconds within which a test expects what takes a few, on however slow a machine."""
STARTED = "settings other than the defaults"
"""What a program says first, in each of its lives."""

over_websocket = pytest.mark.parametrize("scheme", ["ws"], indirect=True, scope="module")
"""For faults that no transport sees."""


@dataclass(frozen=True)
class Running:
    """A pipeline that notices everything soon."""

    session: Session
    churn: Churn
    pipeline: Pipeline
    redis: RedisServer

    def change(self) -> None:
        self.churn.step(CHANGES)

    def settled(self) -> None:
        self.pipeline.settled(self.session)

    def reported(self, program: Program) -> int:
        """How often the program let the listener in, in all its lives."""
        return program.log().count(" reports, epoch ")


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Pipelines"]:
    with closing(Pipelines(tmp_path_factory)) as pipelines:
        yield pipelines


@pytest.fixture(scope="module", params=["ws", "grpc"])
def scheme(request: pytest.FixtureRequest) -> str:
    """Of the module, so that all tests over one transport come after each other."""
    return str(request.param)


@pytest.fixture
def running(
    request: pytest.FixtureRequest, pipelines: "Pipelines", scheme: str
) -> Iterator[Running]:
    yield pipelines.of(scheme)
    if request.node.stash.get(FAILED, False):
        pipelines.close()


class Pipelines:
    """One pipeline for all tests over a transport, and a new one after a test that failed, whose
    fault may still be in it."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._stack = ExitStack()
        self._scheme = ""
        self._running: Running | None = None

    def of(self, scheme: str) -> Running:
        """The pipeline over the transport of `scheme`."""
        if self._running is None or self._scheme != scheme:
            self.close()
            folder = self._folders.mktemp("running")
            self._running = self._stack.enter_context(_start(folder, scheme))
            self._scheme = scheme
        return self._running

    def close(self) -> None:
        """End the present pipeline."""
        self._running = None
        self._stack.close()


@contextmanager
def _start(folder: Path, scheme: str) -> Iterator[Running]:
    kubeconfig = folder / "kubeconfig"
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(appendonly="yes", appendfsync="everysec"))
        options = ("--listen=127.0.0.1:0", "--workflows=0", "--kubeconfig-out", str(kubeconfig))
        simulator = Program(folder / "simulator.log", "osmo_simulator", *options)
        parts = urlsplit(stack.enter_context(simulator).url())
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        session = Session(stack.enter_context(closing(connection)), "")
        churn = Churn(session, seed=11)
        churn.create(PODS)
        pipeline = Pipeline(
            folder,
            scheme,
            kubeconfig,
            redis,
            stack,
            operators=2,
            workers=2,
            proxied=True,
            impatient=True,
        )
        running = Running(session, churn, pipeline, redis)
        running.settled()
        yield running


def serving(running: Running) -> tuple[Program, Program]:
    """The operator that the listener is connected to, and the other one."""
    first, second = running.pipeline.operators

    def last(program: Program, *texts: str) -> float:
        lines = program.log().splitlines()
        found = [n for n, line in enumerate(lines) if any(text in line for text in texts)]
        return found[-1] if found else -1

    def serves(program: Program) -> bool:
        arrived, left = last(program, " reports, epoch "), last(program, " left: ", STARTED)
        return arrived > left

    wait_until(lambda: serves(first) != serves(second), SOON)
    return (first, second) if serves(first) else (second, first)


def test_a_listener_moves_to_another_operator(running: Running) -> None:
    """When its operator is killed, it goes on with the other one where it stood."""
    mine, other = serving(running)
    before = running.reported(other)
    running.change()
    mine.kill()
    running.change()
    wait_until(lambda: running.reported(other) > before, SOON)
    running.settled()
    mine.start()


def test_an_operator_that_sleeps_is_left_and_harmless_when_it_wakes(running: Running) -> None:
    """What it still holds of the listener is stored already, or fenced."""
    mine, other = serving(running)
    before = running.reported(other)
    mine.send(signal.SIGSTOP)
    running.change()
    wait_until(lambda: running.reported(other) > before, SOON)
    running.change()
    mine.send(signal.SIGCONT)
    running.settled()


@over_websocket
def test_a_worker_that_sleeps_longer_than_its_lease_is_made_up_for(running: Running) -> None:
    """The other one takes over what it held; what it does when it wakes changes nothing."""
    sleeper = running.pipeline.workers[0]
    sleeper.send(signal.SIGSTOP)
    running.change()
    running.settled()
    running.change()
    sleeper.send(signal.SIGCONT)
    running.settled()


def test_a_listener_that_sleeps_catches_up(running: Running) -> None:
    """Its connection is given up meanwhile."""
    mine, _ = serving(running)
    left = mine.log().count(" left: ")
    running.pipeline.listener.send(signal.SIGSTOP)
    running.change()
    wait_until(lambda: mine.log().count(" left: ") > left, SOON)
    running.change()
    running.pipeline.listener.send(signal.SIGCONT)
    running.settled()


def test_a_half_open_connection_is_found_out(running: Running) -> None:
    """Nobody is told that it is dead: the heartbeat finds out, and all is sent again."""
    running.pipeline.proxy.swallow()
    running.change()
    running.settled()


@pytest.mark.parametrize("after", [1, 1500])
def test_a_connection_that_is_cut_anywhere_loses_nothing(running: Running, after: int) -> None:
    """In the middle of a frame, of a batch, of an acknowledgement."""
    proxy = running.pipeline.proxy
    proxy.cut(after)

    def change_until_cut() -> bool:
        running.change()
        return proxy.was_cut

    wait_until(change_until_cut, SOON)
    running.settled()


@over_websocket
def test_a_redis_that_comes_back_empty_is_filled_again(running: Running) -> None:
    """It was killed and had kept nothing; every listener sends a snapshot, deletes included."""
    running.change()
    running.redis.kill()
    running.change()
    running.redis.restart(wiped=True)
    running.settled()


@over_websocket
def test_a_full_redis_is_waited_for(running: Running) -> None:
    """Nothing is acknowledged until there is room; workers go on meanwhile."""
    operators = running.pipeline.operators

    def refusals() -> int:
        return sum(program.log().count("nothing is acknowledged") for program in operators)

    before = refusals()
    running.redis.config("maxmemory", "1")

    def refused() -> bool:
        running.change()
        return refusals() > before

    wait_until(refused, SOON)
    running.redis.config("maxmemory", "0")
    running.settled()


@pytest.mark.parametrize("which", ["operators", "workers", "listeners"])
def test_stopping_under_load_loses_nothing(running: Running, which: str) -> None:
    """SIGTERM drains, and the exit code is 0."""
    pipeline = running.pipeline
    programs = {
        "operators": pipeline.operators,
        "workers": pipeline.workers,
        "listeners": [pipeline.listener],
    }
    for program in programs[which]:
        running.change()
        assert program.stop() == 0
        running.change()
        program.start()
    running.settled()


def test_nobody_ended_by_itself(running: Running) -> None:
    """After all of this every program still runs, and no log holds a failure without a name."""
    for program in running.pipeline.programs:
        assert program.running
        assert "unexpected failure" not in program.log()
