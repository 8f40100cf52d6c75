"""The README's code runs, and its figures are those of the code."""

import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from osmo_transport import BackoffConfig, Limits, OutboxConfig, ServerConfig, SessionConfig
from osmo_transport.message import FIXED_SIZE

README = (Path(__file__).parents[2] / "libs/transport/README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("number", [0, 1])
async def test_an_example_runs(number: int) -> None:
    """As it stands, within fifteen lines of code."""
    names: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {}
    exec(EXAMPLES[number], names)
    (test,) = (value for name, value in names.items() if name.startswith("test_"))
    await test()
    assert sum(1 for line in EXAMPLES[number].splitlines() if line.strip()) <= 15


def test_the_contracts_can_be_subclassed_as_shown() -> None:
    """The names of the last example are there, and what they override."""
    names: dict[str, Any] = {}
    exec(EXAMPLES[2], names)
    assert names["TestPigeons"].url == "carrier://127.0.0.1:0"
    assert hasattr(names["TestLoft"], "open_queue")


def test_the_figures_are_true() -> None:
    """Each default that the text names."""
    limits, outbox, server = Limits(), OutboxConfig(), ServerConfig()
    session, backoff = SessionConfig(), BackoffConfig()
    mib = 1024 * 1024
    for said in (
        f"| {limits.message_bytes // mib} MiB | one message",
        f"payload and {FIXED_SIZE} bytes",
        f"| {limits.window_messages // 1000} 000, {limits.window_bytes // mib} MiB |",
        f"| {limits.batch_bytes // 1024} KiB |",
        f"| {outbox.max_entries // 1000} 000, {outbox.max_bytes // mib} MiB |",
        f"| {outbox.max_every_entries // 1000} 000, {outbox.max_every_bytes // mib} MiB |",
        f"| {server.max_connections // 1000} 000, {server.inbox_bytes // mib} MiB |",
        f"a ping after {session.heartbeat_interval:.0f} s",
        f"the end {session.heartbeat_timeout:.0f} s later",
        f"from {backoff.base} s to {backoff.maximum:.0f} s",
    ):
        assert said in README
