"""A password in a file, which somebody else changes."""

import logging
from pathlib import Path

import pytest

from osmo_transport import UsageError, files
from osmo_transport.passwords import MAX_PASSWORD, ROTATION_TIME, PasswordFile


def test_the_newest_counts_without_the_end_of_its_line(tmp_path: Path) -> None:
    """Other spaces belong to it."""
    path = tmp_path / "password"
    path.write_text(" one \r\n")
    file = PasswordFile(path)
    assert file.read() == " one "
    path.write_text("two")
    assert file.read() == "two"
    assert str(file) == str(path)


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe", b"x" * (MAX_PASSWORD + 1)])
def test_a_file_that_is_no_good(
    tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Is refused at the start, and later the last password is kept, with one error."""
    path = tmp_path / "password"
    path.write_text("sesame")
    file = PasswordFile(path)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=f"the password file {path} cannot be used: "):
        PasswordFile(path)
    assert [file.read(), file.read()] == ["sesame"] * 2
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "sesame" not in caplog.text


def test_one_that_was_right_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """For a bounded time, which begins anew when one was accepted; one that never was is not."""
    path = tmp_path / "password"
    path.write_text("sesame")
    now = 0.0
    file = PasswordFile(path, clock=lambda: now)
    (watched,) = (each for each in files.watched() if each.path == path)
    assert not watched.refused
    assert not file.may_follow()
    for _ in range(2):
        assert watched.refused
        file.accepted()
        assert not watched.refused
        assert file.may_follow()
        now += ROTATION_TIME - 1
        assert file.may_follow()
        now += 1
        assert not file.may_follow()
    assert len(caplog.records) == 2
