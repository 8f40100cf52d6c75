"""`osmo-pipeline` as a user types it: each command line in a process of its own, forked from one
that has imported everything, which is most of what a command takes."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FORKS = """
import json, os, sys
from importlib import import_module

from osmo_pipeline.__main__ import main

for name in ("redis.asyncio", "osmo_transport.queues.redis", "osmo_worker.store"):
    import_module(name)
for line in sys.stdin:
    argv, *paths = json.loads(line)
    child = os.fork()
    if not child:
        for number, path in enumerate(paths, 1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.argv = ["osmo-pipeline", *argv]
        sys.exit(main())
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Commands:
    """Runs command lines."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self._process = process
        self._paths = [folder / "stdout", folder / "stderr"]

    def __call__(self, *argv: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([argv, *map(str, self._paths)]) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        out, err = (path.read_text() for path in self._paths)
        return code, out, err


@contextmanager
def commands(folder: Path) -> Iterator[Commands]:
    """What runs them; the folder is for what they say."""
    with subprocess.Popen(
        [sys.executable, "-c", _FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Commands(process, folder)
