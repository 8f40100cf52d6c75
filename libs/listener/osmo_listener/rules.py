"""Hands the node listener the condition rules that the operator pushes."""

import logging
from functools import partial
from typing import Any, NoReturn

from osmo_listener.listeners.node import NodeListener
from osmo_listener.reporter import Reporter
from osmo_reports.directory.abc import RULES_KIND, decode_rules
from osmo_transport import Client

logger = logging.getLogger(__name__)


async def follow_rules(client: Client, reporter: Reporter[Any], listener: NodeListener) -> NoReturn:
    """Judge every node anew with each change of the rules. Rules that cannot be read are skipped
    with a warning, and those before them stay.

    Raises:
        FencedError, UsageError: the operator refuses this listener for good.
    """
    version = 0
    while True:
        push = await client.push_after(RULES_KIND, version)
        version = push.version
        try:
            rules = decode_rules(push.payload)
        except ValueError as exc:
            logger.warning("the operator's condition rules cannot be read: %s", exc)
            continue
        logger.info("condition rules, version %d: %s", version, rules)
        await reporter.report(partial(listener.set_rules, rules))
