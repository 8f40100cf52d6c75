"""Bodies of every kind of report, and what is made of them for deployed programs."""

from typing import NamedTuple

from osmo_deployed.messages import from_message
from osmo_deployed.protojson import encode_without_nul
from osmo_reports import BodyError
from osmo_reports.bodies import BODY_TYPES, decode_body, encode_body
from osmo_transport import Version, new_message
from tests.fuzz.draw import Draw, Typed
from tests.fuzz.family import Family


class Body(NamedTuple):
    """A payload, and of which kind it is said to be."""

    kind: str
    payload: bytes


_KINDS = list(BODY_TYPES)


def _make(draw: Draw) -> Body:
    kind = draw.choice(_KINDS)
    of = kind if draw.often(0.95) else draw.choice(_KINDS)
    return Body(kind, Typed(BODY_TYPES[of]).packed(draw))


def _read(given: Body) -> None:
    body = decode_body(given.kind, given.payload)
    assert encode_body(decode_body(given.kind, encode_body(body))) == encode_body(body)
    message = new_message(given.kind, "key", given.payload, version=Version(1, 1))
    theirs = from_message(message, "backend", 1.8e9)
    if theirs is not None:
        assert b"\\u0000" not in encode_without_nul(theirs).replace(b"\\\\", b"")


BODIES = Family(_make, _read, (BodyError,))
