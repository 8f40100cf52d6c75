"""A script."""

import hashlib
from typing import NamedTuple


class Script(NamedTuple):
    """Its text, and the name by which EVALSHA knows it."""

    text: str
    sha: str


def script(text: str) -> Script:
    """The script with this text."""
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
