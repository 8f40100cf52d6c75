"""The systems that can take part on this machine; the peers are built from their sources."""

import asyncio
import compileall
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

from osmo_benchmarks.systems import Osmo, Peer, System

OURS = (
    *("osmo_benchmarks", "osmo_listener", "osmo_operator", "osmo_protos", "osmo_runtime"),
    *("osmo_transport", "osmo_worker"),
)
"""Packages that our programs import."""
PEERS = Path(__file__).parent.parent / "peers"
"""Beside this package in a checkout; an installed package has none."""
LEGACY = Peer("legacy", (sys.executable, "-m", "legacy"), {"PYTHONPATH": str(PEERS)})
"""It is not built."""
BUILD_TIMEOUT = 600.0
"""Seconds: the first build fetches and compiles the Kubernetes client."""
TAIL_LINES = 5
"""Of the compiler's errors that are told."""

DESCRIPTIONS = {
    "legacy": "the study's Python design: kubernetes client, websockets, one sequential worker",
    "go": "the study's Go draft: client-go informer, grpc-go stream, XADD per message",
    "go-tuned": "the Go draft with slim objects, pipelined XADD and a concurrent worker",
    "osmo-ws": "this project over WebSocket",
    "osmo-grpc": "this project over gRPC",
    "osmo-memory": "this project within one process",
}
"""Every system, and a line about it."""


@dataclass(frozen=True)
class Participants:
    """Who takes part, and why others do not."""

    systems: Mapping[str, System]
    skipped: Mapping[str, str]


@asynccontextmanager
async def participants(wanted: frozenset[str]) -> AsyncIterator[Participants]:
    """The systems among `wanted` that this machine can run. The Go peers are built first, and what
    is written in Python is compiled, as it is where a package was installed: a checkout may be
    compiled anew by each process."""
    systems: dict[str, System] = {}
    skipped: dict[str, str] = {}
    with TemporaryDirectory(prefix="osmo-bench-peers-") as folder:
        for name in DESCRIPTIONS:
            if name not in wanted:
                skipped[name] = "not asked for"
        if "legacy" in wanted:
            if lacking := _legacy_lacks():
                skipped["legacy"] = lacking
            else:
                systems["legacy"] = LEGACY
        if in_go := wanted & {"go", "go-tuned"}:
            binary = Path(folder) / "peer"
            if lacking := await _build(binary):
                skipped.update(dict.fromkeys(sorted(in_go), lacking))
            else:
                both = {
                    "go": Peer("go", (str(binary),)),
                    "go-tuned": Peer("go-tuned", (str(binary),), flags=("--tuned",)),
                }
                systems |= {name: both[name] for name in both if name in wanted}
        for scheme in ("ws", "grpc", "memory"):
            ours = Osmo(scheme)
            if ours.name in wanted:
                systems[ours.name] = ours
        await asyncio.to_thread(_compile)
        yield Participants(systems, skipped)


def _compile() -> None:
    found = [importlib.util.find_spec(name) for name in OURS]
    folders = [place for spec in found if spec for place in spec.submodule_search_locations or ()]
    for folder in (*folders, str(PEERS / "legacy")):
        if Path(folder).is_dir():
            compileall.compile_dir(folder, quiet=2)


def _legacy_lacks() -> str:
    if not (PEERS / "legacy").is_dir():
        return f"its source is not there ({PEERS / 'legacy'}): run from a checkout"
    for module in ("kubernetes", "websockets"):
        if importlib.util.find_spec(module) is None:
            return f"it needs {module}: pip install 'osmo-pipeline[bench]'"
    return ""


async def _build(binary: Path) -> str:
    """Build the Go peers; why that was not possible, or nothing."""
    source = PEERS / "go"
    if not source.is_dir():
        return f"its source is not there ({source}): run from a checkout"
    go = shutil.which("go")
    if go is None:
        return "there is no Go toolchain: install Go, and see that `go version` works"
    process = await asyncio.create_subprocess_exec(
        *(go, "build", "-o", str(binary), "."),
        cwd=source,
        env={**os.environ, "CGO_ENABLED": "0"},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(BUILD_TIMEOUT):
            _, errors = await process.communicate()
    except TimeoutError:
        return f"its build did not end within {BUILD_TIMEOUT:g} s"
    finally:
        if process.returncode is None:
            # With the compilers that it has started: they are in its session.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            # A cancel scope cancels at every await, and this one is over at once.
            with anyio.CancelScope(shield=True):
                await process.wait()
    if process.returncode:
        tail = errors.decode(errors="replace").strip().splitlines()[-TAIL_LINES:]
        return "its build failed: " + "; ".join(tail)
    return ""
