"""Keeps secrets out of whatever is printed or logged.

Two nets: a value whose *name* ends like a secret's is hidden whole, and in any text the password of
a URL, a secret in its query and a bearer token are hidden. Where the end of a password is not sure,
more is hidden rather than less.
"""

import re
from collections.abc import Mapping

MASK = "****"

_NAMES = r"(?:password|passwd|secret|token|authorization|api_?key)"
_SECRET_NAME = re.compile(rf"{_NAMES}$", re.IGNORECASE)
_PARTS = re.compile(
    rf"(?P<user>://[^:/?#\s@]*:)\S*(?=@)"
    rf"|(?P<query>[?&][\w.-]*{_NAMES}=)[^&\s]*"
    r"|(?P<bearer>\bbearer\s+)[\w.~+/=-]{8,}",
    re.IGNORECASE,
)


def mask_text(text: str) -> str:
    """`text` without the passwords and tokens that stand in it."""
    return _PARTS.sub(lambda found: f"{found[found.lastgroup or 0]}{MASK}", text)


def mask(value: object, name: str = "", *, secret: bool = False) -> object:
    """`value`, masked: wholly if `secret` or if `name` ends like a secret's, else the texts in it.

    What is empty or None is returned as it is, so that one sees whether a secret was given.
    """
    if value and not isinstance(value, bool) and (secret or _SECRET_NAME.search(name)):
        return MASK
    match value:
        case str():
            return mask_text(value)
        case Mapping():
            return {key: mask(item, str(key)) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [mask(item) for item in value]
    return value
