"""Requests to the page: methods, paths, headers and bodies of strangers."""

import asyncio
from typing import NamedTuple
from unittest.mock import AsyncMock, Mock

from aiohttp import StreamReader, web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict, CIMultiDictProxy

from osmo_pipeline.web.server import Site
from tests.fuzz.draw import Draw
from tests.fuzz.family import Family

_PATHS = ("/", "/live", "/letters/replay", "/letters/drop", "/page.js")
_VIEWS = ("fleet", "tasks", "nodes", "workflow", "node", "letters", "x")
_HOSTS = ("localhost", "127.0.0.1:8080", "[::1]:1", "fleet.example", "evil.example", "[", "")
_NAMES = ("Origin", "X-Token", "Content-Type", "Host", "Cookie")
_TEXTS = ("token", "http://localhost", "null", "application/json", "a/b;c=\udcff", "\udcff", "://")


class Asked(NamedTuple):
    """A request, its texts as aiohttp reads them."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes


def _make(draw: Draw) -> Asked:
    method = draw.choice(("GET", "POST", "POST", "HEAD", "PUT", "BREW"))
    pairs = [f"{draw.choice(('backend', 'after', 'workflow'))}={_quoted(draw)}" for _ in range(2)]
    query = f"?view={draw.choice(_VIEWS)}&{'&'.join(pairs)}" if draw.often(0.6) else ""
    path = draw.choice(_PATHS) if draw.often(0.9) else f"/{_quoted(draw)}"
    headers = [("Host", draw.choice(_HOSTS[:4]))] if draw.often(0.9) else []
    if draw.often(0.7):
        headers += [("X-Token", "token"), ("Content-Type", "application/json")]
    headers += [(draw.choice(_NAMES), draw.choice(_TEXTS)) for _ in range(draw.randrange(3))]
    body = draw.like([b'{"letters": ["0-1", "x"]}', b'{"letters": []}'])
    return Asked(method, path + query, headers, body)


def _quoted(draw: Draw) -> str:
    text = draw.choice(
        (str(draw.text())[:2000], '["a",1]', '["a","b",3]', "[" * 2000, '["a",1e400]')
    )
    data = text.encode(errors="surrogatepass")
    return "".join(f"%{byte:02X}" for byte in data) if draw.often(0.7) else "%zz%00%ff%ED%A0%80"


class _Server:
    """The page, of which no connection is open."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        queue = Mock(replay=AsyncMock(return_value=1), drop=AsyncMock(return_value=1))
        feed = Mock(watchers=1)
        site = Site(feed, queue, token="token", hosts=["fleet.example"], max_viewers=1)
        self.app = site.application()
        self.app.freeze()
        # Made once: making them takes longer than the rest.
        names = ("writer", "protocol", "transport", "sslcontext")
        self._around = {name: Mock() for name in names}

    async def ask(self, asked: Asked) -> None:
        loop = asyncio.get_running_loop()
        payload = StreamReader(Mock(_reading_paused=False), 2**16, loop=loop)
        payload.feed_data(asked.body)
        payload.feed_eof()
        request = make_mocked_request(
            asked.method, asked.path, app=self.app, payload=payload, **self._around
        )
        request._headers = CIMultiDictProxy(CIMultiDict(asked.headers))
        response = await self.app._handle(request)
        assert response.status < 500


_server: list[_Server] = []


def _read(asked: Asked) -> None:
    if not _server:
        _server.append(_Server())
    _server[0].runner.run(_server[0].ask(asked))


PAGES = Family(_make, _read, (web.HTTPException,))
