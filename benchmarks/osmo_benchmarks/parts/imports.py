"""What every process pays before it works: CPU time and memory of what it imports.

python -m osmo_benchmarks.parts.imports [--rounds N]

The packages take turns. The first row is what asyncio and TLS take, without any of this project.
"""

import argparse
import os
import subprocess
import sys

from osmo_benchmarks.parts.common import spread

IMPORTS = (
    "asyncio, ssl",
    "osmo_transport",
    "osmo_listener.__main__",
    "osmo_operator.__main__",
    "osmo_worker.__main__",
    "osmo_pipeline.__main__",
)


def one_round(imported: str) -> tuple[float, float]:
    """User and system time in seconds, and peak resident set in MB."""
    process = subprocess.Popen([sys.executable, "-c", f"import {imported}"])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{imported} cannot be imported")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    for imported in IMPORTS:
        one_round(imported)  # compiles what is not compiled yet
    results = [[one_round(imported) for imported in IMPORTS] for _ in range(rounds)]
    for imported, each in zip(IMPORTS, zip(*results, strict=True), strict=True):
        cpu, rss = zip(*each, strict=True)
        print(f"{imported}: CPU {spread(cpu, 1e3)} ms, peak RSS {spread(rss)} MB")


if __name__ == "__main__":
    main()
