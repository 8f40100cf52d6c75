"""Compiles the bytecode of this installation, and prints its version and build."""

import compileall
import importlib.util
import sys
from pathlib import Path

from osmo_benchmarks.participants import PEERS
from osmo_runtime import build

PACKAGES = (
    *("osmo_benchmarks", "osmo_listener", "osmo_operator", "osmo_protos", "osmo_runtime"),
    *("osmo_transport", "osmo_worker"),
)
"""What our programs import."""


def main() -> None:
    """Compile, then print."""
    found = [importlib.util.find_spec(name) for name in PACKAGES]
    folders = [place for spec in found if spec for place in spec.submodule_search_locations or ()]
    for folder in (*folders, str(PEERS / "legacy")):
        if Path(folder).is_dir():
            compileall.compile_dir(folder, quiet=2)
    sys.stdout.write(f"{build.version()}\n")


if __name__ == "__main__":
    main()
