"""Texts of others in our logs and errors."""

MAX_SHOWN = 200
"""Characters of a text that are shown: enough for every reason that we give ourselves."""


def shown(text: str, limit: int = MAX_SHOWN) -> str:
    """The text in one line of printable characters; of a long one the beginning, and how long it
    is."""
    head = text[:limit]
    if not head.isprintable():
        head = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in head)
    return head if len(text) <= limit else f"{head}… ({len(text)} characters)"
