"""What inputs are made of: values of a type with something wrong in them, and bytes that were in
order."""

from collections.abc import Sequence
from typing import Any

from msgspec import inspect as kinds

from osmo_transport import Limits
from tests.transport.fuzz.frames import AS_JSON, Hostile, packed

LIMITS = Limits(window_messages=100, window_bytes=10_000, message_bytes=5000, batch_bytes=5000)
"""Small ones, so that what is about as large as it may be does not take long."""

DEEPEST = 8
"""Levels of a value that are made up; types may hold themselves."""

PLAUSIBLE = (
    *("x", "osmo", "default", "True", "False", "Running", "Pending", "Ready", "1", "7", "-1"),
    *("2026-01-02T03:04:05Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999+14:00"),
    *("2026-01-02T03:04:05.123456", "100m", "1Gi", "1e400", "9" * 5000, "9223372036854775808"),
    *(
        "https://10.0.0.1:6443",
        "http://[::1]",
        "[",
        "a:b@c:99999",
        "%zz",
        "=",
        "a=b",
        ",",
        "\u0663",
    ),
    *(
        "__HEARTBEAT__:{}",
        "__HEARTBEAT__:[",
        "__BACKEND_OP__:create",
        "0-1",
        "kubernetes.io/hostname",
    ),
)

TOKENS = (
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b"\\",
        b":",
        b",",
        b"\n",
        b"\0",
        b"null",
        b"true",
        b"-",
        b"1e999",
    ),
    *(
        b"9" * 400,
        b"9" * 5000,
        b'"\\ud800"',
        b'"\\u0000"',
        b"\xff",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
    ),
    *(
        b"\r\n\r\n",
        b"&a ",
        b"*a",
        b"<<: *a",
        b"!!binary ",
        b"!!python/object ",
        b"---\n",
        b"# ",
        b"'''",
    ),
    *(
        b"\x7f\xff\xff\xff",
        b"\xff" * 9 + b"\x01",
        b"\x80" * 11,
        b"\x1b",
        b"\x0a\x00",
        b"k8s\0",
        b"NaN",
    ),
)


class Draw(Hostile):
    """Draws the same from the same seed."""

    def __init__(self, seed: str) -> None:
        super().__init__(seed, LIMITS)

    def text(self) -> Any:
        """Plain ones most often; a large one now and then."""
        if self.often(0.0002):
            return "m" * 300_000
        return self.choice(PLAUSIBLE) if self.often(0.7) else super().text()

    def data(self) -> bytes:
        return self.randbytes(self.choice((0, 1, 10, 100)))

    def of(self, kind: kinds.Type, level: int = 0) -> Any:  # noqa: PLR0911 - one for each kind
        """A value of this type as an encoder takes it, or one that is nearly of it."""
        if self.often(0.03) or level > DEEPEST:
            return self.anything()
        match kind:
            case kinds.Metadata(type=inner):
                return self.of(inner, level)
            case kinds.StructType(fields=fields):
                return {
                    field.encode_name: self.of(field.type, level + 1)
                    for field in fields
                    if self.often(0.95 if field.required else 0.6)
                }
            case kinds.DictType(value_type=inner):
                return {
                    str(self.text()): self.of(inner, level + 1) for _ in range(self.randrange(3))
                }
            case kinds.TupleType(item_types=items):
                return [self.of(inner, level + 1) for inner in items]
            case kinds.CollectionType(item_type=inner):
                return [self.of(inner, level + 1) for _ in range(self.randrange(3))]
            case kinds.UnionType(types=types):
                return self.of(self.choice(types), level)
            case kinds.EnumType(cls=cls):
                return self.choice([member.value for member in cls])
            case kinds.LiteralType(values=values):
                return self.choice(values)
            case _:
                return self._plain(kind)

    def _plain(self, kind: kinds.Type) -> Any:
        match kind:
            case kinds.IntType():
                return self.choice((0, 1, -1, 7, self.number()))
            case kinds.FloatType():
                return self.choice((0.0, 1.5, 1.8e9, self.number()))
            case kinds.BoolType():
                return self.often(0.5)
            case kinds.StrType() | kinds.CustomType():
                return self.text()
            case kinds.NoneType():
                return None
            case _:
                return self.anything()

    def like(self, samples: Sequence[bytes]) -> bytes:
        """One of the samples, changed as decoders like it least."""
        data = self.choice(samples)
        for _ in range(self.choice((1, 1, 2, 5))):
            at = self.randrange(len(data) + 1)
            match self.randrange(4):
                case 0:
                    data = data[:at] + self.choice(TOKENS) + data[at:]
                case 1:
                    data = data[:at] + self.choice(TOKENS) + data[at + self.randrange(20) :]
                case 2:
                    end = at + self.randrange(60)
                    data = data[:at] + data[at:end] * 2 + data[end:]
                case _:
                    data = self.mutated(data)
        return data


class Typed:
    """Documents of a type, in order or nearly so."""

    def __init__(self, type_: Any) -> None:
        self.kind = kinds.type_info(type_)

    def packed(self, draw: Draw) -> bytes:
        """In msgpack."""
        data = packed(draw.of(self.kind))
        return draw.mutated(data) if draw.often(0.3) else data

    def json(self, draw: Draw) -> bytes:
        """In JSON."""
        data = AS_JSON.encode(draw.of(self.kind))
        return draw.like([data]) if draw.often(0.3) else data
