"""Files that somebody else keeps fresh: what a service tells of them, and when it finds out."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest

from osmo_runtime.operations import Check, Operations, ServiceConfig, open_operations
from osmo_runtime.operations.files import show_files
from osmo_transport import files
from osmo_transport.files import Watched, WatchedFile
from tests.helpers import eventually


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that holds the moment at which it ends."""
    found = tmp_path / "moment"
    found.write_text("1000")
    return found


def of_moment(path: Path, name: str = "moment") -> Watched[float]:
    """What is in it."""
    return Watched(name, (path,), lambda: float(path.read_text()), ends=float, wall=lambda: 0.0)


def put(path: Path, text: str) -> None:
    path.write_text(text)


def told(operations: Operations, path: Path) -> Mapping[str, float]:
    """The figures of that file."""
    return {
        figure.exposed: value
        for figure, read in operations.figures
        for value, attributes in read()
        if attributes == {"file": str(path)}
        if isinstance(value, float | int)
    }


async def test_a_broken_file_is_told_of_though_nobody_needs_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a figure, and as a hint of a service that is ready all the same; and mended it is told of
    no more."""
    monkeypatch.setattr(files, "LOOK_INTERVAL", 0.001)
    file = of_moment(path)
    broken = {"osmo_file_reload_failures_total": 1, "osmo_file_unusable": 1}
    mended = {"osmo_file_reload_failures_total": 1, "osmo_file_unusable": 0}
    async with open_operations("osmo-test", ServiceConfig(), asyncio.Event()) as operations:
        operations.check("queue", lambda: Check(ok=True))
        put(path, "tomorrow")
        await eventually(lambda: broken.items() <= told(operations, path).items())
        assert operations.readiness.is_ready()
        hint = operations.readiness.found()["files"]
        assert hint.ok
        assert str(path) in hint.reason
        assert hint.reason.endswith("what it was before stays in force")
        put(path, "2000")
        await eventually(lambda: mended.items() <= told(operations, path).items())
        assert str(path) not in str(operations.readiness.found())
    assert file.look() == 2000


def test_a_certificate_tells_how_long_it_is_good(path: Path) -> None:
    """Also when it is over; what has no end tells nothing."""
    operations = Operations()
    show_files(operations, wall=lambda: 1200.0)
    plain = WatchedFile(path, bytes, what="file")
    name = "osmo_tls_certificate_expiry_seconds"
    assert name not in told(operations, path)
    file = of_moment(path)
    assert told(operations, path)[name] == -200.0
    assert plain.look() == b"1000"
    assert file.look() == 1000


def test_of_a_file_that_is_used_twice_the_worst_is_told(path: Path) -> None:
    """Once, as two readings of one name would hide each other."""
    operations = Operations()
    show_files(operations, wall=lambda: 0.0)
    operations.check("queue", lambda: Check(ok=True))
    one, other = of_moment(path), of_moment(path)
    path.write_text("500")
    one.look()
    path.write_text("never")
    other.look()
    assert told(operations, path) == {
        "osmo_file_reload_failures_total": 1,
        "osmo_file_unusable": 1,
        "osmo_file_refused": 0,
        "osmo_tls_certificate_expiry_seconds": 500.0,
    }
    assert operations.readiness.found()["files"].reason.count(str(path)) == 1


def test_a_hint_is_no_check() -> None:
    """Who has not said yet that it is ready is not made so by one."""
    operations = Operations()
    operations.readiness.hint("files", lambda: "one is broken")
    assert operations.readiness.found() == {"service": Check(ok=False, reason="starting")}
    operations.check("queue", lambda: Check(ok=False, reason="away"))
    assert not operations.readiness.is_ready()
    assert operations.readiness.found()["files"] == Check(ok=True, reason="one is broken")
