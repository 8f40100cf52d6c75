"""Which connections are let in, and how their frames are encoded: the same over every engine.

The subprotocol chooses the encoding: `osmo.v1.msgpack` in binary messages, or `osmo.v1.json` in
text messages, for people and other languages. A client that names none gets msgpack.
"""

from collections.abc import Sequence
from typing import NamedTuple

from osmo_transport.errors import TransportError
from osmo_transport.frames import JSON, MSGPACK, Codec

CODECS: dict[str, Codec] = {"osmo.v1.msgpack": MSGPACK, "osmo.v1.json": JSON}
"""Encodings by subprotocol, the preferred one first."""

PREFERRED = next(iter(CODECS))

PATH = "/osmo/v1"
"""Where an endpoint serves connections; any other path is answered with 404."""

SMALL_PIECE = 1024
"""Bytes below which a piece of a message counts as a frame that brings none: nobody who means well
cuts a message so small that its frames would be many."""

UNANSWERED = (
    "the other side closed the connection before it answered; does it speak WebSocket, and has the"
    " URL the right one of ws:// and wss://?"
)
"""What is said of a handshake that ended so."""

ACCEPTED = 101
"""The HTTP status of a connection that is let in."""


class Answer(NamedTuple):
    """What a request to connect is answered with: an encoding, or an HTTP status with a reason."""

    codec: Codec = MSGPACK
    subprotocol: str = ""
    """Of the encoding, if the client named it."""
    status: int = ACCEPTED
    reason: str = ""

    @property
    def refusal(self) -> str:
        """What there is to tell of one that is not let in."""
        return f"its request was answered with {self.status}: {self.reason}"


def answer(path: str, wished: Sequence[str], refusal: str) -> Answer:
    """The answer to a request for `path` with the subprotocols `wished`; `refusal`: why there is no
    room for it, if there is none."""
    if path.partition("?")[0] not in ("/", PATH):
        return Answer(status=404, reason=f"connect to {PATH}")
    if refusal:
        return Answer(status=503, reason=refusal)
    chosen = next((name for name in wished if name in CODECS), "")
    if wished and not chosen:
        known = ", ".join(CODECS)
        return Answer(status=400, reason=f"unknown subprotocol; this endpoint speaks {known}")
    return Answer(CODECS[chosen] if chosen else MSGPACK, chosen)


def close_reason(error: TransportError) -> str:
    """What fits a close frame: 123 bytes, with no character cut in two."""
    return str(error).encode(errors="backslashreplace")[:120].decode(errors="ignore")
