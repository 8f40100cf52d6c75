"""Fixtures of this folder: what is deployed. Clients are generated from the contract, as those of
deployed listeners."""

import importlib.util
import logging
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpc_tools import protoc

from osmo_transport.testing.redis_server import RedisServer
from tests.deployed.programs import DeployedOperator, DeployedService, DeployedWorker

ROOT = Path(__file__).parents[2]
CONTRACT = "osmo_protos/listener_service.proto"


@pytest.fixture(autouse=True)
def no_accident(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """After the test neither asyncio nor gRPC has caught an error that nobody expected."""
    yield
    records = [*caplog.get_records("setup"), *caplog.get_records("call")]
    accidents = [record for record in records if record.name.startswith(("asyncio", "grpc"))]
    said = [record.getMessage() for record in accidents if record.levelno >= logging.ERROR]
    # gRPC wakes every loop that it was ever used in, those of earlier tests too, which are closed;
    # a program has one loop.
    assert not [each for each in said if "PollerCompletionQueue._handle_events" not in each]


@pytest.fixture(scope="session")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The class that protoc makes for a Python client."""
    folder = tmp_path_factory.mktemp("stubs")
    arguments = [f"--proto_path={ROOT / 'protos'}", f"--grpc_python_out={folder}", CONTRACT]
    assert protoc.main(["protoc", *arguments]) == 0
    path = folder / CONTRACT.replace(".proto", "_pb2_grpc.py")
    spec = importlib.util.spec_from_file_location("generated_stubs", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ListenerServiceStub


@pytest.fixture(scope="session")
def go_listener(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of `go/`, or a skip that says what is missing."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("no Go toolchain on PATH: the deployed listener in Go is not tested")
    program = tmp_path_factory.mktemp("go") / "listener"
    built = subprocess.run(
        [go, "build", "-o", program, "."],
        cwd=Path(__file__).parent / "go",
        capture_output=True,
        text=True,
        check=False,
    )
    if "proxy" in built.stderr or "dial tcp" in built.stderr:
        pytest.skip(f"the modules of the listener in Go cannot be had: {built.stderr[-300:]}")
    assert built.returncode == 0, built.stderr
    return program


@pytest.fixture
def operator(server: RedisServer) -> Iterator[DeployedOperator]:
    """A deployed operator on `server`."""
    operator = DeployedOperator(server)
    yield operator
    operator.close()


@pytest.fixture
def deployed_service(server: RedisServer) -> Iterator[DeployedService]:
    """The deployed service on `server`."""
    service = DeployedService(server)
    yield service
    service.close()


@pytest.fixture
def worker(server: RedisServer) -> Iterator[DeployedWorker]:
    """A deployed worker on `server`."""
    worker = DeployedWorker(server)
    yield worker
    worker.close()
