"""What lies in Redis, whoever put it there: entries of both layouts, dead letters, and what the
directory holds."""

from typing import Any, NamedTuple

import msgspec

from osmo_deployed.layout import OsmoLayout
from osmo_deployed.messages import ListenerMessage
from osmo_pipeline.commands.contents import described
from osmo_reports.bodies import Registration
from osmo_reports.directory.redis import RedisDirectory, _rules_told
from osmo_transport import Message, QueueConfig
from osmo_transport.errors import UnreadableError
from osmo_transport.message import encode_message
from osmo_transport.queues.redis.address import Address
from osmo_transport.queues.redis.administration import Administration
from osmo_transport.queues.redis.client import RedisClient
from osmo_transport.queues.redis.layout import Layout, OwnLayout
from tests.fuzz.draw import Draw, Typed
from tests.fuzz.family import Family

_LAYOUTS: tuple[Layout, ...] = (OwnLayout("n", QueueConfig()), OsmoLayout("n", QueueConfig()))
_NAMES = (b"b", b"m", b"backend", b"message", b"traceparent", b"i", b"s", b"r", b"n", b"", b"\xff")
_IDS = ("0-1", "1700000000000-0", "18446744073709551615-18446744073709551615")
_OURS, _THEIRS, _RULES = Typed(Message), Typed(ListenerMessage), Typed(dict[str, str])
_REGISTRATION = Typed(Registration)


class Entry(NamedTuple):
    """An entry of a stream, with an id as Redis makes them; it may be read by either layout."""

    id: str
    fields: list[bytes]


def _make_entry(draw: Draw) -> Entry:
    name = draw.choice((b"east", b"", b"\xff", b"a\0b"))
    own = [b"b", name, b"m", _OURS.packed(draw)]
    theirs = [b"message", _THEIRS.json(draw), b"backend", name, b"traceparent", draw.data()]
    fields = draw.choice((own, theirs, theirs[:4]))
    if draw.often(0.5):
        fields = [
            *fields,
            b"i",
            draw.choice(_IDS).encode(),
            b"s",
            b"pods",
            b"r",
            b"\x1b",
            b"n",
            b"9" * 9,
        ]
    if draw.often(0.1):
        fields[draw.randrange(len(fields))] = draw.choice(_NAMES)
    if draw.often(0.05):
        del fields[draw.randrange(len(fields)) :]
    return Entry(draw.choice(_IDS), fields)


def _read_entry(entry: Entry) -> None:
    for layout in _LAYOUTS:
        tool = Administration(_NOBODY, layout, QueueConfig())
        # What cannot be read is shown to whoever asks.
        described(tool._entry("pods", entry.id.encode(), entry.fields, 1000, b"worker", 2))
        described(tool._letter(entry.id.encode(), entry.fields))
    if len(entry.fields) % 2:
        return  # Redis keeps none
    for layout in _LAYOUTS:
        try:
            backend, message = layout.read(entry.id, entry.fields)
        except UnreadableError:
            continue
        assert isinstance(backend, str)
        encode_message(message)


class _Hashes:
    """In the place of a client: every hash holds these fields."""

    def __init__(self) -> None:
        self.fields: list[bytes] = []

    async def run(self, *commands: object, **_: object) -> list[Any]:
        return [self.fields for _ in commands]


_HASHES = _Hashes()
_NOBODY: RedisClient = _HASHES  # type: ignore[assignment]  # as much of one as is used


def _directory() -> RedisDirectory:
    address = Address.of("redis://127.0.0.1")
    directory = RedisDirectory(address, _LAYOUTS[0], 1, 1, lambda: 0.0)
    directory._client = _NOBODY
    return directory


def _make_hash(draw: Draw) -> list[bytes]:
    version = draw.choice((b"7 ", b"", b" ", b"-1 ", b"9" * 5000 + b" ", b"\xd9\xa3 ", b"7 8 "))
    value = draw.choice((_RULES.json(draw), _REGISTRATION.json(draw)))
    return [draw.choice((b"east", b"", b"\xff", b"\0")), version + value, b"uid\n" + value, value]


def _read_hash(fields: list[bytes]) -> None:
    directory = _directory()
    _HASHES.fields = [field for value in fields[1:] for field in (fields[0], value)]
    for reading in (directory.backends(), directory.rules()):
        _finished(reading)
    told = _rules_told("east", fields[-1])
    assert not told or msgspec.json.decode(told, type=dict[str, str]) is not None


def _finished(reading: Any) -> Any:
    """The result of what waits for nobody."""
    try:
        reading.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


ENTRIES = Family(_make_entry, _read_entry, ())
DIRECTORY = Family(_make_hash, _read_hash, ())
