"""The JSON of deployed listeners' messages, as protobuf's mapping to JSON has it.

Written with the names of the .proto file, with every field that has no presence and with the one
body that is set. Read in all of its forms: names in camelCase too, enums by number, numbers as
text, fields that are absent or null, and fields that are not known.
"""

from typing import Any, get_args

import msgspec

from osmo_deployed.messages import ListenerMessage, LoggingType
from osmo_reports.errors import BodyError

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(ListenerMessage).decode
_decode_any = msgspec.json.Decoder().decode


def encode(message: ListenerMessage) -> bytes:
    """The JSON of a message."""
    fields = msgspec.structs.asdict(message)
    return _encode({name: value for name, value in fields.items() if value is not None})


def encode_without_nul(message: ListenerMessage) -> bytes:
    """The JSON of a message, with U+FFFD for each U+0000: the deployed workers' database takes
    none, and they would try such a message for ever."""
    text = encode(message)
    # Unless the backslash itself is escaped, this is a U+0000: only the values can tell.
    return _encode(_clean(_decode_any(text))) if b"\\u0000" in text else text


def _clean(value: Any) -> Any:
    match value:
        case str():
            return value.replace("\0", "\ufffd")
        case dict():
            return {_clean(key): _clean(item) for key, item in value.items()}
        case list():
            return [_clean(item) for item in value]
        case _:
            return value


def decode(text: bytes) -> ListenerMessage:
    """The message in its JSON.

    Raises:
        BodyError: it is none.
    """
    try:
        return _decode(text)
    except (ValueError, RecursionError):
        pass  # another form, or none at all
    try:
        plain = _plain(ListenerMessage, _decode_any(text))
        return msgspec.convert(plain, ListenerMessage, strict=False)
    except (ValueError, RecursionError) as exc:
        raise BodyError(f"no message of a deployed listener: {exc}") from exc


def _plain(type_: type[Any], value: Any) -> Any:
    """A value of a struct or an enum in the form that this module writes."""
    if isinstance(value, list):
        return [_plain(type_, item) for item in value]
    if type_ is LoggingType and isinstance(value, int) and not isinstance(value, bool):
        names = [member.value for member in LoggingType]
        return names[value] if 0 <= value < len(names) else value
    if not isinstance(value, dict) or not issubclass(type_, msgspec.Struct):
        return value
    fields = _FIELDS[type_]
    known = ((fields[name], item) for name, item in value.items() if name in fields)
    return {
        name: item if inner is None else _plain(inner, item)
        for (name, inner), item in known
        if item is not None
    }


_Fields = dict[str, tuple[str, type[Any] | None]]
"""By the names that a field may have: its own, and the struct or enum that it holds, if any."""


def _fields(type_: type[Any], found: dict[type[Any], _Fields]) -> None:
    names = found[type_] = {}
    for field in msgspec.structs.fields(type_):
        inner = next((t for t in (field.type, *get_args(field.type)) if _is_inner(t)), None)
        first, *words = field.name.split("_")
        camel = first + "".join(word.capitalize() for word in words)
        names[field.name] = names[camel] = field.name, inner
        if inner is not None and issubclass(inner, msgspec.Struct):
            _fields(inner, found)


def _is_inner(candidate: object) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, msgspec.Struct | LoggingType)


_FIELDS: dict[type[Any], _Fields] = {}
_fields(ListenerMessage, _FIELDS)
