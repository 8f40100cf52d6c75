"""A password that stands in a file, which somebody else may change at any time."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from osmo_transport.files import WatchedFile

MAX_PASSWORD = 4096
"""Bytes of a password: longer than any that is in use, and too little for a wrong file."""

ROTATION_TIME = 600.0
"""Seconds for which a password that was right may be wrong: whoever changes it does so at the
server and in the file, one after the other, and a mounted Secret follows its source after minutes.
"""

_log = logging.getLogger(__name__)


class PasswordFile:
    """A file with one password, looked at for each connection. `str()` of it is its path.

    While the file cannot be used, the password that it had before goes on to count.

    Args:
        path: where the file is.
        clock: seconds that only rise.

    Raises:
        UsageError: the file cannot be read, or holds no password.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._was_right = False
        self._refused_since: float | None = None
        self._file = WatchedFile(path, _password, what="password file", limit=MAX_PASSWORD)

    def __str__(self) -> str:
        return str(self._file.path)

    def read(self) -> str:
        """The password of now, without the end of its line."""
        return self._file.look()

    def accepted(self) -> None:
        """The server has taken the password."""
        self._was_right = True
        self._refused_since = None
        self._file.refused = False

    def refused(self) -> None:
        """The server has not."""
        self._file.refused = True

    def may_follow(self) -> bool:
        """As `refused`; whether the right one may still come into the file, which is so for
        `ROTATION_TIME` where it was right before."""
        self.refused()
        if not self._was_right:
            return False
        if self._refused_since is None:
            self._refused_since = self._clock()
            text = "the password in %s is refused: waiting %.0f s for the new one"
            _log.error(text, self, ROTATION_TIME)
        return self._clock() - self._refused_since < ROTATION_TIME


def _password(data: bytes) -> str:
    try:
        password = data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        # Of another sort, whose text would show what was read.
        raise ValueError("it is no UTF-8") from None
    if not password:
        raise ValueError("it is empty")
    return password
