"""Compiles the core into the wheel where `OSMO_COMPILE=1` asks for it.

The modules that `pyproject.toml` lists are built by mypyc, and go into the wheel beside their
sources, which are as they were: there is one implementation. Without the variable, and in an
editable installation, nothing is compiled, and what is edited is what runs.
"""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPILERS = ["mypy>=2.4", "setuptools>=77", "types-protobuf>=6.30"]
"""What the build needs besides what the modules import."""

SCRIPT = """
import sys
from mypyc.build import mypycify
from setuptools import Distribution

work, *modules = sys.argv[1:]
options = [f"--cache-dir={work}/types", "--ignore-missing-imports"]
extensions = mypycify(
    options + modules, target_dir=f"{work}/c", group_name="osmo", opt_level="3", debug_level="0"
)
build = Distribution({"ext_modules": extensions}).get_command_obj("build_ext")
build.build_lib, build.build_temp = f"{work}/lib", f"{work}/objects"
build.ensure_finalized()
build.run()
"""
"""Not `setuptools.setup`, which would read the project's settings as its own."""


def asked() -> bool:
    """Whether the core is to be compiled."""
    return os.environ.get("OSMO_COMPILE", "") not in ("", "0")


class CompilingHook(BuildHookInterface[Any]):
    """See the module. Everything is built in a temporary folder, none of it in the tree."""

    def dependencies(self) -> list[str]:
        """What has to be installed for the build."""
        return [*COMPILERS, *self.metadata.core.dependencies] if asked() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the wheel is written.

        Raises:
            RuntimeError: that did not succeed; the text says why.
        """
        if not asked() or version == "editable":
            return
        self._work = TemporaryDirectory(prefix="osmo-compile-")
        command = (sys.executable, "-c", SCRIPT, self._work.name, *self.config["modules"])
        done = subprocess.run(  # noqa: S603  (a program of ours)
            command, cwd=self.root, capture_output=True, text=True, check=False
        )
        if done.returncode:
            self._work.cleanup()
            raise RuntimeError(
                f"{done.stdout}{done.stderr}\n"
                "OSMO_COMPILE is set, and the core could not be compiled: the lines above say why."
                " It takes a C compiler and the headers of Python. Without OSMO_COMPILE the wheel"
                " is pure Python."
            )
        built = Path(self._work.name, "lib")
        libraries = {str(path): str(path.relative_to(built)) for path in built.rglob("*.*")}
        build_data["force_include"].update(libraries)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Leave nothing behind."""
        if build_data.get("infer_tag"):
            self._work.cleanup()
