"""The operator service: the wiring, from configuration to drain."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from functools import partial
from typing import NoReturn

import anyio
from msgspec.structs import replace

from osmo_credentials import open_authenticator
from osmo_deployed import ListenerServiceCompanion
from osmo_operator import figures
from osmo_operator.config import OperatorConfig
from osmo_operator.door import check_door
from osmo_operator.names import Names
from osmo_operator.relay import Relay
from osmo_operator.rules_file import RulesFile
from osmo_reports.bodies import decode_introduction
from osmo_reports.directory import (
    RULES_KIND,
    Directory,
    Origin,
    RuleSet,
    encode_rules,
    open_directory,
)
from osmo_runtime.operations import Inquiry, Operations, Work
from osmo_runtime.queues import queue_url, with_all_streams
from osmo_runtime.startup import allow_connections, once_there, warn_of_caveats
from osmo_runtime.texts import counted
from osmo_transport import (
    Admit,
    Backoff,
    BackoffConfig,
    Greeting,
    ProducerState,
    Push,
    Queue,
    QueueRefusedError,
    QueueStatus,
    QueueUnavailableError,
    Server,
    UsageError,
    listen,
    open_queue,
    transport_for,
)

logger = logging.getLogger(__name__)

RULES_TIMEOUT = 5.0
"""Seconds that a listener waits for the rules before it is asked to come back: less than it would
wait for a welcome."""

RULES_INTERVAL = 1.0
"""Seconds between two looks for rules that somebody else has set, or declares in a file: a list in
Redis cannot be waited for without taking from it, and a file not at all."""


async def run_operator(
    config: OperatorConfig,
    stop: asyncio.Event,
    ready: Callable[[list[str]], None],
    *,
    operations: Operations | None = None,
) -> None:
    """Serve until `stop` is set, then store and acknowledge what has arrived.

    `ready` is called once with the URLs, when the queue has answered and every port is open.
    `operations` is given what tells of the service.

    Raises:
        TransportError: the configuration does not work (an unknown scheme, a port in use, a store
            that could lose messages); the text says what to change.
        ExceptionGroup: of the same, found out while it served.
    """
    for url in config.listen:
        transport_for(url)
    check_door(config)
    file = RulesFile(config.rules_file) if config.rules_file else None
    allow_connections(config.server.max_connections * len(config.listen))
    where = queue_url(config.queue, config.layout, config.queue_password_file)
    limits = with_all_streams(config.limits)
    queue = await once_there(
        lambda: open_queue(where, limits), (QueueUnavailableError,), config.backoff, stop
    )
    if queue is None:
        return
    warn_of_caveats(queue)
    rules_known = asyncio.Event()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(queue)
        directory = await stack.enter_async_context(
            await open_directory(where, limits, max_backends=config.max_backends)
        )
        names = Names(directory, config.backoff, config.max_credential_backends)
        authenticator = None
        if config.auth:
            authenticator = open_authenticator(config.auth)
            await stack.enter_async_context(authenticator)
        server = await stack.enter_async_context(
            listen(
                *config.listen,
                admit=admission(queue, names, rules_known),
                renew=queue.renew,
                config=config.server,
                authenticator=authenticator,
                companions=(ListenerServiceCompanion(config.deployed),),
            )
        )
        relay = Relay(
            server,
            queue,
            config.append_messages,
            config.append_bytes,
            config.server.inbox_bytes,
            config.backoff,
        )
        asking = Inquiry(queue.status, config.check_interval, (QueueUnavailableError,))
        operations = operations or Operations(stopping=stop.is_set)
        relay.tracer = operations.tracer
        operations.check("queue", asking.check)
        operations.check("appends", relay.check)
        operations.work("relay", lambda: relay_work(relay, server, asking))
        figures.measure(operations, server, relay, asking)
        server.can_store = operations.readiness.is_ready
        async with anyio.create_task_group() as relaying:
            relaying.start_soon(relay.run)
            async with anyio.create_task_group() as watching:
                watching.start_soon(asking.run, partial(resync_strangers, server))
                watching.start_soon(
                    tell_rules, directory, server, rules_known, config.backoff, file
                )
                watching.start_soon(adopt_rules, directory, server)
                if file is not None:
                    watching.start_soon(declare_rules, directory, file)
                watching.start_soon(names.keep, server)
                ready(server.urls)
                await stop.wait()
                watching.cancel_scope.cancel()
            server.stop()
            relaying.cancel_scope.deadline = anyio.current_time() + config.drain_timeout
        if relaying.cancel_scope.cancelled_caught:
            logger.warning(
                "not everything was stored within %s s; it is sent again", config.drain_timeout
            )
    logger.info("stopped after %s", counted(relay.stored.total(), "message"))


def admission(queue: Queue, names: Names, rules_known: asyncio.Event) -> Admit:
    """Let in who belongs to the backend's cluster, where the queue says that it stands; not before
    the backend's rules are known, or it would judge its nodes by others first."""

    async def admit(greeting: Greeting) -> ProducerState:
        producer = greeting.producer
        with anyio.move_on_after(RULES_TIMEOUT):
            await rules_known.wait()
        if not rules_known.is_set():
            raise QueueUnavailableError("the queue has not told the condition rules yet")
        registration = decode_introduction(greeting.introduction)
        if registration is not None:
            by = "" if greeting.identity is None else greeting.identity.name
            await names.register(producer.backend, replace(registration, credential=by))
        return await queue.open_producer(
            producer, greeting.instance, greeting.known, greeting.claim
        )

    return admit


