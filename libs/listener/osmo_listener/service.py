"""The listener service: the wiring, from configuration to drain."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from typing import Any

from osmo_listener import figures
from osmo_listener.checks import (
    FINDING_OUT,
    feed_check,
    operator_check,
    reporting_work,
    sending_work,
)
from osmo_listener.config import ListenerConfig
from osmo_listener.heartbeat import send_heartbeats
from osmo_listener.installed import listener_types
from osmo_listener.kubernetes.access import find_credentials
from osmo_listener.kubernetes.credentials import Credentials
from osmo_listener.kubernetes.http import HttpClient
from osmo_listener.kubernetes.identity import find_cluster_uid
from osmo_listener.kubernetes.listwatch import ListWatch
from osmo_listener.kubernetes.starting import until_answered
from osmo_listener.listeners.registry import ListenerType
from osmo_listener.log_reports import report_logs
from osmo_listener.watches import Feed, Watches, resources_of
from osmo_reports.bodies import Registration, encode_introduction
from osmo_runtime import __version__
from osmo_runtime.operations import Operations
from osmo_runtime.startup import unless_stopped
from osmo_runtime.tasks import beside
from osmo_runtime.texts import counted
from osmo_transport import Client, connect

logger = logging.getLogger(__name__)


async def run_listener(
    config: ListenerConfig,
    stop: asyncio.Event,
    started: Callable[[Client, Mapping[str, Feed]], None] = lambda *_: None,
    *,
    operations: Operations | None = None,
) -> None:
    """Report until `stop` is set, then wait for the acknowledgements of what was sent. While
    another listener of this backend and source reports, follow the cluster and stand by.

    `started` is called once with the client, and with what each listener is told from, for their
    figures. `operations` is given what tells of the service.

    Raises:
        ListenerError: the API server cannot be used; the text says what to change.
        UsageError: the configuration does not work.
    """
    types = listener_types(config.listeners)
    credentials = find_credentials(config.kubeconfig, config.context)
    # Before the operator hears of this process: one that cannot report takes nobody's place.
    cluster_uid = await unless_stopped(_followed(config, types, credentials), stop)
    if cluster_uid is None:
        return
    registration = Registration(
        cluster_uid=cluster_uid,
        namespace=config.namespace,
        version=__version__,
        node_condition_prefix=config.rules.node.label_prefix,
    )
    async with connect(
        config.connect,
        backend=config.backend,
        source=config.source,
        introduction=encode_introduction(registration),
        config=config.client,
    ) as client:
        tracer = operations.tracer if operations is not None else None
        watches = Watches(config, types, credentials, client, tracer)

        def watch_ages() -> dict[str, float]:
            return {name: feed.silence for name, feed in watches.feeds.items()}

        works = [
            send_heartbeats(
                client, config.backend, registration, config.heartbeat_interval, watch_ages
            ),
            *watches.tasks(),
        ]
        started(client, watches.feeds)
        if operations is not None:
            _show(operations, client, watches.feeds, config.list_watch.silence)
        if config.report_logs:
            works.append(report_logs(client, config.log_reports))
        async with beside(works):
            await stop.wait()
    logger.info("stopped after %s", counted(client.stats.acknowledged, "message"))


async def _followed(
    config: ListenerConfig, types: Mapping[str, ListenerType[Any]], credentials: Credentials
) -> str:
    """The uid of the cluster, which this process may follow."""
    # One for all: a handshake of TLS takes each side some milliseconds.
    with closing(HttpClient(credentials.endpoint, credentials.tls, config.http)) as client:
        cluster_uid = config.cluster_uid or await find_cluster_uid(credentials, client)
        async with asyncio.TaskGroup() as trying:
            for resource in resources_of(types, config.namespace):
                source = ListWatch(credentials, resource, config.list_watch, client=client)
                what = f"cannot follow {resource.path}"
                trying.create_task(until_answered(source.try_out, what))
    return cluster_uid


def _show(
    operations: Operations, client: Client, feeds: Mapping[str, Feed], silence: float
) -> None:
    operations.check("operator", lambda: operator_check(client))
    deadline = silence + FINDING_OUT
    for name, feed in feeds.items():
        operations.check(name, partial(feed_check, feed, deadline))
    operations.work("sending", sending_work(client))
    operations.work("reporting", reporting_work(client, feeds))
    figures.measure(operations, client, feeds)
