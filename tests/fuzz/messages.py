"""Messages of protobuf as no API server writes them."""

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from osmo_listener.kubernetes.protobuf_reader import MAGIC
from tests.fuzz.draw import Draw

_VARINT, _FIXED64, _LENGTH, _GROUP, _GROUP_END, _FIXED32 = range(6)
_NUMBERS = (0, 2**32, 7, 2**32 - 1, 2**31 - 1, 2**63, 1_767_323_045, 2**31, 2**64 - 1, 2**63 - 1)
"""Usual ones, and between them such that have too many bits."""


_ALWAYS = {"metadata", "resourceVersion", "seconds", "key", "value", "string"}
"""Fields that every message has which can have them."""


def varint(number: int) -> bytes:
    """Of a number that is not negative."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number: int, content: bytes) -> bytes:
    """A field that has a length."""
    return varint(number << 3 | _LENGTH) + varint(len(content)) + content


def wrapped(content: bytes) -> bytes:
    """The body of an answer."""
    return MAGIC + field(1, b"") + field(2, content) + field(4, b"")


class Writer:
    """Writes messages in which there is this share of oddities."""

    def __init__(self, draw: Draw, odd: float) -> None:
        self._draw = draw
        self._odd = odd

    def message(self, of: Descriptor) -> bytes:
        """Some of its fields."""
        draw, parts = self._draw, list[bytes]()
        for each in of.fields:
            times = 1 if draw.often(0.7) or each.name in _ALWAYS else 0
            if each.is_repeated or draw.often(self._odd):
                times = draw.randrange(3)
            parts += [
                self._anything(each.number) if draw.often(self._odd) else self._field(each)
                for _ in range(times)
            ]
        if draw.often(self._odd):
            parts.append(self._anything(draw.choice((7, 15, 16, 99, 2047, 2048, 2**29 - 1))))
        if draw.often(self._odd):
            draw.shuffle(parts)
        return b"".join(parts)

    def _field(self, of: FieldDescriptor) -> bytes:
        if of.message_type:
            return field(of.number, self.message(of.message_type))
        if of.type in {of.TYPE_STRING, of.TYPE_BYTES}:
            return field(of.number, self._text(of))
        if of.is_repeated and self._draw.often(self._odd):
            return field(of.number, b"".join(varint(self._number()) for _ in range(3)))
        return varint(of.number << 3) + self._written(self._number())

    def _number(self) -> int:
        return self._draw.choice(_NUMBERS[self._draw.often(self._odd) :: 2])

    def _written(self, number: int) -> bytes:
        """Now and then in more bytes than it takes, or than there may be."""
        draw, written = self._draw, bytearray(varint(number))
        if draw.often(self._odd):
            written[-1] |= 0x80
            written += b"\x80" * draw.randrange(10) + draw.choice((b"\0", b"\1", b"\x7f"))
        return bytes(written)

    def _text(self, of: FieldDescriptor) -> bytes:
        draw = self._draw
        if draw.often(self._odd):
            return draw.choice((b"gr\xc3", b"\xed\xa0\x80", b"\xff", b"\0"))
        if draw.often(self._odd):
            return str(draw.text()).encode(errors="replace")[:300]
        if of.name in {"name", "resourceVersion"}:
            return b"7"
        return draw.choice((b"", b"7", b"osmo.task_uuid", b"cpu", "grün ✓ 🚀".encode(), b"x" * 130))

    def _anything(self, number: int) -> bytes:
        """A field of any wire type, also of those that there are not."""
        draw = self._draw
        wire = draw.randrange(8)
        tag = varint(number << 3 | wire)
        inner = varint(draw.choice((0, 1, number)) << 3 | draw.choice((_VARINT, _GROUP_END)))
        match wire:
            case 0:
                return tag + self._written(self._number())
            case 1 | 5:
                return tag + draw.randbytes(8 if wire == _FIXED64 else 4)
            case 2:
                return tag + self._written(3) + draw.randbytes(3)
            case 3:
                return tag + inner + varint(number << 3 | _GROUP_END) * draw.choice((0, 1, 200))
            case _:
                return tag
