"""A way between a queue and its server, with verbs for what networks do to replies."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum

from osmo_transport.testing.redis_server import RedisServer
from tests.helpers import stop_listening

End = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Fate(Enum):
    """What becomes of the replies on a connection."""

    LOST = "the connection breaks in front of them"
    SWALLOWED = "they never arrive, and nobody is told"
    HELD = "they arrive when the way is mended"


class Way:
    """Forwards connections to a server; made by `way_to`. A verb holds for each connection on which
    one of some words is said from then on: the server gets it and carries it out, and only the
    reply has a fate. `mend` takes it back for all other connections."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._lines: set[_Line] = set()
        self._fate: Fate | None = None
        self._words: tuple[bytes, ...] = ()
        self.mended = asyncio.Event()
        self.url = ""
        """As the server's own, by this way."""
        self.caught = 0
        """Connections that have got a fate."""
        self.lost = 0
        """Those whose reply has come to here, and no further."""

    def lose_replies(self, *words: str) -> None:
        """The connection breaks when the server has answered."""
        self._let(Fate.LOST, words)

    def swallow_replies(self, *words: str) -> None:
        """The connection stays, and is silent from then on."""
        self._let(Fate.SWALLOWED, words)

    def hold_replies(self, *words: str) -> None:
        """They arrive after `mend`."""
        self._let(Fate.HELD, words)

    def _let(self, fate: Fate, words: tuple[str, ...]) -> None:
        self._fate = fate
        self._words = tuple(word.encode() for word in words)
        self.mended.clear()

    def mend(self) -> None:
        """From now on it is as if the way were not there."""
        self._words = ()
        self.mended.set()

    def fate_of(self, said: bytes) -> Fate | None:
        """What becomes of the reply to this."""
        return self._fate if any(word in said for word in self._words) else None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward a connection until one end of it is gone."""
        try:
            inner = await asyncio.open_connection("127.0.0.1", self._server.port)
        except OSError:
            writer.transport.abort()
            return
        line = _Line(self, (reader, writer), inner)
        self._lines.add(line)
        await line.run()
        self._lines.discard(line)

    async def aclose(self) -> None:
        """Break every connection."""
        self.mend()
        while self._lines:
            for line in self._lines:
                line.abort()
            await asyncio.sleep(0)


class _Line:
    """One connection."""

    def __init__(self, way: Way, client: End, server: End) -> None:
        self._way = way
        self._client = client
        self._server = server
        self._fate: Fate | None = None

    async def run(self) -> None:
        with contextlib.suppress(OSError):
            await asyncio.gather(self._ask(), self._answer())
        self.abort()

    def abort(self) -> None:
        for _, writer in (self._client, self._server):
            writer.transport.abort()

    async def _ask(self) -> None:
        while said := await self._client[0].read(65536):
            if self._fate is None:
                self._fate = self._way.fate_of(said)
                self._way.caught += self._fate is not None
            self._server[1].write(said)
        self.abort()

    async def _answer(self) -> None:
        while reply := await self._server[0].read(65536):
            if self._fate in (Fate.LOST, Fate.SWALLOWED):
                self._way.lost += 1
            if self._fate is Fate.LOST:
                break
            if self._fate is Fate.HELD:
                await self._way.mended.wait()
                self._fate = None
            if self._fate is None:
                self._client[1].write(reply)
        self.abort()


@asynccontextmanager
async def way_to(server: RedisServer, tls: ssl.SSLContext | None = None) -> AsyncIterator[Way]:
    """A way to the server, over TLS if there is a context for it."""
    way = Way(server)
    listening = await asyncio.start_server(way.serve, "127.0.0.1", 0, ssl=tls)
    port = listening.sockets[0].getsockname()[1]
    way.url = f"{'rediss' if tls else 'redis'}://127.0.0.1:{port}/0"
    try:
        yield way
    finally:
        await stop_listening(listening)
        await way.aclose()
