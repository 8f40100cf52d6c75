"""A hostile peer's end of a connection, over each transport, and what breaks the rules of each."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, fields
from typing import Any

import grpc
from grpc import aio

from osmo_transport import PeerError, TransportError
from osmo_transport.frames import Batch, Codec, Frame, Goodbye
from osmo_transport.transports.abc import Connection, FrameSink
from osmo_transport.transports.grpc.connection import END
from tests.transport.fuzz.frames import AS_PROTOBUF, Encoding, Hostile
from tests.transport.raw import CLOSE, CONTINUATION, PING, PONG, TEXT

PATIENCE = 20.0
"""Seconds after which a connection that should have ended counts as one that was kept."""

GONE = (OSError, EOFError, grpc.RpcError, asyncio.InvalidStateError, aio.BaseError)
"""What using a connection raises that the other side has ended."""

MANY = 200
"""Answers that a hostile peer may be slow to read, so that it is cut off before it comes to the
reason."""

WELCOME = 0.9
"""Seconds after which a client may leave by itself, because it was not welcomed."""

NORMAL = b"\x03\xe8"
"""The code of a close frame that says nothing."""


@dataclass
class Damage:
    """What the hostile side did, and what it found out."""

    frames: int = 0
    connections: int = 0
    failed: int = 0
    """Connections that could not be made, or broke before anything was said."""
    welcomed: int = 0
    kept: int = 0
    """Connections that broke the protocol and were not ended."""
    untold: int = 0
    """Connections that were ended for it without a word."""
    overtaken: int = 0
    """Connections that were ended so for a frame over the limit: the one who is writing it may be
    reset before he has read why."""
    unread: int = 0
    """Frames, not counted above, of peers that never read."""
    notes: list[str] = field(default_factory=list)
    """The names of the draws of connections that were kept, or ended without a word."""

    def add(self, other: "Damage") -> None:
        """Count it in."""
        for each in fields(self):
            total = getattr(self, each.name) + getattr(other, each.name)
            setattr(self, each.name, total)


class Wire(ABC):
    """One connection."""

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        self.frames: list[Frame] = []
        """What the other side said first."""
        self.last = 0
        """The number of the last message that came."""
        self.heard_in_all = 0
        """Frames that came."""
        self.largest = 0
        """Bytes of the largest frame that was said."""
        self.told = False
        """Whether the other side said why it ended the connection."""
        self.left = False
        """Whether this side said goodbye, or what may be read as one."""
        self.answered = asyncio.Event()
        """Set at the first frame, and at the end."""
        self.ended = asyncio.Event()
        self._began = asyncio.get_running_loop().time()
        self._lived = 0.0

    @property
    def codec(self) -> Codec:
        """How the other side encodes."""
        return self.encoding.codec

    def heard(self, data: bytes) -> None:
        """The other side said something."""
        with suppress(PeerError):
            self.hear(self.codec.decode(data))

    def hear(self, frame: Frame) -> None:
        """A frame came."""
        self.heard_in_all += 1
        if len(self.frames) < 2:
            self.frames.append(frame)
        if type(frame) is Batch:
            self.last = max(self.last, frame.first + len(frame.messages) - 1)
        if isinstance(frame, Goodbye) and frame.reason:
            self.told = True
        self.answered.set()

    @property
    def over(self) -> bool:
        """Whether the other side has ended it."""
        return self.ended.is_set()

    def end(self) -> None:
        """Nothing more will come."""
        self._lived = asyncio.get_running_loop().time() - self._began
        self.answered.set()
        self.ended.set()

    async def expect_end(self, draw: Hostile, damage: Damage) -> None:
        """The protocol is broken: the other side ends the connection, and says why."""
        try:
            await asyncio.wait_for(self.ended.wait(), PATIENCE)
        except TimeoutError:
            # What was said before the end may take long to read.
            if not self.over:
                damage.kept += 1
                damage.notes.append(f"{draw.name}: kept")
            return
        if self.told or self.left or self.heard_in_all > MANY or self._lived > WELCOME:
            return
        if self.largest > draw.limits.frame_bytes:
            damage.overtaken += 1
            return
        damage.untold += 1
        damage.notes.append(f"{draw.name}: untold, after {self.frames}"[:300])

    async def say(self, *frames: Any) -> None:
        """Send some frames that are in order; raises one of `GONE` after the end."""
        await self.blurt([self.encoding.encode(frame) for frame in frames], in_order=True)

    async def blurt(self, frames: list[bytes], *, in_order: bool = False) -> None:
        """Send what may be no frames, as above."""
        self.largest = max(self.largest, *map(len, frames))
        for data in frames if not in_order else ():
            with suppress(PeerError):
                self.left |= data == END or isinstance(self.codec.decode(data), Goodbye)
        await self.send(frames)

    @abstractmethod
    async def send(self, frames: list[bytes]) -> None:
        """Send frames, as above."""


@asynccontextmanager
async def read_meanwhile(wire: "WsWire | CallWire") -> AsyncIterator[None]:
    """Hear what the other side says."""
    reading = asyncio.create_task(wire.read())
    try:
        yield
    finally:
        reading.cancel()
        await asyncio.wait([reading])


# WebSocket


def ws_frame(opcode: int, payload: bytes, masked: int, first: int = 0x80) -> bytes:
    """A WebSocket frame, with a mask of zeros or none; `first` and `masked` are the bits beside the
    opcode and the length."""
    length = len(payload)
    head = bytes((opcode | first,))
    if length < 126:
        head += bytes((length | masked,))
    elif length < 65536:
        head += bytes((126 | masked,)) + length.to_bytes(2)
    else:
        head += bytes((127 | masked,)) + length.to_bytes(8)
    return head + (b"\0\0\0\0" if masked else b"") + payload


def ws_garbage(draw: Hostile, opcode: int, payload: bytes, masked: int) -> bytes:
    """What breaks the rules of WebSockets, or goes to their edges."""
    small = payload[:125]
    control = draw.choice((PING, PONG, CLOSE))
    codes = (b"", b"\x03", b"\0\0", b"\x03\xed", b"\xff\xff", NORMAL + b"\xff", NORMAL)
    length = draw.choice((0, 5, 2**31, 2**32, 2**62, 2**63, 2**64 - 1)).to_bytes(8)
    reserved = 0x80 | draw.choice((0x10, 0x20, 0x40, 0x70))  # 0x40: it is compressed
    return draw.choice(
        (
            ws_frame(opcode, payload, masked, reserved),
            ws_frame(opcode, payload, masked ^ 0x80),
            ws_frame(draw.choice((3, 4, 7, 11, 15)), small, masked),
            ws_frame(control, b"x" * 126, masked),
            ws_frame(control, small, masked, 0),
            _in_fragments(opcode, payload[:200], masked),
            ws_frame(opcode, payload, masked, 0) * draw.choice((1, 3, 50)),
            ws_frame(CONTINUATION, payload, masked, draw.choice((0, 0x80))),
            ws_frame(CLOSE, draw.choice(codes), masked) * draw.choice((1, 2)),
            bytes((opcode | 0x80, 127 | masked)) + length + small,
            bytes((opcode | 0x80, 126 | masked)) + b"\0\x05\0\0\0\0" + small,
            ws_frame(TEXT, draw.choice((b"\xff\xfe", b"\xed\xa0\x80")), masked),
            draw.randbytes(draw.choice((1, 10, 200))),
            ws_frame(opcode, b"", masked, 0) * draw.choice((1, 500)),
            ws_frame(draw.choice((PING, PONG)), small, masked) * draw.choice((1, 200)),
        )
    )


def _in_fragments(opcode: int, payload: bytes, masked: int) -> bytes:
    """Of seven bytes each, with pings between."""
    parts = [payload[at : at + 7] for at in range(0, len(payload), 7)] or [b""]
    last = len(parts) - 1
    return b"".join(
        ws_frame(CONTINUATION if n else opcode, part, masked, 0x80 if n == last else 0)
        + (ws_frame(PING, b"between", masked) if n % 5 == 0 else b"")
        for n, part in enumerate(parts)
    )


class WsFrames:
    """Splits what a peer says into WebSocket frames, masked or not."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def take(self, data: bytes) -> list[tuple[int, bytes]]:
        """Opcode and payload of each frame that is whole."""
        self._buffer += data
        found = []
        at = 0
        while (whole := _ws_frame_at(self._buffer, at)) is not None:
            opcode, payload, at = whole
            found.append((opcode, payload))
        del self._buffer[:at]
        return found


