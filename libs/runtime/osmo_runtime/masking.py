"""Keeps secrets out of whatever is printed or logged.

Two nets: a value whose *name* ends like a secret's is hidden whole, and in any text the password of
a URL, be it misspelt, a value that is given with the name of a secret (`token=…`), a bearer token
and a header that authorizes are hidden. Where the end of a password is not sure, more is hidden
rather than less.
"""

import re
from collections.abc import Mapping

MASK = "****"

_NAMES = r"(?:password|passwd|secret|token|authorization|api_?key)"
_SECRET_NAME = re.compile(rf"{_NAMES}$", re.IGNORECASE)
_PARTS = re.compile(
    rf"(?P<named>(?<![\w.-])[\w.-]*{_NAMES}=)[^&\s'\"]+"
    r"|(?P<header>\bauthorization:\s*(?:\w+\s+)?)\S+"
    r"|(?P<bearer>\bbearer\s+)[\w.~+/=-]{8,}",
    re.IGNORECASE,
)

# Each begins where a word does, so that no text takes longer than its length says. An image, as
# `registry/name:tag@sha256:…`, is no URL.
_UP_TO_HOST = re.compile(r"(?<!\S)\S*@(?!sha\d+:)")
_USER = re.compile(r"://[^:/?#@]*:")
_MISSPELT_USER = re.compile(r"(?:^|[/=(,\[])[\w%.+~-]*:")


def mask_text(text: str) -> str:
    """`text` without the passwords and tokens that stand in it."""
    if "@" in text:
        text = _UP_TO_HOST.sub(_without_password, text)
    return _PARTS.sub(lambda found: f"{found[found.lastgroup or 0]}{MASK}", text)


def _without_password(found: re.Match[str]) -> str:
    whole = found[0]
    user, start = _USER.search(whole), 0
    if (
        user is None
        and "://" not in whole
        and not found.string[found.end() : found.end() + 1].isspace()
    ):
        # It was to be a URL; what is quoted before it is none of its.
        start = max(whole.rfind("'"), whole.rfind('"')) + 1
        user = _MISSPELT_USER.search(whole[start:])
    return whole if user is None else f"{whole[: start + user.end()]}{MASK}@"


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
