"""A peer without manners: sockets, and the bytes of HTTP and WebSocket written by hand."""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class RawPeer:
    """One socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def upgrade(self, headers: str = "", path: str = "/osmo/v1") -> str:
        """Shake hands; the answer's head."""
        self.write(f"{UPGRADE.format(path=path)}{headers}\r\n".encode())
        return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    def message(self, opcode: int, payload: bytes, *, fin: bool = True) -> None:
        """Write one WebSocket frame, masked as a client has to."""
        self.write(frame(opcode, payload, fin=fin))

    async def read_message(self) -> tuple[int, bytes]:
        """The next WebSocket frame of the server: opcode and payload."""
        first, length = await self.reader.readexactly(2)
        if length == 126:
            (length,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return first & 15, await self.reader.readexactly(length)

    async def read_until_close(self) -> tuple[list[bytes], int, str]:
        """Everything up to the close frame, its code (0: it has none) and its reason."""
        seen: list[bytes] = []
        while True:
            opcode, payload = await self.read_message()
            if opcode == CLOSE:
                return seen, int.from_bytes(payload[:2]), payload[2:].decode()
            seen.append(payload)

    async def at_end(self) -> bytes:
        """Wait until the server hangs up, and do so too; what it said before."""
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b""
        finally:
            self.writer.close()


def frame(opcode: int, payload: bytes, *, fin: bool = True) -> bytes:
    """A client's WebSocket frame."""
    length, mask = len(payload), os.urandom(4)
    head = bytes([opcode | (128 if fin else 0)])
    if length < 126:
        head += bytes([128 | length])
    elif length < 65536:
        head += bytes([254]) + struct.pack("!H", length)
    else:
        head += bytes([255]) + struct.pack("!Q", length)
    return head + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


@asynccontextmanager
async def raw_peer(url: str, receive_buffer: int = 0) -> AsyncIterator[RawPeer]:
    """A socket to the server at `url`."""
    parts = urlsplit(url)
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.connect((parts.hostname, parts.port))
    sock.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=sock)
    try:
        async with asyncio.timeout(10):
            yield RawPeer(reader, writer)
    finally:
        writer.transport.abort()
