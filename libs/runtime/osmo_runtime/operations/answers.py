"""What is answered at the operations port, by the HTTP server of aiohttp."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

import msgspec
from aiohttp import web
from aiohttp.http import HttpProcessingError

from osmo_runtime.masking import mask_text
from osmo_runtime.operations.health import Check

_NO_STORE = {"Cache-Control": "no-store"}
_TEXT = "text/plain; charset=utf-8"

_log = logging.getLogger(__name__)
# What a stranger sends wrong is answered with 400, and no failure of ours.
_log.addFilter(
    lambda record: not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
)


def make_server(
    loop: asyncio.AbstractEventLoop,
    ready: Callable[[], Mapping[str, Check]],
    stalled: Callable[[], list[str]],
    metrics: Callable[[], Awaitable[tuple[bytes, str]]],
) -> web.Server:
    """A server in `loop` that answers each connection once, as `open_port` says."""

    async def livez() -> web.Response:
        reasons = stalled()
        text = "".join(f"{reason}\n" for reason in reasons or ["ok"])
        return _response(503 if reasons else 200, text.encode(), _TEXT)

    async def readyz() -> web.Response:
        checks = ready()
        ok = all(check.ok for check in checks.values())
        found = {
            name: check._replace(reason=mask_text(check.reason))._asdict()
            for name, check in checks.items()
        }
        body = msgspec.json.encode({"ready": ok, "checks": found})
        return _response(200 if ok else 503, body, "application/json; charset=utf-8")

    async def figures() -> web.Response:
        return _response(200, *await metrics())

    pages = {"/livez": livez, "/readyz": readyz, "/metrics": figures}

    async def answer(request: web.BaseRequest) -> web.Response:
        page = pages.get(request.path)
        if page is None:
            return _response(404, b"there are /livez, /readyz and /metrics\n", _TEXT)
        if request.method not in ("GET", "HEAD"):
            return _response(405, b"ask with GET\n", _TEXT)
        return await page()

    return web.Server(answer, access_log=None, logger=_log, lingering_time=0, loop=loop)


def _response(status: int, body: bytes, content_type: str) -> web.Response:
    headers = {**_NO_STORE, "Content-Type": content_type}
    response = web.Response(body=body, status=status, headers=headers)
    response.force_close()
    return response
