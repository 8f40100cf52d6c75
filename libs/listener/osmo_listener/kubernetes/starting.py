"""The first questions to an API server."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from osmo_listener.errors import ListenerError, Reaction, StatusError, reaction
from osmo_transport.backoff import Backoff, BackoffConfig

logger = logging.getLogger(__name__)

LONGEST_RETRY_AFTER = 60.0
"""Seconds: bound of the delay that a server may ask for."""

T = TypeVar("T")


async def until_answered(
    ask: Callable[[], Awaitable[T]],
    what: str,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> T:
    """The answer to a question, as soon as the API server gives one; `what` is lacking meanwhile.

    Raises:
        KubernetesError, KubeconfigError: what no retry mends; the text says what to do.
    """
    backoff = Backoff(BackoffConfig())
    while True:
        try:
            return await ask()
        except ListenerError as exc:
            if reaction(exc, synced=False) is Reaction.RAISE:
                raise
            delay = backoff.next_delay()
            if isinstance(exc, StatusError) and exc.retry_after is not None:
                delay = max(delay, min(exc.retry_after, LONGEST_RETRY_AFTER))
            logger.warning("%s, trying again: %s", what, exc)
            await sleep(delay)