async def tell_rules(
    directory: Directory,
    server: Server,
    known_first: asyncio.Event,
    backoff: BackoffConfig,
    file: RulesFile | None = None,
) -> NoReturn:
    """Push each backend's condition rules to its listeners, for ever, and put back those that the
    directory lost, or that the `file` declares; `known_first` is set when they are known."""
    delays = Backoff(backoff)
    newest: dict[str, RuleSet] = {}
    while True:
        try:
            async with aclosing(directory.follow_rules()) as following:
                async for found in following:
                    delays = Backoff(backoff)
                    lost = {
                        backend: ours
                        for backend, ours in newest.items()
                        if backend not in found or found[backend].version < ours.version
                    }
                    newest = found | lost
                    if lost:
                        await put_back(directory, lost)
                    if file is not None:
                        newest = dict(await file.declare(directory, newest))
                    elif not known_first.is_set():
                        tell_declared(newest)
                    for backend, known in newest.items():
                        payload = encode_rules(known.rules)
                        try:
                            server.push(backend, Push(RULES_KIND, known.version, payload))
                        except UsageError as exc:
                            logger.warning("the rules of %s are not told: %s", backend, exc)
                    known_first.set()
        except QueueUnavailableError as exc:
            logger.debug("cannot ask the queue for condition rules: %s", exc)
            await anyio.sleep(delays.next_delay())


def tell_declared(found: Mapping[str, RuleSet]) -> None:
    """Say what an operator without a file of condition rules leaves in force."""
    if declared := sum(known.origin is Origin.FILE for known in found.values()):
        logger.warning(
            "a file declared the condition rules of %s, and they hold on: let each operator have"
            " that file (--rules-file), or let go of them with osmo-pipeline rules clear NAME",
            counted(declared, "backend"),
        )


async def put_back(directory: Directory, lost: Mapping[str, RuleSet]) -> None:
    """Let the directory have again the condition rules that it lost."""
    logger.error("the queue lost the condition rules of %s", counted(len(lost), "backend"))
    try:
        await directory.restore_rules(lost)
    except QueueRefusedError as exc:
        logger.warning("condition rules are not put back: %s", exc)


async def declare_rules(directory: Directory, file: RulesFile) -> NoReturn:
    """Tell the directory what the file declares, for ever, whenever that has changed."""
    while True:
        await anyio.sleep(RULES_INTERVAL)
        if not file.is_in_force:
            try:
                await file.declare(directory, await directory.rules())
            except QueueUnavailableError as exc:
                logger.debug("cannot tell the queue condition rules: %s", exc)


async def adopt_rules(directory: Directory, server: Server) -> NoReturn:
    """Take over what somebody else sets as the rules of the backends that report here."""
    told = ""
    while True:
        await anyio.sleep(RULES_INTERVAL)
        try:
            await directory.adopt_rules(server.backends)
        except QueueUnavailableError as exc:
            logger.debug("cannot ask for condition rules of others: %s", exc)
        except QueueRefusedError as exc:
            # What is not ours may be out of our rights, and nothing else depends on it.
            if str(exc) != told:
                logger.warning("condition rules of others are not taken over: %s", exc)
            told = str(exc)


def resync_strangers(server: Server, status: QueueStatus) -> None:
    """Notice that the queue lost its memory also while nobody reports anything."""
    if strangers := server.resync(status.queue_epoch):
        asked = counted(strangers, "listener")
        logger.error("the queue lost its memory: asking %s for all", asked)


def relay_work(relay: Relay, server: Server, queue: Inquiry[QueueStatus]) -> Work:
    """How far the relay has come. An append that is not answered is no work that waits for us,
    unless the queue answers everybody else: then the answer was lost on our side."""
    waits = relay.has_work or server.waiting_bytes > 0
    return Work(waits=waits and (queue.check().ok or not relay.is_appending), done=relay.steps)
