"""A script."""

import hashlib
from typing import NamedTuple

SIZE = """
local function size_of(fields)
  local size = 0
  for _, field in ipairs(fields) do size = size + #field end
  return size
end
"""
"""The bytes of an entry's fields."""


class Script(NamedTuple):
    """Its text, and the name by which EVALSHA knows it."""

    text: str
    sha: str


def script(text: str) -> Script:
    """The script with this text."""
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
