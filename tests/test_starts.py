"""What the start of each program loads: only what it needs, as each library delays every start."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from osmo_runtime.build import core
from osmo_simulator.builders import make_pod, task_labels
from osmo_simulator.server import Simulator
from osmo_transport import listen

OURS = "osmo_"
_LINE = re.compile(r"import time: +\d+ \| +\d+ \|( *)(\S+)")

ASKED_BY_NOBODY = "--operations=127.0.0.1:0"
"""A port whose answers need libraries, which come with the first question."""

TRANSPORT = ("asyncio", "dataclasses", "msgspec", "pathlib", "random", "shlex")
PROGRAM = (*TRANSPORT, "gc", "resource", "runpy")
PORT = ("aiohappyeyeballs", "anyio", "encodings.idna")
SERVICE = (*PROGRAM, *PORT, "uvloop")
INSTALLED = ("importlib.metadata",)
KUBERNETES = ("aiofastnet", "fractions", "httptools", "json")
READER = ("google.protobuf.descriptor_pool",) if core() == "pure Python" else ()
NEEDED = {
    "osmo_transport": TRANSPORT,
    "osmo_listener": (*SERVICE, *KUBERNETES, *READER, "picows.picows", "re2", "yaml"),
    "osmo_operator": (*SERVICE, *INSTALLED, "anyio.lowlevel", "picows.picows"),
    "osmo_worker": (*SERVICE, *INSTALLED, "anyio.abc", "sqlalchemy", "sqlite3"),
    "osmo_pipeline": (*PROGRAM, "anyio.abc", "json", "secrets", "unicodedata"),
}
"""By package, what its start may load: these, what belongs to them, and whatever they load."""

UNNEEDED = ("python_socks",)
"""What comes with a package of which a start needs only parts."""

GROUPS_OF_ANYIO = ("osmo_operator", "osmo_worker")
"""Programs that need more of anyio than its names: a tenth of a listener's start."""

SELDOM_COLLECTED = ("osmo_listener", "osmo_operator", "osmo_pipeline")
"""Programs that import nothing of ours before the module that makes imports cheaper, but for the
packages that hold it and them."""


class Import(NamedTuple):
    """As `-X importtime` tells of it."""

    name: str
    chain: tuple[str, ...]
    """Who asked for it, from the outermost module to its own importer; empty: a program that was
    running already."""

    @property
    def package(self) -> str:
        """The outermost."""
        return self.name.partition(".")[0]


def imports(told: str) -> list[Import]:
    """What a process imported, from what it wrote: an importer comes after what it imports, and is
    indented less."""
    found = []
    above: list[str] = []
    for indent, name in reversed(_LINE.findall(told)):
        del above[len(indent) // 2 :]
        found.append(Import(name, tuple(above)))
        above.append(name)
    return found


async def read(process: asyncio.subprocess.Process, until: str) -> str:
    """What it wrote up to a line that holds `until`, or to its end."""
    assert process.stdout is not None
    lines = []
    async for line in process.stdout:
        lines.append(line.decode())
        if until and until in lines[-1]:
            break
    return "".join(lines)


@asynccontextmanager
async def python(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that tells what it imports."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "importtime", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=2**20,
        # Variables of the tests look to a program like mistyped ones of its own.
        env={name: value for name, value in os.environ.items() if not name.startswith("OSMO_")},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def told_by(*arguments: str, until: str = "") -> str:
    """What Python tells with these arguments, up to a line that holds `until`."""
    async with python(*arguments) as process:
        return await read(process, until)


async def start_of(package: str, folder: Path) -> str:
    """What the program of a package tells until it is ready."""
    match package:
        case "osmo_transport":
            return await told_by("-c", "import osmo_transport")
        case "osmo_pipeline":
            return await told_by("-m", package, "--version")
        case "osmo_operator":
            options = (ASKED_BY_NOBODY, "--queue=memory://", "--listen=ws://127.0.0.1:0")
            return await told_by("-m", package, *options, until="listening on ws:")
        case "osmo_worker":
            options = (ASKED_BY_NOBODY, "--queue=memory://", "--store=memory://")
            return await told_by("-m", package, *options, until='"ready"')
    kubeconfig = folder / "kubeconfig"
    async with Simulator() as simulator, listen("ws://127.0.0.1:0") as server:
        simulator.cluster.create("pods", make_pod("pod", labels=task_labels("workflow", "task")))
        kubeconfig.touch(mode=0o600)
        kubeconfig.write_text(simulator.kubeconfig())
        where = (f"--connect={server.url}", f"--kubeconfig={kubeconfig}")
        async with python("-m", package, ASKED_BY_NOBODY, *where) as process:
            reading = asyncio.create_task(read(process, ""))
            while not any(
                message.kind == "update_pod"
                for incoming in await server.receive()
                for message in incoming.messages
            ):
                pass
            process.kill()
            return await reading


def unexpected(started: Sequence[Import], needed: Sequence[Import]) -> list[str]:
    """Each package that was loaded and is not needed, with who brought it in."""
    known = {each.package for each in needed}
    found: dict[str, str] = {}
    for each in started:
        if each.package not in known and not each.name.startswith(OURS):
            found.setdefault(each.package, " -> ".join((*each.chain, each.name)))
    return list(found.values())


@pytest.mark.parametrize("package", NEEDED)
async def test_a_start_loads_only_what_it_needs(package: str, tmp_path: Path) -> None:
    """Whoever needs more says so in `NEEDED`, and what is not needed any more is not in it."""
    started = imports(await start_of(package, tmp_path))
    needed = imports(await told_by("-c", "\n".join(f"import {each}" for each in NEEDED[package])))
    missing = {package, *NEEDED[package]} - {each.name for each in started}
    assert not missing, missing
    assert not {each.package for each in started}.intersection(UNNEEDED)
    if package not in GROUPS_OF_ANYIO:
        assert "anyio._backends._asyncio" not in {each.name for each in started}
    if package in SELDOM_COLLECTED:
        ours = [each.name for each in reversed(started) if each.name.startswith(OURS)]
        assert ours.index("osmo_runtime.garbage") <= 2, ours[:3]
    too_much = unexpected(started, needed)
    assert not too_much, "\n".join(("loaded, and in no way needed:", *too_much))
