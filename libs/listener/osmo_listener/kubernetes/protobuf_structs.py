"""From protobuf messages to the structs of an object, by the structs' own fields.

A struct's fields have the names that they have in JSON, which are those of the message too. What an
absent field is in JSON, it is here.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, TypeVar, get_args

import msgspec

from osmo_listener.kubernetes.protobuf_times import TIMES
from osmo_transport.errors import MissingExtraError

try:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor
    from google.protobuf.message import DecodeError, Message

    from osmo_protos import kubernetes_pb2 as pb
except ImportError as exc:
    raise MissingExtraError(
        "reading Kubernetes' protobuf needs protobuf: pip install 'osmo-pipeline[kubernetes]'"
    ) from exc


S = TypeVar("S")

Convert = Callable[[Any, Any], Any]
"""Makes what a struct has of a field's value; the second argument is the message itself."""


def reader_of(struct: type[S], name: str) -> Callable[[bytes, int, int], S]:
    """Reads the message of this name that lies between two places.

    Raises:
        ValueError: by what it returns: it is no such message.
        OverflowError, OSError: by what it returns: a time cannot be written.
    """
    message: Any = getattr(pb, name)
    parse, convert = message.FromString, reader(struct, message.DESCRIPTOR)

    def read(data: bytes, begin: int, end: int) -> S:
        try:
            found = parse(memoryview(data)[begin:end])
        except DecodeError as exc:
            raise ValueError(str(exc)) from exc
        item: S = convert(found)
        return item

    return read


def reader(struct: type[Any], message: Descriptor) -> Callable[[Message], Any]:
    """Makes a `struct` of a message. A field that the message does not have keeps its default."""
    names: list[str] = []
    conversions: list[tuple[int, Convert]] = []
    for field in msgspec.structs.fields(struct):
        found = message.fields_by_name.get(field.encode_name)
        if convert := _constant(field.default) if found is None else _conversion(field, found):
            conversions.append((len(names), convert))
        names.append(found.name if found else message.fields[0].name)
    values = _values(names)
    if not conversions:
        return lambda item: struct(*values(item))

    def read(item: Message) -> Any:
        found = [*values(item)]
        for index, convert in conversions:
            found[index] = convert(found[index], item)
        return struct(*found)

    return read


def _values(names: list[str]) -> Callable[[Message], tuple[Any, ...]]:
    """Reads the fields with these names in one go."""
    get = attrgetter(*names)
    return get if len(names) > 1 else lambda item: (get(item),)


def _conversion(field: msgspec.structs.FieldInfo, found: FieldDescriptor) -> Convert | None:
    """What is to be done to the value of a field, if anything."""
    kinds = get_args(field.type) or (field.type,)
    optional = type(None) in kinds
    content = found.message_type
    if found.type == FieldDescriptor.TYPE_BYTES and field.type is not bytes:
        return (
            (lambda value, _: _text(value) or None) if optional else lambda value, _: _text(value)
        )
    if content is None and found.is_repeated:
        return lambda value, _: tuple(value)
    if content is None:
        return (lambda value, _: value or None) if optional else None
    if content.GetOptions().map_entry:
        return _mapping(field.type, content.fields_by_name["value"])
    if write := TIMES.get(content.name):
        default = field.default
        return lambda value, _: (
            write(value.seconds, value.nanos) if value.HasField("seconds") else default
        )
    inner = reader(kinds[0], content)
    if found.is_repeated:
        return lambda value, _: tuple([inner(each) for each in value]) if value else ()
    if optional:
        name = found.name
        return lambda value, item: inner(value) if item.HasField(name) else None
    return lambda value, _: inner(value)


def _text(value: bytes) -> str:
    # As the API server does when it writes JSON.
    return value.decode(errors="replace")


def _constant(value: object) -> Convert:
    return lambda *_: value


def _mapping(kind: Any, value: FieldDescriptor) -> Convert:
    """Reads a mapping, whole or into a struct that has some of its keys."""
    text: Callable[[Any], str] = attrgetter("string") if value.message_type else str
    if get_args(kind):
        return lambda entries, _: {key: text(each) for key, each in entries.items()}
    keys = [field.encode_name for field in msgspec.structs.fields(kind)]
    nothing = kind()

    def read(entries: Any, _: object) -> Any:
        if not entries:
            return nothing
        found = map(entries.get, keys)
        return kind(*[None if each is None else text(each) for each in found])

    return read
