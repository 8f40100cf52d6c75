"""The README's figures are those of the code, and its examples short; `tests/test_examples.py` runs
them."""

from osmo_transport import BackoffConfig, Limits, OutboxConfig, ServerConfig, SessionConfig
from osmo_transport.transports.abc import WRITE_BUFFER
from tests.examples import ROOT, examples

README = (ROOT / "libs/transport/README.md").read_text()
TESTS = [
    code
    for name, code in examples().items()
    if name.startswith("libs_transport_README") and "async def test_" in code
]


def test_its_tests_are_short() -> None:
    """Within fifteen lines of code each: of the library, and of testing with it."""
    assert len(TESTS) >= 2
    for code in TESTS:
        assert sum(1 for line in code.splitlines() if line.strip()) <= 15, code


def test_the_figures_are_true() -> None:
    """Each default that the text names."""
    limits, outbox, server = Limits(), OutboxConfig(), ServerConfig()
    session, backoff = SessionConfig(), BackoffConfig()
    mib = 1024 * 1024
    for said in (
        f"| {limits.message_bytes // mib} MiB | one message",
        f"| {limits.window_messages // 1000} 000, {limits.window_bytes // mib} MiB |",
        f"| {limits.batch_bytes // 1024} KiB |",
        f"| {outbox.max_entries // 1000} 000, {outbox.max_bytes // mib} MiB |",
        f"| {outbox.max_every_entries // 1000} 000, {outbox.max_every_bytes // mib} MiB |",
        f"| {server.max_connections // 1000} 000, {server.inbox_bytes // mib} MiB |",
        f"`WRITE_BUFFER` ({WRITE_BUFFER // 1024} KiB)",
        f"a ping after {session.heartbeat_interval:.0f} s",
        f"the end {session.heartbeat_timeout:.0f} s later",
        f"was silent for {server.lease:.0f} s",
        f"broke and {server.lease_grace:.0f} s passed",
        f"from {backoff.base} s to {backoff.maximum:.0f} s",
    ):
        assert said in README
