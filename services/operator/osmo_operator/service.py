"""The operator service: the wiring, from configuration to drain."""

import asyncio
import logging
from collections.abc import Callable

from osmo_operator.config import OperatorConfig
from osmo_operator.relay import Relay
from osmo_transport import Queue, QueueUnavailableError, listen, open_queue
from osmo_transport.backoff import Backoff

logger = logging.getLogger(__name__)


async def run_operator(
    config: OperatorConfig, stop: asyncio.Event, ready: Callable[[list[str]], None]
) -> None:
    """Serve until `stop` is set, then store and acknowledge what has arrived.

    `ready` is called once with the URLs, when the queue has answered and every port is open.

    Raises:
        TransportError: the configuration does not work (an unknown scheme, a port in use, a store
            that could lose messages); the text says what to change.
    """
    queue = await _open_queue(config, stop)
    if queue is None:
        return
    async with (
        queue,
        listen(*config.listen, admit=queue.open_producer, config=config.server) as server,
    ):
        relay = Relay(server, queue, config.append_messages, config.backoff)
        ready(server.urls)
        relaying = asyncio.create_task(relay.run())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((relaying, stopping), return_when=asyncio.FIRST_COMPLETED)
            server.stop()
            async with asyncio.timeout(config.drain_timeout):
                await relaying
        except TimeoutError:
            logger.warning(
                "not everything was stored within %s s; it is sent again", config.drain_timeout
            )
        finally:
            stopping.cancel()
            relaying.cancel()
            await asyncio.gather(stopping, relaying, return_exceptions=True)
        logger.info("stopped after %d messages", relay.stored)


async def _open_queue(config: OperatorConfig, stop: asyncio.Event) -> Queue | None:
    backoff = Backoff(config.backoff)
    while not stop.is_set():
        try:
            return await open_queue(config.queue, config.limits)
        except QueueUnavailableError as exc:
            delay = backoff.next_delay()
            logger.warning("not ready: %s; again in %.1f s", exc, delay)
            try:
                async with asyncio.timeout(delay):
                    await stop.wait()
            except TimeoutError:
                continue
    return None
