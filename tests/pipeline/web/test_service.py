"""The program that serves the page."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from osmo_pipeline.web.config import WebConfig
from osmo_pipeline.web.service import run_web
from osmo_transport import UsageError
from osmo_transport.testing.redis_server import RedisServer
from osmo_worker.store import open_store
from tests.worker.harness import until


async def test_it_serves_until_it_is_stopped(
    redis_server: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the address that it says."""
    url = f"sqlite:///{tmp_path}/store.db"
    async with open_store(url) as store:
        await store.check()
    config = WebConfig(listen="127.0.0.1:0", queue=redis_server.url, store=url)
    stop = asyncio.Event()
    async with (
        asyncio.timeout(20),
        asyncio.TaskGroup() as tasks,
        aiohttp.ClientSession() as session,
    ):
        tasks.create_task(run_web(config, stop))
        said: list[str] = []

        async def is_told() -> bool:
            said.extend(capsys.readouterr().out.split())
            return bool(said)

        await until(is_told)
        async with session.get(said[-1]) as answer:
            assert answer.status == 200
        stop.set()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"queue": "memory://"}, "ends with this command"),
        ({"store": "memory://"}, "ends with this command"),
        ({"store": "sqlite:///FOLDER/absent.db"}, "is not there"),
        ({"listen": "8090"}, "the address of the page is '8090'"),
        ({"operations": ("ftp://x",)}, "no operations port"),
    ],
    ids=str,
)
async def test_what_it_cannot_use(
    redis_server: RedisServer, tmp_path: Path, given: dict[str, str], reason: str
) -> None:
    """Is said, and nothing is made."""
    async with open_store(f"sqlite:///{tmp_path}/store.db") as store:
        await store.check()
    if "FOLDER" in given.get("store", ""):
        given = {"store": given["store"].replace("FOLDER", str(tmp_path))}
    usual = {"queue": redis_server.url, "store": f"sqlite:///{tmp_path}/store.db"}
    with pytest.raises(UsageError, match=reason):
        await run_web(WebConfig(**{**usual, **given}), asyncio.Event())  # type: ignore[arg-type]
