"""`osmo-pipeline rules`: by which conditions the nodes of a backend are available."""

import asyncio
import shlex
import sys
from dataclasses import dataclass
from typing import Annotated

from osmo_pipeline.commands.places import directory_of
from osmo_pipeline.config import BackendConfig, CommandConfig
from osmo_reports.conditions import DEFAULT_RULES
from osmo_runtime.fields import Setting


@dataclass(frozen=True, kw_only=True)
class GetRulesConfig(BackendConfig):
    """Prints the rules of a backend, as `rules set` takes them."""


@dataclass(frozen=True, kw_only=True)
class SetRulesConfig(CommandConfig):
    """Replaces the rules by which the nodes of a backend are available: of each condition whose
    type a pattern finds, the status has to match. The backend's listeners are told at once."""

    backend: Annotated[str, Setting(positional=True)]
    """Name of the backend."""
    rules: Annotated[dict[str, str], Setting(positional=True, metavar="TYPE=STATUS")]
    """Pattern of a condition's type, and pattern of its status, for example Ready=True
    '^Gpu.*Problem$=False|Unknown'."""

    def __post_init__(self) -> None:
        if not self.rules:
            raise ValueError("name at least one rule; Ready=True is what a backend begins with")


async def set_rules(config: SetRulesConfig, _: asyncio.Event) -> None:
    """`rules set`: replace the rules of a backend; its listeners are told at once.

    Raises:
        RulesError: some cannot be used; nothing is changed.
        TransportError: the queue cannot be used; the text says what to do.
    """
    async with directory_of(config) as directory:
        known = await directory.set_rules(config.backend, config.rules)
        registered = await directory.backends()
    count = len(known.rules)
    rules = "1 rule" if count == 1 else f"{count} rules"
    sys.stdout.write(f"{config.backend}: {rules}, version {known.version}\n")
    if config.backend not in registered:
        names = ", ".join(sorted(registered)) or "none"
        sys.stderr.write(
            f"no listener has registered {config.backend} at the operators of this queue yet;"
            f" registered are: {names}\n"
        )


async def get_rules(config: GetRulesConfig, _: asyncio.Event) -> None:
    """`rules get`: print the rules of a backend, a line each, as a shell takes them.

    Raises:
        TransportError: the queue cannot be used; the text says what to do.
    """
    async with directory_of(config) as directory:
        known = (await directory.rules()).get(config.backend)
    if known is None:
        sys.stderr.write(f"{config.backend} has no rules of its own: these hold everywhere\n")
    for type_, status in (known.rules if known else DEFAULT_RULES).items():
        sys.stdout.write(f"{shlex.quote(f'{type_}={status}')}\n")
