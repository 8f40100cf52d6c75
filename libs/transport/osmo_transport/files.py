"""Files that somebody else keeps fresh."""

from collections.abc import Sequence
from pathlib import Path


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
