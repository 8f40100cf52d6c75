"""The operator service: the wiring, from configuration to drain."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from typing import NoReturn

from osmo_operator.config import OperatorConfig
from osmo_operator.relay import Relay
from osmo_runtime.startup import once_there
from osmo_transport import (
    BackoffConfig,
    Greeting,
    ProducerState,
    Push,
    Queue,
    QueueUnavailableError,
    Server,
    listen,
    open_queue,
    transport_for,
)
from osmo_transport.backoff import Backoff
from osmo_transport.directory import RULES_KIND, encode_rules
from osmo_transport.factory import queue_url
from osmo_transport.server import Admit

logger = logging.getLogger(__name__)

RULES_TIMEOUT = 5.0
"""Seconds that a listener waits for the rules before it is asked to come back: less than it would
wait for a welcome."""


async def run_operator(
    config: OperatorConfig, stop: asyncio.Event, ready: Callable[[list[str]], None]
) -> None:
    """Serve until `stop` is set, then store and acknowledge what has arrived.

    `ready` is called once with the URLs, when the queue has answered and every port is open.

    Raises:
        TransportError: the configuration does not work (an unknown scheme, a port in use, a store
            that could lose messages); the text says what to change.
        ExceptionGroup: of the same, found out while it served.
    """
    for url in config.listen:
        transport_for(url)
    queue = await once_there(
        lambda: open_queue(queue_url(config.queue, config.layout), config.limits),
        (QueueUnavailableError,),
        config.backoff,
        stop,
    )
    if queue is None:
        return
    rules_known = asyncio.Event()
    async with (
        queue,
        listen(*config.listen, admit=admission(queue, rules_known), config=config.server) as server,
        asyncio.TaskGroup() as tasks,
    ):
        relay = Relay(server, queue, config.append_messages, config.backoff)
        server.can_store = lambda: relay.ready and relay.reachable
        relaying = tasks.create_task(relay.run())
        watching = [
            tasks.create_task(watch_memory(queue, server, relay, config.check_interval)),
            tasks.create_task(tell_rules(queue, server, rules_known, config.backoff)),
        ]
        ready(server.urls)
        await stop.wait()
        for task in watching:
            task.cancel()
        server.stop()
        try:
            async with asyncio.timeout(config.drain_timeout):
                await relaying
        except TimeoutError:
            logger.warning(
                "not everything was stored within %s s; it is sent again", config.drain_timeout
            )
    logger.info("stopped after %d messages", relay.stored)


def admission(queue: Queue, rules_known: asyncio.Event) -> Admit:
    """Let in who belongs to the backend's cluster, where the queue says that it stands; not before
    the backend's rules are known, or it would judge its nodes by others first."""

    async def admit(greeting: Greeting) -> ProducerState:
        producer, listener, known, registration = greeting
        try:
            async with asyncio.timeout(RULES_TIMEOUT):
                await rules_known.wait()
        except TimeoutError as exc:
            raise QueueUnavailableError("the queue has not told the condition rules yet") from exc
        if registration is not None:
            await queue.directory.register(producer.backend, registration)
        return await queue.open_producer(producer, listener, known)

    return admit


async def tell_rules(
    queue: Queue, server: Server, known_first: asyncio.Event, backoff: BackoffConfig
) -> NoReturn:
    """Push each backend's condition rules to its listeners, for ever; `known_first` is set when
    they are known."""
    delays = Backoff(backoff)
    while True:
        try:
            async with aclosing(queue.directory.follow_rules()) as following:
                async for found in following:
                    delays = Backoff(backoff)
                    for backend, known in found.items():
                        payload = encode_rules(known.rules)
                        server.push(backend, Push(RULES_KIND, known.version, payload))
                    known_first.set()
        except QueueUnavailableError as exc:
            logger.debug("cannot ask the queue for condition rules: %s", exc)
            await asyncio.sleep(delays.next_delay())


async def watch_memory(queue: Queue, server: Server, relay: Relay, interval: float) -> NoReturn:
    """Notice that the queue lost its memory or is away also while nobody reports anything."""
    while True:
        await asyncio.sleep(interval)
        try:
            status = await queue.status()
        except QueueUnavailableError as exc:
            logger.debug("cannot ask the queue for its epoch: %s", exc)
            relay.reachable = False
        else:
            relay.reachable = True
            if strangers := server.resync(status.queue_epoch):
                logger.error("the queue lost its memory: asking %d listeners for all", strangers)
