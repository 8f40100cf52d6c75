"""Encoding what a client sends: checked by looking at it, where that is enough."""

from typing import Any, Final

import msgspec

from osmo_transport.message import (
    MAX_EPOCH,
    MAX_NAME,
    Message,
    Version,
    encode_message,
    read_message,
)

# As constants they are found at once where this is compiled, and not by their names.
_encode: Final = msgspec.msgpack.Encoder().encode
_fields_of: Final = msgspec.structs.astuple
_Message: Final = Message
_Version: Final = Version


def encoded(message: Message, limit: int) -> tuple[str, str, bytes]:
    """Kind and key of a message, and its bytes, at most `limit` of them.

    The same bytes and errors as those of `encode_message`, which finds out by reading them whether
    a message may be sent. Most have fields of exactly the types that are declared, which is seen
    in a third of the time.

    Raises:
        MessageTooLargeError, UnsendableError: as `encode_message`.
    """
    if type(message) is _Message:
        kind, key, version, ident, created, payload, final, trace = _fields_of(message)
        if (
            type(version) is _Version
            and _is_name(kind)
            and _is_name(key)
            and _are_numbers(_fields_of(version))
            and type(ident) is str
            and type(created) is float
            and type(payload) is bytes
            and type(final) is bool
            and (trace is None or type(trace) is str)
        ):
            try:
                data = _encode(message)
            except (ValueError, OverflowError):
                pass  # text that is no Unicode, for one: why is told below
            else:
                if len(data) <= limit:
                    return kind, key, data
    data = encode_message(message, limit)
    read = read_message(data)  # what is sent as text is text from here on
    return read.kind, read.key, data


def _is_name(name: Any) -> bool:
    return type(name) is str and 0 < len(name) <= MAX_NAME


def _are_numbers(version: tuple[Any, ...]) -> bool:
    """Whether both may be an epoch, and so a revision: of these the largest are left to be read."""
    epoch, revision = version
    return (
        type(epoch) is int
        and type(revision) is int
        and 0 <= epoch <= MAX_EPOCH
        and 0 <= revision <= MAX_EPOCH
    )
