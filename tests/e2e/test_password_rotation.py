"""The password of Redis changes under an operator and a worker at work."""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from osmo_reports.bodies import UpdatePod, encode_body
from osmo_transport import Version, connect, new_message
from osmo_transport.testing.redis_server import RedisServer
from tests.e2e.pipeline import BACKEND, wait_for_rows
from tests.e2e.programs import Program
from tests.helpers import eventually

PATIENCE = 30.0
OLD, NEW = "open-sesame", "shut-sesame"
WAITS = "is refused: waiting"


async def told(value: float, ports: Sequence[str]) -> None:
    """Return when each program tells that its password is refused, or that it is not; the password
    itself is never told."""
    async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as client:
        for port in ports:
            text = ""
            while not re.search(f"^osmo_file_refused{{.*}} {value}$", text, re.MULTILINE):
                async with client.get(f"{port}/metrics") as answer:
                    text = await answer.text()
                assert "sesame" not in text


async def test_nothing_is_lost_and_nobody_restarts(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """Also where Redis has the new password long before the file."""
    redis_server.reset()
    redis_server.command("ACL", "SETUSER", "osmo", "reset", "on", f">{OLD}", "~*", "+@all")
    password, database = tmp_path / "password", tmp_path / "osmo.db"
    password.write_text(OLD)
    queue = (
        f"--queue={redis_server.url.replace('//', '//osmo@')}",
        f"--queue-password-file={password}",
        "--check-interval=0.05",
        "--operations=127.0.0.1:0",
        "--log-level=DEBUG",
        "--backoff-maximum=0.1",
    )
    operator = Program(tmp_path / "o.log", "osmo_operator", "--listen=ws://127.0.0.1:0", *queue)
    worker = Program(tmp_path / "w.log", "osmo_worker", f"--store=sqlite:///{database}", *queue)
    try:
        with operator, worker:
            ports = operator.operations(), worker.operations()
            async with connect(operator.url(), backend=BACKEND) as client:
                epoch = await client.epoch_after(0)

                async def report(task: str) -> None:
                    body = encode_body(UpdatePod("flow", task, 0, "RUNNING"))
                    key = UpdatePod.key("flow", task, 0)
                    await client.send(
                        new_message("update_pod", key, body, version=Version(epoch, 1))
                    )

                await report("before")
                await asyncio.to_thread(
                    wait_for_rows, database, lambda rows: len(rows) == 1, PATIENCE
                )
                redis_server.command("ACL", "SETUSER", "osmo", "resetpass", f">{NEW}")
                redis_server.command("CLIENT", "KILL", "USER", "osmo")
                await report("meanwhile")
                await eventually(lambda: all(WAITS in each.log() for each in (operator, worker)))
                await told(1.0, ports)
                password.write_text(NEW)
                await client.flush()
            await asyncio.to_thread(wait_for_rows, database, lambda rows: len(rows) == 2, PATIENCE)
            await told(0.0, ports)
            assert operator.stop() == 0
            assert worker.stop() == 0
    finally:
        redis_server.command("ACL", "DELUSER", "osmo")
    assert "sesame" not in operator.log() + worker.log()
