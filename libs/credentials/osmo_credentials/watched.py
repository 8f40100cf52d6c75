"""A file that somebody else keeps fresh: read when it changes, and the last good one stays."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from osmo_transport.errors import UsageError
from osmo_transport.files import state_of

T = TypeVar("T")

MAX_FILE = 16 * 1024 * 1024
"""Bytes of a file: a hundred thousand tokens."""

logger = logging.getLogger(__name__)


class WatchedFile(Generic[T]):
    """The content of a file, as `parse` reads it.

    A file that is replaced in one step, or mounted anew, is seen at the next look; one that cannot
    be read, or is half written, leaves the one before in force, and that is logged once.
    """

    def __init__(self, path: Path, parse: Callable[[bytes], T], absent: str = "") -> None:
        """
        Args:
            parse: raises a `ValueError` that says what is wrong.
            absent: what to do when there is no such file.

        Raises:
            UsageError: it cannot be used even once.
        """
        self._path = path
        self._parse = parse
        self._seen: object = None
        self.changes = 0
        """How often another content came into force."""
        self.failures = 0
        """How often a new one could not be used."""
        try:
            self._seen = state_of(path)
            self._content = self._read()
        except FileNotFoundError as exc:
            raise UsageError(f"there is no {path}{absent and f': {absent}'}") from exc
        except (OSError, ValueError) as exc:
            raise UsageError(f"cannot use {path}: {exc}") from exc

    def look(self) -> T:
        """The content in force. Costs one question to the file system where nothing changed."""
        state = state_of(self._path)
        if state != self._seen:
            self._seen = state
            try:
                self._content = self._read()
            except (OSError, ValueError) as exc:
                self.failures += 1
                text = "cannot use the new %s, the one before stays: %s"
                logger.error(text, self._path, exc)  # noqa: TRY400  (a traceback says no more)
            else:
                self.changes += 1
                logger.info("took up the new %s", self._path)
        return self._content

    def _read(self) -> T:
        with self._path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
        if len(data) > MAX_FILE:
            raise ValueError(f"it is larger than {MAX_FILE} bytes")
        return self._parse(data)
