"""Turns what a source holds into the value of a field, or says why not."""

import math
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect as kinds

from osmo_runtime.errors import SettingsError
from osmo_runtime.fields import Leaf, Shape
from osmo_runtime.masking import mask

SHOWN_LENGTH = 80
"""Characters of a wrong value that an error repeats: enough to recognise it."""


def convert(leaf: Leaf, origin: str, raw: object, *, strict: bool) -> object:
    """`raw`, which `origin` holds for this field, as a value of the field's type.

    `strict` where the source has types of its own (TOML); without it, numbers and truth values are
    read from text and a mapping from items `key=value`.

    Raises:
        SettingsError: it does not fit the type or its bounds.
    """
    value = raw
    try:
        if leaf.shape is Shape.MAPPING and isinstance(raw, list) and not strict:
            pairs = [_pair(item) for item in raw]
            value = dict(pairs)
            if len(value) < len(pairs):
                raise SettingsError(f"{origin}: {_twice(pairs)!r} is given twice")
        value = msgspec.convert(value, leaf.type, strict=strict, dec_hook=_decode)
        if isinstance(value, float) and math.isnan(value):
            raise ValueError(value)
    except ValueError:
        shown = repr(mask(raw, leaf.path[-1], secret=leaf.setting.secret))
        if len(shown) > SHOWN_LENGTH:
            shown = f"{shown[:SHOWN_LENGTH]}..."
        allowed = leaf.setting.allowed or in_words(kinds.type_info(leaf.type))
        if leaf.setting.metavar:
            allowed = f"{allowed}, {leaf.setting.metavar}"
        raise SettingsError(f"{origin}: {shown} is not allowed: expected {allowed}") from None
    return value


def _twice(pairs: list[tuple[str, str]]) -> str:
    keys = [key for key, _ in pairs]
    return next(key for key in keys if keys.count(key) > 1)


def in_words(kind: kinds.Type) -> str:  # noqa: PLR0911  (one for each kind of type)
    """What values of a type look like."""
    match kind:
        case kinds.Metadata(type=inner):
            return in_words(inner)
        case kinds.BoolType():
            return "true or false"
        case kinds.IntType():
            return _bounded("a whole number", kind)
        case kinds.FloatType():
            return _bounded("a number", kind)
        case kinds.StrType():
            return _text(kind)
        case kinds.EnumType(cls=cls):
            return f"one of {', '.join(str(member.value) for member in cls)}"
        case kinds.LiteralType(values=values):
            return f"one of {', '.join(str(value) for value in values)}"
        case kinds.UnionType(types=types):
            return " or ".join(in_words(t) for t in types if not isinstance(t, kinds.NoneType))
        case kinds.CollectionType(item_type=item):
            return f"a list, each item {in_words(item)}"
        case kinds.DictType(value_type=item):
            return f"pairs of a key and {in_words(item)}"
        case kinds.CustomType(cls=cls):
            return f"a {cls.__name__.lower()}"
    raise TypeError(f"no configuration field can be of type {kind}")


def _bounded(noun: str, kind: kinds.IntType | kinds.FloatType) -> str:
    bounds = {"above": kind.gt, "from": kind.ge, "below": kind.lt, "up to": kind.le}
    return " ".join(
        [noun, *(f"{word} {bound}" for word, bound in bounds.items() if bound is not None)]
    )


def _text(kind: kinds.StrType) -> str:
    if kind.pattern:
        return f"text that matches {kind.pattern}"
    return "text that is not empty" if kind.min_length else "text"


def _pair(item: str) -> tuple[str, str]:
    key, separator, value = item.partition("=")
    if not key or not separator:
        raise ValueError(item)
    return key, value


def _decode(hint: type[Any], raw: Any) -> Any:
    if hint is not Path:
        raise TypeError(f"no configuration field can be of type {hint}")
    path = Path(raw)
    return path.expanduser() if path.parts[:1] == ("~",) else path
