"""Who answers at an address where our protocol does not: asked when a handshake failed, because no
library tells.

A connection of its own asks for a WebSocket, in the clear or over TLS as the URL says, and if that
gives nothing, the other way. By what comes back the server is known: a status of HTTP, the frame
with which HTTP/2 begins, a record of TLS, a word of Redis, or silence.
"""

import asyncio
import re
import ssl
from enum import Enum
from typing import NamedTuple

from osmo_transport._text import shown
from osmo_transport.errors import ConnectionLostError, TransportError, WrongServerError
from osmo_transport.transports import refusals, sockets
from osmo_transport.transports.urls import host_port

ASK_TIMEOUT = 2.0
"""Seconds for a connection and for an answer: whoever is there says something long before."""

TLS_TIMEOUT = 2.0
"""Seconds for a connection over TLS: who does not speak it may wait silently for more."""

MAX_ANSWER = 2048
"""Bytes of an answer that are looked at: a status, a few headers, and the beginning of a reason."""

MAX_SAID = 60
"""Characters of each thing that it says which are shown."""


_BROKEN = (OSError, RuntimeError)
"""What a socket raises, and uvloop when one is gone."""


class Kind(Enum):
    """What a server is."""

    WEBSOCKET = "a WebSocket server"
    HTTP = "an HTTP server"
    HTTP2 = "a server for HTTP/2, as gRPC servers are,"
    TLS = "a server that speaks TLS"
    REDIS = "Redis"
    OTHER = "a server of another kind"
    CLOSES = "a server that closes the connection without a word"
    SILENT = "a server that accepts the connection and says nothing"


class Stranger(NamedTuple):
    """Who answered."""

    kind: Kind
    said: str = ""
    """In its own words."""
    secure: bool = False
    """Whether it was asked over TLS."""


async def why(
    url: str,
    place: tuple[str, int, str],
    context: ssl.SSLContext | None,
    wanted: Kind,
    otherwise: TransportError,
) -> TransportError:
    """Why no connection to `url` was made, by who answers at `place`, its host, port and path:
    `otherwise` if nobody does, or who is `wanted`.

    A server of the right kind may yet be there where HTTP, silence or an end is the answer, as a
    proxy's while it starts; where another protocol is, none will be: then it is a
    `WrongServerError`.
    """
    found = await ask(*place, context)
    if (refusal := refusals.found(context)) is not None:
        return refusals.named(url, refusal)
    secure = context is not None
    if found is None or (found.kind is wanted and found.secure == secure):
        return otherwise
    if found.kind is Kind.CLOSES and secure:
        return otherwise  # which knows what TLS had to say
    text = _described(url, found, otherwise)
    if found.kind is Kind.TLS or found.secure != secure:
        text += ", without TLS" if secure else ""
        scheme = url.partition(":")[0].removesuffix("s") if secure else url.partition(":")[0]
        return WrongServerError(
            f"{text}: has the URL the right one of {scheme}:// and {scheme}s://?"
        )
    if found.kind in _PASSING:
        return ConnectionLostError(f"{text}: look at the host, the port and the path of the URL")
    return WrongServerError(f"{text}: look at the scheme, the host and the port of the URL")


_PASSING = frozenset((Kind.HTTP, Kind.OTHER, Kind.CLOSES, Kind.SILENT))
"""Behind whom a server of the right kind may yet come to be."""


def _described(url: str, found: Stranger, otherwise: TransportError) -> str:
    if found.kind is Kind.SILENT:
        return f"{otherwise}: there is {found.kind.value}"
    if found.kind is Kind.CLOSES:
        return f"cannot connect to {url}: there is {found.kind.value}"
    said = f" with '{found.said}'" if found.said else ""
    return f"cannot connect to {url}: {found.kind.value} answers there{said}"


async def ask(host: str, port: int, path: str, context: ssl.SSLContext | None) -> Stranger | None:
    """Who answers there, over TLS if there is a `context`; None: nobody, or one with whom the
    matter is TLS itself."""
    request = _request(host, port, path)
    try:
        if context is None:
            found = await _asked_plainly(host, port, request)
            if found.kind in (Kind.CLOSES, Kind.TLS) and await _agreed(host, port) is not None:
                return Stranger(Kind.TLS)
            return found
        try:
            found = _named(*await _answer(host, port, request, context), secure=True)
            if found.kind is Kind.CLOSES and await _agreed(host, port) == _HTTP2:
                return Stranger(Kind.HTTP2, secure=True)
            return found
        except ssl.SSLCertVerificationError:
            return None
        except (ssl.SSLError, ConnectionError, TimeoutError):
            found = await _asked_plainly(host, port, request)
        if found.kind in (Kind.CLOSES, Kind.SILENT):
            return found._replace(secure=True)  # whether it would speak TLS, it does not say
        return None if found.kind is Kind.TLS else found
    except _BROKEN:
        return None


