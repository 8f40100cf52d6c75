"""More connections than the process may have files open."""

import asyncio
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from osmo_reports.bodies import UpdatePod, encode_body
from osmo_transport import BackoffConfig, ClientConfig, Version, connect, new_message
from osmo_transport.testing.redis_server import RedisServer
from tests.e2e.programs import Program

FILES = 48
MANY = 2 * FILES
PATIENCE = 30.0
QUICK = ClientConfig(open_timeout=1.0, backoff=BackoffConfig(maximum=0.2))
FEW_LINES = 50
"""What a spinning server writes in a moment is many times as much."""


@contextmanager
def crowd(url: str) -> Iterator[None]:
    """Connections that want nothing."""
    parts = urlsplit(url)
    sockets = [socket.socket() for _ in range(MANY)]
    for each in sockets:
        each.setblocking(False)
        each.connect_ex((parts.hostname or "", parts.port or 0))
    try:
        yield
    finally:
        for each in sockets:
            each.close()


@pytest.mark.parametrize(
    ("scheme", "loop"), [("ws", "--uvloop"), ("ws", "--no-uvloop"), ("grpc", "--uvloop")]
)
def test_without_a_free_descriptor_it_serves_who_is_there(
    scheme: str, loop: str, tmp_path: Path, redis_server: RedisServer
) -> None:
    """It says at the start that the limit is low, does not spin, goes on with the connections that
    it has, and takes new ones when the crowd has gone."""
    options = (
        f"--listen={scheme}://127.0.0.1:0",
        "--queue",
        redis_server.url,
        loop,
        "--server-open-timeout=0.5",
    )
    with Program(tmp_path / "log", "osmo_operator", *options, files=FILES) as operator:
        url = operator.url()

        async def report() -> None:
            async with asyncio.timeout(PATIENCE), connect(url, backend="b", config=QUICK) as client:
                epoch = await client.epoch_after(0)
                body = encode_body(UpdatePod("flow", "task", 0, "RUNNING"))
                with crowd(url):
                    for version in range(1, 4):
                        await client.send(
                            new_message(
                                "update_pod", "flow/task/0", body, version=Version(epoch, version)
                            )
                        )
                        await client.flush()
                        await asyncio.sleep(0)

        async def come_later() -> None:
            async with (
                asyncio.timeout(PATIENCE),
                connect(url, backend="later", config=QUICK) as client,
            ):
                assert await client.epoch_after(0)

        asyncio.run(report())
        asyncio.run(come_later())
        lines = [json.loads(line) for line in operator.log().splitlines()]
    assert any(f"{FILES} files open" in line["message"] for line in lines)
    assert len(lines) < FEW_LINES
