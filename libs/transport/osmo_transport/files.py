"""Files that somebody else keeps fresh: read again when they change, and the last good ones stay.

    rules = WatchedFile(path, decode_rules, what="file of rules")
    rules.look()  # what is in it; costs one question to the file system where nothing changed

Whoever uses such a file looks when he needs it. `watched` lists all of this process, for who looks
at them also while nobody needs them, and tells of those that cannot be used.
"""

import logging
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from threading import Lock
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from osmo_transport.errors import UsageError

T = TypeVar("T")

LOOK_INTERVAL = 5.0
"""Seconds between two looks of who does not need a file now: what changed is used, or told of, soon
enough, and a look costs some microseconds."""

MAX_FILE = 16 * 1024 * 1024
"""Bytes of a file: a hundred thousand tokens."""

_log = logging.getLogger(__name__)

_everything: "WeakSet[Watched[Any]]" = WeakSet()
_turn = Lock()


def watched() -> "list[Watched[Any]]":
    """All that is watched in this process."""
    with _turn:
        return list(_everything)


class Watched(Generic[T]):
    """What is in files, as `read` makes it of them.

    Files that are replaced, or mounted anew, are seen at the next look. Those that cannot be used,
    be they half written, leave what was in them before in force: each reason is logged once, as is
    that it has gone. May be used in several threads.

    Args:
        what: what they are, for people.
        paths: where they are; it is called by the first of them.
        read: reads them all; raises an `OSError`, or a `ValueError` or `UsageError` that says what
            is wrong without a secret.
        ends: until when that is good, in seconds since the Unix epoch. What has ended takes the
            place of nothing that has not.
        wall: seconds since the Unix epoch.

    Raises:
        UsageError: they cannot be used even once.
    """

    def __init__(
        self,
        what: str,
        paths: Sequence[Path],
        read: Callable[[], T],
        *,
        ends: Callable[[T], float] = lambda _: inf,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.path = paths[0]
        """By what it is called."""
        self.changes = 0
        """How often something else came into force."""
        self.failures = 0
        """How often something new could not be used."""
        self.trouble = ""
        """Why what was there before is in force; empty: what is there is in force."""
        self.refused = False
        """Whether he for whom it is refuses what is in force; said by who shows it to him."""
        self._what = what
        self._paths = tuple(paths)
        self._read = read
        self._ends = ends
        self._wall = wall
        self._turn = Lock()
        self._seen = state_of(*self._paths)
        try:
            self._content = read()
        except (OSError, ValueError, UsageError) as exc:
            raise UsageError(self._reason(exc)) from exc
        with _turn:
            _everything.add(self)

    @property
    def ends(self) -> float:
        """Until when what is in force is good, in seconds since the Unix epoch."""
        return self._ends(self._content)

    def look(self) -> T:
        """What is in force now."""
        with self._turn:
            state = state_of(*self._paths)
            if state != self._seen:
                self._look_into(state)
            return self._content

    def _look_into(self, state: object) -> None:
        try:
            content = self._read()
            if self._ends(content) <= self._wall() < self.ends:
                end = datetime.fromtimestamp(self._ends(content), UTC)
                raise ValueError(f"it ended at {end:%Y-%m-%dT%H:%M:%SZ}")
        except Exception as exc:  # noqa: BLE001  (no file ends a program that runs)
            found, why = None, self._reason(exc)
        else:
            found, why = (content,), ""
        if state_of(*self._paths) != state:
            return  # somebody writes: what was read may be of two minds, and is looked at again
        self._seen = state
        if found is not None:
            (self._content,) = found
            self.changes += 1
            _log.info("took up the new %s %s", self._what, self.path)
        else:
            self.failures += 1
            if why != self.trouble:
                _log.error("%s; what it was before stays in force", why)
        self.trouble = why

    def _reason(self, exc: Exception) -> str:
        if isinstance(exc, UsageError):
            return str(exc)
        if not isinstance(exc, OSError | ValueError):
            why = f"{type(exc).__name__}, a defect of this program"  # its text may show a secret
        else:
            why = (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
        return f"the {self._what} {self.path} cannot be used: {why}"


class WatchedFile(Watched[T]):
    """What is in one file, as `parse` reads it.

    Args:
        path: where it is.
        parse: raises a `ValueError` that says what is wrong, without a secret.
        what: what it is, for people.
        limit: bytes that it may have.
        absent: what makes it, for whoever has none yet.

    Raises:
        UsageError: it cannot be used even once.
    """

    def __init__(
        self,
        path: Path,
        parse: Callable[[bytes], T],
        *,
        what: str,
        limit: int = MAX_FILE,
        absent: str = "",
    ) -> None:
        def read() -> T:
            with path.open("rb") as file:
                data = file.read(limit + 1)
            if len(data) > limit:
                raise ValueError(f"it has more than {limit} bytes")
            return parse(data)

        try:
            super().__init__(what, (path,), read)
        except UsageError as exc:
            if absent and isinstance(exc.__cause__, FileNotFoundError):
                raise UsageError(f"there is no {path}: {absent}") from exc.__cause__
            raise


def state_of(*paths: Path) -> Sequence[object]:
    """Something that is another when one of the files was replaced, or can be read again. What is
    mounted may be links that change their target: they are followed."""
    return [_state_of(path) for path in paths]


def _state_of(path: Path) -> object:
    try:
        found = path.stat()
    except OSError as exc:
        return str(exc)
    return found.st_ctime_ns, found.st_ino, found.st_size
