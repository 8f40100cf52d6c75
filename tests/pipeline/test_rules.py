"""`osmo-pipeline rules clear`: who decided the rules of a backend does no longer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from osmo_operator.rules_file import RulesFile
from osmo_pipeline.commands.rules import ClearRulesConfig, clear_rules
from osmo_pipeline.errors import RefusedError
from osmo_reports.conditions import DEFAULT_RULES
from osmo_reports.directory import Directory, Origin, open_directory
from osmo_reports.errors import RulesDeclaredError
from osmo_transport.testing.redis_server import RedisServer


@pytest.fixture
async def directory(server: RedisServer) -> AsyncIterator[Directory]:
    """Beside a queue of the test's own."""
    async with await open_directory(server.url) as opened:
        yield opened


@pytest.fixture
def file(tmp_path: Path) -> RulesFile:
    """It declares the rules of `a`."""
    (path := tmp_path / "rules.toml").write_text('[a]\nReady = "2"')
    return RulesFile(path)


async def clear(server: RedisServer, **options: Any) -> None:
    """The rules of `a`."""
    config = ClearRulesConfig(queue=server.url, backend="a", **options)
    await clear_rules(config, asyncio.Event())


async def test_rules_that_were_set_are_cleared(server: RedisServer, directory: Directory) -> None:
    """And where there are none nothing is."""
    await clear(server)
    assert await directory.rules() == {}
    await directory.set_rules("a", {"Ready": "1"})
    await clear(server)
    known = (await directory.rules())["a"]
    assert known.rules == DEFAULT_RULES
    await clear(server)
    assert (await directory.rules())["a"] == known


async def test_what_no_file_declares_any_more_is_cleared(
    server: RedisServer, directory: Directory, file: RulesFile
) -> None:
    """It holds until then, and others may be set after that."""
    await file.declare(directory, {})
    with pytest.raises(RulesDeclaredError, match="osmo-pipeline rules clear a"):
        await directory.set_rules("a", {"Ready": "3"})
    await clear(server, wait=0.01)
    known = (await directory.rules())["a"]
    assert (known.rules, known.origin) == (DEFAULT_RULES, Origin.DEFAULT)
    await directory.set_rules("a", {"Ready": "3"})


async def test_what_a_file_declares_is_not_cleared(
    server: RedisServer, directory: Directory, file: RulesFile
) -> None:
    """The operator that has the file puts it back, and that is told."""
    declared = asyncio.Event()

    async def operate() -> None:
        async with aclosing(directory.follow_rules()) as following:
            async for found in following:
                await file.declare(directory, found)
                declared.set()

    operator = asyncio.create_task(operate())
    try:
        await declared.wait()
        with pytest.raises(RefusedError, match="declares the rules of a: take them out"):
            await clear(server, wait=20.0)
        known = (await directory.rules())["a"]
        assert (known.rules, known.origin) == ({"Ready": "2"}, Origin.FILE)
    finally:
        operator.cancel()
        await asyncio.wait([operator])