def _ws_frame_at(buffer: bytearray, at: int) -> tuple[int, bytes, int] | None:
    if len(buffer) < at + 2:
        return None
    opcode, length, masked = buffer[at] & 15, buffer[at + 1] & 127, buffer[at + 1] & 128
    at += 2
    more = {126: 2, 127: 8}.get(length, 0)
    if more:
        length = int.from_bytes(buffer[at : at + more])
        at += more
    mask = bytes(buffer[at : at + 4]) if masked else b""
    at += len(mask)
    payload = bytes(buffer[at : at + length])
    if len(payload) < length or (masked and len(mask) < 4):
        return None
    if any(mask):
        pad = (mask * (length // 4 + 1))[:length]
        payload = (int.from_bytes(payload) ^ int.from_bytes(pad)).to_bytes(length)
    return opcode, payload, at + length


class WsWire(Wire):
    """A socket after the handshake; `masked` as for `ws_frame`."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        encoding: Encoding,
        opcode: int,
        masked: int,
    ) -> None:
        super().__init__(encoding)
        self._reader = reader
        self._writer = writer
        self.opcode = opcode
        self.masked = masked
        self._frames = WsFrames()

    async def send(self, frames: list[bytes]) -> None:
        await self.send_bytes(b"".join(ws_frame(self.opcode, f, self.masked) for f in frames))

    async def send_bytes(self, data: bytes) -> None:
        """Send what may be no WebSocket frames."""
        if self._writer.is_closing():
            raise ConnectionResetError
        self._writer.write(data)
        await self._writer.drain()

    async def read(self) -> None:
        """Hear the other side until it hangs up."""
        with suppress(*GONE):
            while data := await self._reader.read(65536):
                for opcode, payload in self._frames.take(data):
                    if opcode == CLOSE:
                        self.told |= payload[:2] not in (b"", NORMAL)
                        self._writer.write(ws_frame(CLOSE, payload[:2], self.masked))
                        if not self.masked:
                            self._writer.close()  # as a server has to
                    elif opcode not in (PING, PONG):
                        self.heard(payload)
        self.end()


# gRPC


class CallWire(Wire):
    """A call, either side: `call` reads and writes, `finish` ends this half of it."""

    def __init__(self, call: Any) -> None:
        super().__init__(AS_PROTOBUF)
        self._call = call

    async def send(self, frames: list[bytes]) -> None:
        for data in frames:
            await self._call.write(data)

    @property
    def over(self) -> bool:
        return bool(self._call.done())

    async def read(self) -> None:
        """Hear the other side until the call ends."""
        try:
            while (data := await self._call.read()) is not aio.EOF:
                if data == END:
                    await self._call.done_writing()
                else:
                    self.heard(data)
        except GONE:
            with suppress(AttributeError, *GONE):
                self.told |= bool(await self._call.details())
        self.end()


# Memory


class MemoryWire(Wire, FrameSink):
    """What the codec lets through is all that can come in memory."""

    def __init__(self, encoding: Encoding) -> None:
        super().__init__(encoding)
        self.connection: Connection

    async def send(self, frames: list[bytes]) -> None:
        for data in frames:
            with suppress(PeerError):
                self.connection.send(self.codec.decode(data))
        await asyncio.sleep(0)
        if self.ended.is_set():
            raise ConnectionResetError

    def frame_received(self, frame: Frame) -> None:
        self.hear(frame)

    def writing_resumed(self) -> None: ...

    def connection_lost(self, error: TransportError) -> None:
        self.end()
