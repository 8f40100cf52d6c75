"""Where a run takes place, and with which versions."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path

from osmo_benchmarks.run import Machine
from osmo_runtime import build

DISTRIBUTIONS = (
    "grpcio",
    "kubernetes",
    "msgspec",
    "picows",
    "redis",
    "sqlalchemy",
    "uvloop",
    "websockets",
)
PROGRAM_TIMEOUT = 10.0
"""Seconds that a program may take to tell its version."""


def machine() -> Machine:
    """This one."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        memory_gb=round(memory / 2**30, 1),
        cpu=_cpu(),
        kernel=f"{platform.system()} {platform.release()}",
    )


def available_memory_gb() -> float:
    """What programs could still take without swapping."""
    return _meminfo("MemAvailable") / 2**20


def versions() -> dict[str, str]:
    """Of what the figures depend on; what is not installed is left out."""
    # When it was built tells two of one version apart, which may differ by a tenth in all that is
    # ours: one was optimized, and the other not.
    python = f"{platform.python_version()} ({platform.python_build()[1]})"
    found = {"python": python, "osmo-pipeline": build.version()}
    for name in DISTRIBUTIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    assets = os.environ.get("KUBEBUILDER_ASSETS", "")
    commands = {
        "go": (shutil.which("go"), "version"),
        "redis-server": (shutil.which("redis-server"), "--version"),
        "kube-apiserver": (shutil.which("kube-apiserver", path=assets), "--version"),
    }
    for name, (command, argument) in commands.items():
        if command and (said := _output(command, argument)):
            found[name] = said
    return found


def _output(command: str, argument: str) -> str:
    try:
        done = subprocess.run(
            (command, argument), capture_output=True, text=True, timeout=PROGRAM_TIMEOUT, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip().partition("\n")[0]


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _meminfo(field: str) -> float:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return float(line.split()[1])
    return 0.0
