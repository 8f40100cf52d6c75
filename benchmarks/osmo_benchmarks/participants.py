"""The systems that can take part on this machine; the peers are built from their sources."""

import asyncio
import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from osmo_benchmarks.errors import PlanError, ProgramError
from osmo_benchmarks.processes import module, program
from osmo_benchmarks.systems import OTHER, Osmo, Other, Peer, System
from osmo_transport.naming import setting

PEERS = Path(__file__).parent.parent / "peers"
"""Beside this package in a checkout; an installed package has none."""
LEGACY = Peer("legacy", (sys.executable, "-m", "legacy"), {"PYTHONPATH": str(PEERS)})
"""It is not built."""
BUILD_TIMEOUT = 600.0
"""Seconds: the first build fetches and compiles the Kubernetes client."""
COMPILE_TIMEOUT = 120.0
"""Seconds until the bytecode of an installation is there."""
UNASKED = "not asked for"
TAIL_LINES = 5
"""Of the compiler's errors that are told."""

DESCRIPTIONS = {
    "legacy": "the study's Python design: kubernetes client, websockets, one sequential worker",
    "go": "the study's Go draft: client-go informer, grpc-go stream, XADD per message",
    "go-tuned": "the Go draft with slim objects, pipelined XADD and a concurrent worker",
    "osmo-ws": "this project over WebSocket",
    "osmo-grpc": "this project over gRPC",
    "osmo-memory": "this project within one process",
    OTHER: "this project over WebSocket, in another installation",
}
"""Every system, and a line about it."""


@dataclass(frozen=True)
class Participants:
    """Who takes part, and why others do not."""

    systems: Mapping[str, System]
    skipped: Mapping[str, str]
    other: str = ""
    """Which version and build `osmo-other` is, if it takes part."""


@asynccontextmanager
async def participants(
    wanted: frozenset[str], beside: Path | None = None
) -> AsyncIterator[Participants]:
    """The systems among `wanted` that this machine can run; `beside` is the Python of `osmo-other`.
    The Go peers are built first, and what is written in Python is compiled, as it is where a
    package was installed: a checkout may be compiled anew by each process.

    Raises:
        PlanError: `beside` cannot run this project's programs.
    """
    with TemporaryDirectory(prefix="osmo-bench-peers-") as name:
        folder = Path(name)
        systems, skipped = await _peers(wanted, folder)
        for ours in (Osmo(scheme) for scheme in ("ws", "grpc", "memory")):
            if ours.name in wanted:
                systems[ours.name] = ours
        await _compiled(sys.executable, folder)
        other = ""
        if OTHER in wanted and beside is None:
            skipped[OTHER] = f"is measured where {setting('beside')} names its Python"
        elif OTHER in wanted:
            systems[OTHER] = Other("ws", str(beside))
            try:
                other = await _compiled(str(beside), folder)
            except ProgramError as exc:
                raise PlanError(f"{setting('beside')} is {beside}: {exc}") from exc
        skipped |= dict.fromkeys((each for each in DESCRIPTIONS if each not in wanted), UNASKED)
        yield Participants(systems, skipped, other)


async def _peers(wanted: frozenset[str], folder: Path) -> tuple[dict[str, System], dict[str, str]]:
    """Those that can run, and why others cannot."""
    systems: dict[str, System] = {}
    skipped: dict[str, str] = {}
    if "legacy" in wanted:
        if lacking := _legacy_lacks():
            skipped["legacy"] = lacking
        else:
            systems["legacy"] = LEGACY
    if in_go := wanted & {"go", "go-tuned"}:
        binary = folder / "peer"
        if lacking := await _build(binary):
            skipped.update(dict.fromkeys(sorted(in_go), lacking))
        else:
            both = {
                "go": Peer("go", (str(binary),)),
                "go-tuned": Peer("go-tuned", (str(binary),), flags=("--tuned",)),
            }
            systems |= {name: both[name] for name in both if name in wanted}
    return systems, skipped


async def _compiled(python: str, folder: Path) -> str:
    """Compile the bytecode of an installation; its version and build."""
    command = module("osmo_benchmarks.installation", python)
    async with program("the installation", command, folder / "log") as running:
        return (await running.output(COMPILE_TIMEOUT)).strip()


def _legacy_lacks() -> str:
    if not (PEERS / "legacy").is_dir():
        return f"its source is not there ({PEERS / 'legacy'}): run from a checkout"
    for needed in ("kubernetes", "websockets"):
        if importlib.util.find_spec(needed) is None:
            return f"it needs {needed}: pip install 'osmo-pipeline[bench]'"
    return ""


async def _build(binary: Path) -> str:
    """Build the Go peers; why that was not possible, or nothing."""
    source = PEERS / "go"
    if not source.is_dir():
        return f"its source is not there ({source}): run from a checkout"
    go = shutil.which("go")
    if go is None:
        return "there is no Go toolchain: install Go, and see that `go version` works"
    # A task: asyncio ends a process whose start is cancelled, but not what is in its session.
    starting = asyncio.create_task(
        asyncio.create_subprocess_exec(
            *(go, "build", "-o", str(binary), "."),
            cwd=source,
            env={**os.environ, "CGO_ENABLED": "0"},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    )
    try:
        await asyncio.wait([starting])
        async with asyncio.timeout(BUILD_TIMEOUT):
            _, errors = await starting.result().communicate()
    except TimeoutError:
        return f"its build did not end within {BUILD_TIMEOUT:g} s"
    finally:
        # A cancel scope cancels at every await, and this is over at once.
        with anyio.CancelScope(shield=True):
            process = await starting
            if process.returncode is None:
                # With the compilers that it has started: they are in its session.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
    if process.returncode:
        tail = errors.decode(errors="replace").strip().splitlines()[-TAIL_LINES:]
        return "its build failed: " + "; ".join(tail)
    return ""
