"""Files that somebody else keeps fresh."""

import gc
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from osmo_transport import UsageError
from osmo_transport.files import Watched, WatchedFile, watched


def _number(data: bytes) -> int:
    try:
        return int(data)
    except ValueError:
        raise ValueError("it is no number") from None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that holds a number."""
    found = tmp_path / "number"
    found.write_text("1")
    return found


def of_number(path: Path) -> WatchedFile[int]:
    """The number in it."""
    return WatchedFile(path, _number, what="file of a number", limit=10)


def test_what_is_new_is_used(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whether it is written anew, replaced in one step, or mounted anew by a link that leads
    elsewhere; what has not changed is not read."""
    caplog.set_level(logging.INFO)
    reads: list[bytes] = []

    def parse(data: bytes) -> int:
        reads.append(data)
        return _number(data)

    file = WatchedFile(path, parse, what="number")
    assert [file.look(), file.look()] == [1, 1]
    path.write_text("22")
    assert file.look() == 22
    other = path.with_name("other")
    other.write_text("33")
    other.replace(path)
    assert file.look() == 33
    other.write_text("44")
    path.unlink()
    path.symlink_to(other)
    assert [file.look(), file.look()] == [44, 44]
    assert reads == [b"1", b"22", b"33", b"44"]
    assert (file.changes, file.failures, file.trouble) == (3, 0, "")
    assert caplog.messages == [f"took up the new number {path}"] * 3


def _make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


BROKEN: dict[str, Callable[[Path], object]] = {
    "No such file or directory": os.unlink,
    "it is no number": lambda path: path.write_text("many"),
    "it has more than 10 bytes": lambda path: path.write_text("1" * 11),
    "Is a directory": _make_a_folder,
}


@pytest.mark.parametrize("why", BROKEN)
def test_a_file_that_cannot_be_used_changes_nothing(
    path: Path, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once and counted once, until it can be used again, which is told once too."""
    file = of_number(path)
    BROKEN[why](path)
    said = f"the file of a number {path} cannot be used: {why}"
    with pytest.raises(UsageError, match=why):
        of_number(path)
    assert [file.look() for _ in range(3)] == [1, 1, 1]
    assert (file.changes, file.failures, file.trouble) == (0, 1, said)
    caplog.set_level(logging.INFO)
    if path.is_dir():
        path.rmdir()
    path.write_text("2")
    assert [file.look(), file.look()] == [2, 2]
    assert (file.changes, file.failures, file.trouble) == (1, 1, "")
    levels = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert levels == [
        (logging.ERROR, f"{said}; what it was before stays in force"),
        (logging.INFO, f"took up the new file of a number {path}"),
    ]


def test_what_is_broken_in_the_same_way_again_is_counted_and_not_told(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As a file that is written for a long time; broken in another way, it is told again."""
    file = of_number(path)
    for text in ("m", "ma", "man", "many"):
        path.write_text(text)
        assert file.look() == 1
    assert file.failures == 4
    assert len(caplog.records) == 1
    path.unlink()
    file.look()
    assert len(caplog.records) == 2


def test_a_reader_with_a_defect_ends_nobody(path: Path) -> None:
    """What was there before stays, and nothing of the file is shown; at the start it is raised."""

    def inverse(data: bytes) -> float:
        try:
            return 1 / int(data)
        except ValueError as exc:
            raise KeyError(data) from exc

    file = WatchedFile(path, inverse, what="number")
    path.write_text("sesame")
    assert file.look() == 1.0
    assert "KeyError, a defect" in file.trouble
    assert "sesame" not in file.trouble
    with pytest.raises(KeyError):
        WatchedFile(path, inverse, what="number")


def test_what_changes_while_it_is_read_is_not_used(path: Path) -> None:
    """Of two files the one could be of before and the other of after: they are read again at the
    next look, and what was wrong with them meanwhile is neither counted nor told."""
    other = path.with_name("other")
    other.write_text("1")
    meanwhile: list[Callable[[], object]] = []

    def read() -> tuple[int, int]:
        first = _number(path.read_bytes())
        if meanwhile:
            meanwhile.pop()()
        return first, _number(other.read_bytes())

    files = Watched("pair", (path, other), read)
    meanwhile.append(lambda: other.write_text("22"))
    path.write_text("22")
    assert files.look() == (1, 1)
    assert files.look() == (22, 22)
    meanwhile.append(lambda: other.write_text("none"))
    path.write_text("333")
    assert files.look() == (22, 22)
    assert files.failures == 0
    other.write_text("333")
    assert files.look() == (333, 333)
    assert files.changes == 2


def test_what_has_ended_takes_the_place_of_nothing_that_has_not(path: Path) -> None:
    """But that of something that has ended itself, as there is nothing better."""
    now = 5.0
    file = Watched(
        "number", (path,), lambda: _number(path.read_bytes()), ends=float, wall=lambda: now
    )
    path.write_text("10")
    assert file.look() == 10
    path.write_text("4")
    assert file.look() == 10
    assert "it ended at 1970-01-01T00:00:04Z" in file.trouble
    now = 10.0
    path.write_text(" 7")
    assert file.look() == 7
    assert (file.ends, file.trouble) == (7, "")


def test_whoever_has_none_is_told_what_makes_one(tmp_path: Path) -> None:
    """But not who has one that is no good."""
    path = tmp_path / "number"
    with pytest.raises(UsageError, match=f"there is no {path}: write one"):
        WatchedFile(path, _number, what="number", absent="write one")
    path.write_text("none")
    with pytest.raises(UsageError, match="it is no number"):
        WatchedFile(path, _number, what="number", absent="write one")


def test_all_that_is_watched_is_known(path: Path) -> None:
    """As long as somebody uses it; what could never be used is not watched."""
    file = of_number(path)
    assert [each for each in watched() if each.path == path] == [file]
    path.write_text("none")
    with pytest.raises(UsageError):
        of_number(path)
    assert [each for each in watched() if each.path == path] == [file]
    del file
    gc.collect()
    assert not [each for each in watched() if each.path == path]
