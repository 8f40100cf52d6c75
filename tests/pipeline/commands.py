"""Programs as a user types them: each command line in a process of its own, forked from one that
has imported everything, which is most of what a command takes."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

_FORKS = """
import gc, json, os, sys
from importlib import import_module

for name in ("redis.asyncio", "osmo_transport.queues.redis", "osmo_worker.store"):
    import_module(name)
for line in sys.stdin:
    program, argv, environment, *paths = json.loads(line)
    main = import_module(f"{program}.__main__").main
    # Else each child copies all memory when it ends, to look for garbage.
    gc.freeze()
    child = os.fork()
    if not child:
        for number, path in enumerate(paths, 1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.environ.update(environment)
        sys.argv = [program.replace("_", "-"), *argv]
        sys.exit(main())
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Commands:
    """Runs command lines."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self._process = process
        self._paths = [folder / "stdout", folder / "stderr"]

    def __call__(
        self,
        *argv: str,
        program: str = "osmo_pipeline",
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> tuple[int, str, str]:
        """Exit code, stdout and stderr; `environment` is added to that of this process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(
            json.dumps([program, argv, {**environment}, *map(str, self._paths)]) + "\n"
        )
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
