"""The program; see the package."""

import argparse
import logging
import resource
import sys

from tests import fuzz
from tests.fuzz.families import FAMILIES
from tests.fuzz.family import run

MEMORY = 4 * 2**30
"""Bytes of addresses: an input that asks for more ends in a MemoryError."""


def main() -> int:
    """Run the program; returns its exit code: 0 if nothing was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=fuzz.__doc__)
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    # What is said of hostile inputs is not shown.
    logging.getLogger().addHandler(logging.NullHandler())
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    figures = run(FAMILIES[given.family], given.inputs, given.seed)
    print(f"{given.family}: {figures}")  # noqa: T201
    return 1 if figures.found else 0


if __name__ == "__main__":
    sys.exit(main())
