"""The operations port: `/livez`, `/readyz` and `/metrics` over HTTP.

Answers are made of what the process knows already: none of them waits for anybody.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import msgspec

from osmo_runtime.operations.health import Check
from osmo_transport.errors import AddressInUseError, MissingExtraError, UsageError

try:
    from aiohttp import web
except ImportError as exc:
    raise MissingExtraError(
        "the operations port needs aiohttp: pip install 'osmo-pipeline[operations]'"
    ) from exc

SHUTDOWN_TIMEOUT = 1.0
"""Seconds that an answer which is on its way may take when the port is closed."""

_NO_STORE = {"Cache-Control": "no-store"}


def address(text: str, of: str = "the operations port") -> tuple[str, int]:
    """Host and port of `HOST:PORT`; the error says that it is the address `of` that.

    Raises:
        UsageError: it is none.
    """
    parts = urlsplit(f"//{text}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None or parts.netloc != text or parts.username is not None:
        raise UsageError(f"the address of {of} is {text!r}: it must look like 127.0.0.1:9464")
    return host, port


@asynccontextmanager
async def serve(
    where: str,
    ready: Callable[[], Mapping[str, Check]],
    stalled: Callable[[], list[str]],
    metrics: Callable[[], tuple[bytes, str]],
) -> AsyncIterator[str]:
    """Answer until the context is left; gives the URL.

    Raises:
        UsageError: `where` is no address.
        AddressInUseError: somebody else has it, or it is not of this machine.
    """

    async def livez(_: web.Request) -> web.Response:
        reasons = stalled()
        text = "".join(f"{reason}\n" for reason in reasons or ["ok"])
        return web.Response(text=text, status=503 if reasons else 200, headers=_NO_STORE)

    async def readyz(_: web.Request) -> web.Response:
        checks = ready()
        ok = all(check.ok for check in checks.values())
        found = {name: check._asdict() for name, check in checks.items()}
        body = msgspec.json.encode({"ready": ok, "checks": found})
        return web.Response(
            body=body,
            status=200 if ok else 503,
            content_type="application/json",
            headers=_NO_STORE,
        )

    async def show_metrics(_: web.Request) -> web.Response:
        body, content_type = metrics()
        return web.Response(body=body, headers={**_NO_STORE, "Content-Type": content_type})

    host, port = address(where)
    app = web.Application()
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", show_metrics)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as exc:
            raise AddressInUseError(f"cannot open the operations port at {where}: {exc}") from exc
        bound = runner.addresses[0][1]
        yield f"http://{f'[{host}]' if ':' in host else host}:{bound}"
    finally:
        await runner.cleanup()
