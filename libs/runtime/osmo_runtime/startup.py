"""The start of a program: waiting for what it needs, and a word about what cannot do for it."""

import asyncio
import logging
import resource
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from osmo_transport import Backoff, BackoffConfig, Queue
from osmo_transport.naming import setting
from osmo_transport.registry import scheme_of

_log = logging.getLogger(__name__)

OTHER_FILES = 64
"""Open files that a program needs beside its connections: its store, its queue, its logs."""

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
            _log.warning("not ready, trying again: %s", exc)
            with suppress(TimeoutError):
                async with asyncio.timeout(backoff.next_delay()):
                    await stop.wait()
    return None


async def unless_stopped(work: Awaitable[T], stop: asyncio.Event) -> T | None:
    """What `work` returns; None when `stop` comes first, which cancels it.

    Raises: whatever `work` raises.
    """
    answers: list[T] = []
    failures: list[Exception] = []

    async def answer() -> None:
        try:
            answers.append(await work)
        except Exception as exc:  # noqa: BLE001  (raised below, outside of the group)
            failures.append(exc)

    async with asyncio.TaskGroup() as tasks:
        answering, stopping = tasks.create_task(answer()), tasks.create_task(stop.wait())
        answering.add_done_callback(lambda _: stopping.cancel())
        stopping.add_done_callback(lambda _: answering.cancel())
    if failures:
        raise failures[0]
    return answers[0] if answers else None


def warn_of_private_queue(url: str) -> None:
    """Say so in the log if no other program can share the queue at `url`."""
    if scheme_of(url) == "memory":
        _log.warning("the queue is in this process: no other program sees what is in it")


def warn_of_caveats(queue: Queue) -> None:
    """Say in the log how the queue may lose what it acknowledged."""
    for caveat in queue.caveats:
        _log.warning("%s", caveat)


def allow_connections(most: int) -> None:
    """Let this process have so many connections beside its own files: raise its limit of open
    files as far as the system lets it, and say so in the log if that is not far enough."""
    needed = most + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    granted = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
    except (OSError, ValueError):
        granted = soft  # some systems have a limit of their own below the hard one
    if granted < needed:
        _log.warning(
            "this process may have %d files open, and needs %d for the %d connections that are"
            " allowed: raise the limit (ulimit -n, LimitNOFILE= of systemd), or lower %s",
            granted,
            needed,
            most,
            setting("server.max_connections"),
        )