async def _asked_plainly(host: str, port: int, request: bytes) -> Stranger:
    found = _named(*await _answer(host, port, request, None), secure=False)
    if found.kind is Kind.CLOSES:
        # Redis ends a connection with HTTP on it, because a browser may be behind it.
        answer, _ = await _answer(host, port, b"PING\r\n", None)
        if answer.startswith(_REDIS):
            return Stranger(Kind.REDIS)
    return found


def _request(host: str, port: int, path: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host_port(host, port)}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ).encode()


async def _answer(
    host: str, port: int, question: bytes, context: ssl.SSLContext | None
) -> tuple[bytes, bool]:
    """What is said to a question, and whether the connection was ended then.

    Raises:
        OSError: no connection, or no TLS.
    """
    async with asyncio.timeout(TLS_TIMEOUT if context else ASK_TIMEOUT):
        reader, writer = await sockets.opened(host, port, context)
    answer, ended = b"", False
    try:
        writer.write(question)
        async with asyncio.timeout(ASK_TIMEOUT):
            while len(answer) < MAX_ANSWER and not _telling(answer):
                more = await reader.read(MAX_ANSWER)
                if not more:
                    ended = True
                    break
                answer += more
            if answer.startswith(_UPGRADED):
                writer.write(_GOING_AWAY)
                while await reader.read(MAX_ANSWER):
                    pass
    except TimeoutError:
        pass
    except _BROKEN:
        ended = True
    finally:
        writer.transport.abort()
    return answer, ended


async def _agreed(host: str, port: int) -> str | None:
    """What is spoken over TLS there, as far as it can be agreed on, else nothing; None: nobody
    speaks TLS, trusted or not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([_HTTP2])
    try:
        async with asyncio.timeout(TLS_TIMEOUT):
            _, writer = await sockets.opened(host, port, context)
    except _BROKEN:
        return None
    agreed = writer.get_extra_info("ssl_object").selected_alpn_protocol()
    writer.transport.abort()
    return agreed or ""


_HTTP2 = "h2"
_UPGRADED = b"HTTP/1.1 101"
_GOING_AWAY = b"\x88\x82" + bytes(4) + b"\x03\xe9"
"""A close frame with the code 1001: who opened a WebSocket for us is told that this was all."""
_HEADERS_END = b"\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3}[^\r\n]*)\r?\n")
_LOCATION = re.compile(rb"\r\nlocation: *([^\r\n]+)", re.IGNORECASE)
_WANTS_TLS = re.compile(rb"HTTP request (was sent )?to (an? )?HTTPS", re.IGNORECASE)
_REDIS = (b"+PONG", b"-ERR ", b"-NOAUTH ", b"-DENIED ", b"-NOPERM ")
_SETTINGS = 4
"""The type of the frame with which every server of HTTP/2 begins."""
_HANDSHAKES = (0x15, 0x16)
"""The types of records of TLS with which a server would answer."""


def _telling(answer: bytes) -> bool:
    """Whether the answer need not become longer. Of HTTP the body may follow the headers, with the
    reason."""
    if answer.startswith(b"HTTP/"):
        head, end, body = answer.partition(_HEADERS_END)
        bodiless = head.startswith(_UPGRADED) or b"content-length: 0" in head.lower()
        return bool(end) and (bool(body) or bodiless)
    return len(answer) >= 9 or answer.endswith(b"\n")


def _named(answer: bytes, ended: bool, *, secure: bool) -> Stranger:
    """Who gives such an answer."""
    if not answer:
        return Stranger(Kind.CLOSES if ended else Kind.SILENT, secure=secure)
    if status := _STATUS.match(answer):
        return _of_http(status[1].decode(errors="replace"), answer, secure)
    if len(answer) >= 9 and answer[0] == 0 and answer[3] == _SETTINGS:
        return Stranger(Kind.HTTP2, secure=secure)
    if len(answer) >= 2 and answer[0] in _HANDSHAKES and answer[1] == 3:
        return Stranger(Kind.TLS, secure=secure)
    if answer.startswith(_REDIS):
        return Stranger(Kind.REDIS, secure=secure)
    line = answer.splitlines()[0].decode(errors="backslashreplace")
    return Stranger(Kind.OTHER, shown(line, MAX_SAID), secure)


def _of_http(status: str, answer: bytes, secure: bool) -> Stranger:
    if status.startswith("101"):
        return Stranger(Kind.WEBSOCKET, secure=secure)
    if _WANTS_TLS.search(answer) and not secure:
        return Stranger(Kind.TLS)
    said = shown(status, MAX_SAID)
    if location := _LOCATION.search(answer):
        said += f", to {shown(location[1].decode(errors='replace'), MAX_SAID)}"
    elif body := answer.partition(_HEADERS_END)[2].strip():
        said += f": {shown(body.splitlines()[0].decode(errors='replace'), MAX_SAID)}"
    return Stranger(Kind.HTTP, said, secure)
