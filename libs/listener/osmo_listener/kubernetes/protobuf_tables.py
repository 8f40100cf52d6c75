"""The tables by which `protobuf_reader` reads: made of a struct's fields and the message's.

What the messages have is read from `kubernetes.binpb`, which the protobuf compiler wrote, by the
same reader: importing the protobuf library takes longer than the rest of a start's first list.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, get_args

import msgspec

import osmo_protos
from osmo_listener.kubernetes.protobuf_reader import (
    FLAG,
    KEYS,
    MAP,
    MESSAGE,
    MESSAGES,
    NUMBER,
    NUMBERS,
    RAW,
    STRING,
    TEXT,
    TIME,
    Slot,
    Table,
    read,
)
from osmo_listener.kubernetes.protobuf_times import TIMES

_REPEATED = 3
"""The label of a field."""
_INT32, _BOOL, _STRING, _MESSAGE, _BYTES = 5, 8, 9, 11, 12
"""Types of fields."""


class _Field(msgspec.Struct, frozen=True):
    """`FieldDescriptorProto`."""

    name: str
    number: int
    label: int
    type: int
    type_name: str


class _Options(msgspec.Struct, frozen=True):
    """`MessageOptions`."""

    map_entry: bool


class _Message(msgspec.Struct, frozen=True):
    """`DescriptorProto`."""

    name: str
    fields: tuple[_Field, ...]
    options: _Options
    entries: "tuple[_Message, ...]" = ()
    """Messages within it: the entries of its mappings."""


class _File(msgspec.Struct, frozen=True):
    """`FileDescriptorProto`."""

    package: str
    messages: tuple[_Message, ...]


class _Files(msgspec.Struct, frozen=True):
    """`FileDescriptorSet`."""

    files: tuple[_File, ...]


def _descriptors() -> Table:
    """The table of `FileDescriptorSet`: a table cannot be made of what is read by it."""

    def table(make: type[Any], absent: list[Any], *slots: tuple[int, Slot]) -> Table:
        late = [slot for _, slot in slots if slot.kind == MESSAGES]
        return Table(dict(slots), make, absent, late)

    options = table(_Options, [False], (7, Slot(FLAG, 0)))
    field = table(
        _Field,
        ["", 0, 0, 0, ""],
        *((1, Slot(STRING, 0)), (3, Slot(NUMBER, 1)), (4, Slot(NUMBER, 2))),
        *((5, Slot(NUMBER, 3)), (6, Slot(STRING, 4))),
    )
    plain = (1, Slot(STRING, 0)), (2, Slot(MESSAGES, 1, field)), (7, Slot(MESSAGE, 2, options))
    entry = table(_Message, ["", None, _Options(False)], *plain)
    message = table(
        _Message, ["", None, _Options(False), None], *plain, (3, Slot(MESSAGES, 3, entry))
    )
    file = table(_File, ["", None], (2, Slot(STRING, 0)), (4, Slot(MESSAGES, 1, message)))
    return table(_Files, [None], (1, Slot(MESSAGES, 0, file)))


@cache
def _messages() -> dict[str, _Message]:
    """All by their names, as fields give their types; the entries of mappings too."""
    data = Path(*osmo_protos.__path__, "kubernetes.binpb").read_bytes()
    files: _Files = read(_descriptors(), data, 0, len(data))
    found: dict[str, _Message] = {}
    for file in files.files:
        for message in file.messages:
            name = f".{file.package}.{message.name}"
            found[name] = message
            found |= {f"{name}.{entry.name}": entry for entry in message.entries}
    return found


def _named(name: str) -> _Message:
    return next(each for each in _messages().values() if each.name == name)


def table_of(struct: type[Any], name: str) -> Table:
    """The table by which a `struct` is read from the message of this name.

    A field that the message does not have keeps its default. What the struct does not have is
    checked to be what the library takes.

    Raises:
        TypeError: a field is of a type that no table reads.
    """
    return _table(struct, _named(name))


def _table(struct: type[Any], message: _Message) -> Table:
    left = {field.name: field for field in message.fields}
    slots: dict[int, Slot] = {}
    absent: list[Any] = []
    late: list[Slot] = []
    for index, field in enumerate(msgspec.structs.fields(struct)):
        found = left.pop(field.encode_name, None)
        if found is None:
            absent.append(field.default)
            continue
        slots[found.number] = slot = _slot(index, field, found)
        absent.append(_absent(slot, field))
        if slot.kind in _IN_PARTS or (
            slot.kind == MESSAGE and not slot.optional and absent[-1] is None
        ):
            late.append(slot)
    return Table(slots | _checks(left.values()), struct, absent, late)


def _slot(index: int, field: msgspec.structs.FieldInfo, found: _Field) -> Slot:
    """What becomes of a field that the struct has."""
    kinds = get_args(field.type) or (field.type,)
    optional = type(None) in kinds
    repeated = found.label == _REPEATED
    if found.type == _MESSAGE:
        content = _messages()[found.type_name]
        if content.options.map_entry:
            return _mapping(index, field.type, content)
        if write := TIMES.get(content.name):
            return Slot(TIME, index, make=write)
        kind = MESSAGES if repeated else MESSAGE
        return Slot(kind, index, _table(kinds[0], content), optional=optional)
    if found.type == _BYTES and field.type is bytes:
        return Slot(RAW, index)
    kind = (_SEVERAL if repeated else _PLAIN).get(found.type, -1)
    if kind < 0:
        raise TypeError(f"no table reads {found}")
    return Slot(kind, index, optional=optional)


_PLAIN = {_INT32: NUMBER, _BOOL: FLAG, _STRING: STRING, _BYTES: TEXT}
_SEVERAL = {_INT32: NUMBERS}
_IN_PARTS = (NUMBERS, MESSAGES, MAP, KEYS)


def _mapping(index: int, kind: Any, entry: _Message) -> Slot:
    """A mapping is read whole, or into a struct that has some of its keys."""
    quantities = entry.fields[1].type == _MESSAGE
    if get_args(kind):
        return Slot(MAP, index, quantities=quantities)
    names = [field.encode_name for field in msgspec.structs.fields(kind)]
    keys = {name: place for place, name in enumerate(names)}
    return Slot(KEYS, index, make=kind, keys=keys, quantities=quantities)


def _absent(slot: Slot, field: msgspec.structs.FieldInfo) -> Any:
    """What an empty message has of a field; None also where it is made for each anew."""
    if slot.kind == TIME:
        return field.default
    if slot.kind == MESSAGE and slot.table and not slot.optional:
        empty = read(slot.table, b"", 0, 0)
        mutable = any(each.kind in {MAP, MESSAGE} for each in slot.table.late)
        return None if mutable or not empty.__struct_config__.frozen else empty
    return None if slot.optional else _EMPTY.get(slot.kind)


_EMPTY = {NUMBER: 0, FLAG: False, STRING: "", TEXT: "", RAW: b""}


def _checks(left: Iterable[_Field]) -> dict[int, Slot]:
    """What finds out whether the library takes the fields that a struct does not have."""
    slots: dict[int, Slot] = {}
    for found in left:
        if found.type == _MESSAGE:
            slots[found.number] = Slot(MESSAGES, -1, _check(found.type_name))
        elif found.type == _STRING:
            slots[found.number] = Slot(STRING, -1)
        elif found.label == _REPEATED:
            slots[found.number] = Slot(NUMBERS, -1)
    return slots


@cache
def _check(name: str) -> Table:
    return Table(_checks(_messages()[name].fields), None, [], [])
