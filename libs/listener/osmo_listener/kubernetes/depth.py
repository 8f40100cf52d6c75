"""JSON that nests more deeply than a decoder can follow, made flat enough to be taken apart.

An API server takes custom resources of 10 000 levels; msgspec gives up at Python's own limit, also
in what it would skip.
"""

import re

MOST = 200
"""Levels that are kept: more than anything has that is meant to be read."""

TOO_DEEP = rb'"\u0000nests too deeply\u0000"'
"""What takes the place of everything below: text that no API server sends."""

_PARTS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


def shallow(text: bytes) -> bytes:
    """The same with `MOST` levels; whatever is no JSON stays none."""
    kept: list[bytes] = []
    done = depth = 0
    for part in _PARTS.finditer(text):
        if part[0] in b"[{":
            depth += 1
            if depth == MOST + 1:
                kept += text[done : part.start()], TOO_DEEP
                done = len(text)
        elif part[0] in b"]}":
            if depth == MOST + 1:
                done = part.end()
            depth -= 1
    return b"".join([*kept, text[done:]])
