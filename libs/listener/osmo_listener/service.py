"""The listener service: the wiring, from configuration to drain."""

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from osmo_listener.config import ListenerConfig
from osmo_listener.errors import KubeconfigError
from osmo_listener.informer import Informer
from osmo_listener.kubernetes.credentials import SERVICE_ACCOUNT, Credentials, load_in_cluster
from osmo_listener.kubernetes.kubeconfig import load_kubeconfig
from osmo_listener.kubernetes.listwatch import ListWatch
from osmo_listener.listeners.registry import LISTENERS, ListenerType
from osmo_listener.reporter import Reporter
from osmo_transport import Client, UsageError, connect

logger = logging.getLogger(__name__)


async def run_listener(
    config: ListenerConfig,
    stop: asyncio.Event,
    started: Callable[[Client], None] = lambda _: None,
) -> None:
    """Report until `stop` is set, then wait for the acknowledgements of what was sent.

    `started` is called once with the client, for its figures.

    Raises:
        ListenerError: the API server cannot be used; the text says what to change.
        UsageError: the configuration does not work.
        FencedError: a newer listener of this backend and source took over.
    """
    unknown = [name for name in config.listeners if name not in LISTENERS]
    if unknown:
        raise UsageError(f"no listener is called {unknown[0]!r}: there are {', '.join(LISTENERS)}")
    credentials = load_credentials(config)
    async with (
        connect(
            config.connect, backend=config.backend, source=config.source, config=config.client
        ) as client,
        asyncio.TaskGroup() as tasks,
    ):
        started(client)
        running = [
            tasks.create_task(_report(LISTENERS[name], config, credentials, client))
            for name in dict.fromkeys(config.listeners)
        ]
        await stop.wait()
        for task in running:
            task.cancel()
    logger.info("stopped after %d messages", client.stats.acknowledged)


async def _report(
    type_: ListenerType[Any], config: ListenerConfig, credentials: Credentials, client: Client
) -> None:
    resource = type_.resource(config.namespace)
    source = ListWatch(credentials, resource, config.list_watch, http=config.http)
    reporter = Reporter(type_.create(config.rules), client)
    informer = Informer(source, reporter, config.informer)
    reporter.read_from(informer.store.values)
    with closing(source):
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(informer.run())
            tasks.create_task(reporter.follow_epochs())
            tasks.create_task(reporter.keep_time())


def load_credentials(config: ListenerConfig) -> Credentials:
    """The way to the API server.

    Raises:
        KubeconfigError: there is none; the text says what to do.
    """
    if config.kubeconfig is not None:
        return load_kubeconfig(config.kubeconfig.expanduser(), config.context)
    if SERVICE_ACCOUNT.exists():
        return load_in_cluster(os.environ)
    default = Path("~/.kube/config").expanduser()
    if default.exists():
        return load_kubeconfig(default, config.context)
    raise KubeconfigError(
        f"no cluster: not running in a pod, and {default} does not exist; name a kubeconfig with"
        " --kubeconfig"
    )
