"""A time limit for what a test waits for, whose error says what that was."""

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType

from osmo_transport.client import Client
from osmo_transport.queues.abc import QueueStatus

PATIENCE = 30.0
"""Seconds that a test may take with what a fixture opened: no pause of a busy machine is as long,
and a runner's own limit, which names nothing, is longer."""

TELLING = 1.0
"""Seconds that it may take to find out how things stand when the time is over."""


@asynccontextmanager
async def patience(
    seconds: float, what: str = "", stands: Callable[[], Awaitable[str]] | None = None
) -> AsyncIterator[None]:
    """Let what is within take `seconds`.

    Raises:
        AssertionError: it took longer, and was cancelled. The text says `what` was waited for, or
            which line of the test did, and what `stands` tells of that moment.
    """
    __tracebackhide__ = True
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError as exc:
        if not limit.expired():
            raise
        # CPython 3.11.2 names the cancellation as the context alone.
        cancelled = exc.__cause__ or exc.__context__ or exc
        text = f"waited {seconds:g} s for {what or _line(cancelled.__traceback__)}"
        if stands is not None:
            text = f"{text}: {await _told(stands)}"
        raise AssertionError(text) from exc


def describe_client(client: Client) -> str:
    """What became of the messages that a client was given, in words."""
    stats = client.stats
    welcomed = "" if stats.connects else "never welcomed, "
    return (
        f"{welcomed}{stats.acknowledged} acknowledged, {stats.in_flight} sent and not acknowledged,"
        f" {stats.waiting} not sent, {stats.coalesced} coalesced with a newer one of their key,"
        f" {stats.refused} refused"
    )


def describe_queue(status: QueueStatus) -> str:
    """What a queue holds, in words."""
    waiting, pending = sum(status.waiting.values()), sum(status.pending.values())
    return (
        f"the queue holds {waiting} entries that no consumer was given, {pending} that one has or"
        f" that wait for their retry, and {status.dead} dead letters"
    )


async def _told(stands: Callable[[], Awaitable[str]]) -> str:
    try:
        async with asyncio.timeout(TELLING):
            return await stands()
    except Exception as exc:  # noqa: BLE001  (what does not answer is the reason, perhaps)
        return f"how things stand cannot be told: {type(exc).__name__} {exc}"


def _line(trace: TracebackType | None) -> str:
    """Where the test is: its first frame below those that pytest does not show either."""
    for frame, number in traceback.walk_tb(trace):
        if not frame.f_locals.get("__tracebackhide__"):
            path = frame.f_code.co_filename
            summary = traceback.FrameSummary(path, number, frame.f_code.co_name)
            return f"`{summary.line}` ({Path(path).name}:{number})"
    return "the test"
