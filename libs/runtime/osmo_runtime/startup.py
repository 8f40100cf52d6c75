"""The start of a program: waiting for what it needs, and a word about what cannot do for it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import urlsplit

from osmo_transport.backoff import Backoff, BackoffConfig

_log = logging.getLogger(__name__)

T = TypeVar("T")


async def once_there(
    call: Callable[[], Awaitable[T]],
    absent: tuple[type[Exception], ...],
    config: BackoffConfig,
    stop: asyncio.Event,
) -> T | None:
    """The answer of `call` as soon as it raises none of `absent`; None when `stop` came first.

    Raises: whatever else `call` raises.
    """
    backoff = Backoff(config)
    while not stop.is_set():
        try:
            return await unless_stopped(call(), stop)
        except absent as exc:
            delay = backoff.next_delay()
            _log.warning("not ready: %s; again in %.1f s", exc, delay)
            try:
                async with asyncio.timeout(delay):
                    await stop.wait()
            except TimeoutError:
                continue
    return None


async def unless_stopped(work: Awaitable[T], stop: asyncio.Event) -> T | None:
    """What `work` returns; None when `stop` comes first, which cancels it.

    Raises: whatever `work` raises.
    """
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        stopping.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


def warn_of_private_queue(url: str) -> None:
    """Say so in the log if no other program can share the queue at `url`."""
    if urlsplit(url).scheme == "memory":
        _log.warning("the queue is in this process: no other program sees what is in it")
