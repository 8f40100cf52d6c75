"""The message: one report about one resource, and its bytes.

A message is encoded once, by whoever sends it, and these bytes travel: over the wire, through the
server and into the queue, until a consumer reads them. Its payload is opaque to all of these: only
who sends it and who handles it know its shape.
"""

import random
import time
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec.structs import astuple

from osmo_transport._text import shown
from osmo_transport.errors import (
    MessageTooLargeError,
    UnreadableError,
    UnsendableError,
    UsageError,
)

MAX_NAME: Final = 1024
"""Characters of a kind or a key: what is longer is no name."""

MAX_EPOCH: Final = 2**53 - 1
"""The largest epoch: what every encoding and store can hold exactly and count on from."""

MAX_REVISION = 2**63 - 1
"""The largest revision: what a database's integer can hold."""

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
Epoch = Annotated[int, msgspec.Meta(ge=0, le=MAX_EPOCH)]
Revision = Annotated[int, msgspec.Meta(ge=0, le=MAX_REVISION)]


def check_name(what: str, name: object) -> None:
    """Every name that travels is Unicode text of 1 to `MAX_NAME` characters.

    Raises:
        UsageError: `name` is not; `what` says whose it is.
    """
    text = isinstance(name, str) and not any("\ud800" <= c <= "\udfff" for c in name)
    if not (text and 0 < len(str(name)) <= MAX_NAME):
        raise UsageError(
            f"{what} is {shown(repr(name))}: it must be Unicode text of 1 to {MAX_NAME} characters"
        )


class Version(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Which of the reports that one counter numbered is newer, whatever a wall clock says.

    A version alone has no order, because it does not say what counted it: to compare two is an
    error of types, and raises TypeError. `Message.supersedes` knows, of two reports about one key.
    """

    epoch: Epoch
    """The fencing number that the server handed to the sender; 0: none yet."""
    revision: Revision
    """Orders the reports within an epoch."""


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One report.

    Two reports of a `latest` kind with the same `key` are about the same resource: the one with the
    higher `version` wins.
    """

    kind: Name
    """What the payload is; see `kinds`."""
    key: Name
    """The resource it is about: orders, compacts and shards."""
    version: Version
    id: str
    """uuid4 as 32 hex digits: correlation and tracing."""
    timestamp: float
    """When it was created, in seconds since the Unix epoch: for latency metrics alone."""
    payload: bytes
    """The encoded body."""
    final: bool = False
    """Whether the resource has come to its end, for whoever reads it: it orders nothing."""
    traceparent: str | None = None
    """W3C trace context, of a message that belongs to a trace. What a peer sent may be any text."""

    def supersedes(self, other: "Message") -> bool:
        """Whether this report makes `other` needless, which is of the same kind and key, and of the
        same backend.

        Raises:
            UsageError: it is of another kind or key.
        """
        if self.key != other.key or self.kind != other.kind:
            raise UsageError("reports of two resources were compared")
        return astuple(self.version) >= astuple(other.version)


class Head(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The beginning of an encoded message: all that whoever passes it on has to know."""

    kind: Name
    key: Name
    version: Version


class Unreadable(bytes):
    """Stands in a batch for what a peer sent in another encoding and could not be a message. Its
    value is the reason."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode
_decode_head = msgspec.msgpack.Decoder(Head).decode


def read_heads(messages: Sequence[bytes]) -> list[Head]:
    """The heads of some encoded messages, checked as their sender did; not so what only their
    reader looks at.

    Raises:
        UnreadableError: one of them is no message; the text says what is wrong with it.
    """
    try:
        if len(messages) == 1:
            return [_decode_head(messages[0])]
        return list(map(_decode_head, messages))
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise UnreadableError(_why(exc)) from exc


def read_message(data: bytes) -> Message:
    """The message of some bytes.

    Raises:
        UnreadableError: they are none; the text says what is wrong.
    """
    try:
        return _decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise UnreadableError(data.decode() if type(data) is Unreadable else _why(exc)) from exc


_NIL = 0xC0
"""What the bytes of a message end with that belongs to no trace."""


def traceparent_of(data: bytes) -> str | None:
    """The trace context of an encoded message; None: it has none, or is no message. Of one that has
    none, a byte is looked at."""
    if not data or data[-1] == _NIL:
        return None
    try:
        return read_message(data).traceparent
    except UnreadableError:
        return None


_UNSENDABLE = (
    *(msgspec.MsgspecError, TypeError, ValueError),
    *(OverflowError, BufferError, RecursionError),
)
"""What encoding raises for the values of fields: of a number that is too large, of a memoryview
with gaps, of a nesting that is too deep, and of other types."""


def encode_message(message: Message, limit: int = MAX_REVISION) -> bytes:
    """The bytes of a message; at most `limit` of them.

    Raises:
        MessageTooLargeError: they are more.
        UnsendableError: a field does not hold what it may: no server would take the message.
    """
    try:
        data = _encode(message)
        if not isinstance(message, Message):
            raise TypeError(f"Expected `Message`, got `{type(message).__name__}`")
        # Encoding checks no types: what would be unreadable for others is found out here.
        _decode(data)
        if not isinstance(message.version, Version):
            raise TypeError("Expected `Version` - at `version`")
    except _UNSENDABLE as exc:
        raise UnsendableError(f"the message cannot be sent: {_why(exc)}") from exc
    if len(data) > limit:
        raise MessageTooLargeError(len(data), limit)
    return data


_FIELDS = {f"`$[{place}]`": f"`{name}`" for place, name in enumerate(Message.__struct_fields__)} | {
    "`$[2][0]`": "`version.epoch`",
    "`$[2][1]`": "`version.revision`",
}


def _why(exc: Exception) -> str:
    """The error's text, with names in the place of positions."""
    text = str(exc)
    if text.endswith("`$[2]`"):
        text = text.replace("`array`", "`Version`")
    for place, name in _FIELDS.items():
        text = text.replace(place, name)
    return text


_UUID4_CLEAR = ~((0xF000 << 64) | (0xC000 << 48))
_UUID4_SET = (0x4000 << 64) | (0x8000 << 48)


def new_id() -> str:
    """A fresh uuid4 as 32 hex digits; `random` re-seeds itself in a forked child."""
    return (random.getrandbits(128) & _UUID4_CLEAR | _UUID4_SET).to_bytes(16).hex()


def new_message(
    kind: str,
    key: str,
    payload: bytes,
    *,
    version: Version = Version(0, 0),
    final: bool = False,
    traceparent: str | None = None,
) -> Message:
    """A message with a fresh id, created now."""
    return Message(kind, key, version, new_id(), time.time(), payload, final, traceparent)
