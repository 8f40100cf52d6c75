"""Answers of an API server, in JSON and in protobuf: lists, watches, and errors."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from osmo_listener.errors import MalformedError, StatusError
from osmo_listener.kubernetes.decoding import Decoder, ListPage, PageReader
from osmo_listener.kubernetes.json_decoding import JsonDecoder, json_status
from osmo_listener.kubernetes.protobuf_decoding import ProtobufDecoder, protobuf_status
from osmo_listener.listeners.objects import Event, Node, Pod, SharedPod, UsagePod
from osmo_listener.listeners.slimming import slim_usage_pod
from osmo_protos import kubernetes_pb2 as pb
from osmo_transport.message import MAX_REVISION
from tests.fuzz.draw import Draw, Typed
from tests.fuzz.family import Family
from tests.fuzz.messages import Writer, field, wrapped
from tests.transport.fuzz.frames import AS_JSON

_ANSWERS = Path(__file__).parent.parent / "listener" / "answers"
_TYPES: tuple[type[Any], ...] = (Pod, Node, Event, SharedPod, UsagePod)
_EVENTS = ("ADDED", "MODIFIED", "DELETED", "BOOKMARK", "ERROR", "OTHER")


def _decoders(encoding: Callable[..., Decoder[Any]]) -> list[Decoder[Any]]:
    return [*map(encoding, _TYPES[:-1]), encoding(UsagePod, slim_usage_pod)]


def _samples(ending: str) -> list[bytes]:
    return [path.read_bytes()[:4000] for path in sorted(_ANSWERS.glob(f"*.{ending}"))]


class Answer(NamedTuple):
    """A body, and the type that is asked for, by its place."""

    place: int
    body: bytes


def _reading(
    decoders: list[Decoder[Any]], status: Callable[[bytes], Any]
) -> Callable[[Answer], None]:
    def read(given: Answer) -> None:
        decoder, body = decoders[given.place], given.body
        status(body)
        framer, half = decoder.framer(), len(body) // 2
        frames = [*framer.feed(body[:half]), *framer.feed(body[half:])]
        assert sum(map(len, frames)) + framer.size <= len(body)
        for frame in [body, *frames[:5]]:
            try:
                event = decoder.event(frame)
            except (StatusError, MalformedError):
                continue
            assert 0 <= event.version <= MAX_REVISION
        reader = decoder.page_reader()
        in_pieces = _outcome(lambda: _fed(reader, body[:half], body[half:]))
        page = decoder.page(body)
        assert 0 <= page.version <= MAX_REVISION
        assert in_pieces == page

    return read


def _fed(reader: PageReader[Any], *pieces: bytes) -> ListPage[Any]:
    for piece in pieces:
        reader.feed(piece)
    return reader.page()


def _outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except (StatusError, MalformedError) as exc:
        return type(exc), str(exc)


def _reading_alike() -> Callable[[Answer], None]:
    """Our own reader gives what the library gives, and the same errors."""
    both = [_decoders(partial(ProtobufDecoder, by_table=by_table)) for by_table in (True, False)]
    read = _reading(both[0], protobuf_status)

    def read_both(given: Answer) -> None:
        body = given.body
        ours, theirs = (decoders[given.place] for decoders in both)
        assert protobuf_status(body, by_table=True) == protobuf_status(body, by_table=False)
        assert _outcome(lambda: ours.event(body)) == _outcome(lambda: theirs.event(body))
        assert _outcome(lambda: ours.page(body)) == _outcome(lambda: theirs.page(body))
        read(given)

    return read_both


_JSON_SAMPLES, _PROTOBUF_SAMPLES = _samples("json"), _samples("pb")


def _make_json(draw: Draw) -> Answer:
    place = draw.randrange(len(_TYPES))
    if draw.often(0.3):
        return Answer(place, draw.like(_JSON_SAMPLES))
    item = draw.of(_OBJECTS[place])
    version = draw.choice(("7", "7", draw.text(), draw.number()))
    if isinstance(item, dict):
        item["metadata"] = {"name": "n", "resourceVersion": version}
    whole: Any = {"type": draw.choice(_EVENTS), "object": item}
    if draw.often(0.5):
        whole = {"metadata": {"resourceVersion": version, "continue": ""}, "items": [item] * 2}
    body = AS_JSON.encode(whole)
    return Answer(place, draw.like([body]) if draw.often(0.2) else body)


def _make_protobuf(draw: Draw) -> Answer:
    place = draw.randrange(len(_TYPES))
    if draw.often(0.3):
        return Answer(place, draw.like(_PROTOBUF_SAMPLES))
    writer = Writer(draw, draw.choice((0.0, 0.005, 0.1)))
    item = writer.message(getattr(pb, _TYPES[place].PROTOBUF_MESSAGE).DESCRIPTOR)
    if draw.often(0.5):
        metadata = pb.ListMeta(resourceVersion="7").SerializeToString()
        body = wrapped(field(1, metadata) + field(2, item) * draw.choice((1, 2)))
    else:
        raw = pb.RawExtension(raw=wrapped(item))
        body = pb.WatchEvent(type=draw.choice(_EVENTS), object=raw).SerializeToString()
    return Answer(place, draw.like([body]) if draw.often(0.3) else body)


_OBJECTS = [Typed(each).kind for each in _TYPES]
_ERRORS = (StatusError, MalformedError)
JSON = Family(_make_json, _reading(_decoders(JsonDecoder), json_status), _ERRORS)
PROTOBUF = Family(_make_protobuf, _reading_alike(), _ERRORS)
