"""`osmo-pipeline rules`: by which conditions the nodes of a backend are available."""

import asyncio
import shlex
from contextlib import aclosing, suppress
from typing import Annotated

from osmo_pipeline.commands.output import hint, say, write_json
from osmo_pipeline.commands.places import directory_of
from osmo_pipeline.config import BackendConfig, ViewConfig
from osmo_pipeline.errors import RefusedError
from osmo_reports.conditions import DEFAULT_RULES
from osmo_reports.directory import Directory, Origin, RuleSet
from osmo_runtime.fields import Setting
from osmo_runtime.texts import counted
from osmo_transport.bounds import Seconds
from osmo_transport.lean import dataclass


@dataclass(frozen=True, kw_only=True)
class GetRulesConfig(BackendConfig, ViewConfig):
    """Prints the rules of a backend, as `rules set` takes them, and where they come from. Of one
    that nobody has registered none are known, or not yet: operators put back within seconds what a
    queue forgot."""


@dataclass(frozen=True, kw_only=True)
class SetRulesConfig(ViewConfig):
    """Replaces the rules by which the nodes of a backend are available: of each condition whose
    type a pattern finds, the status has to match. The backend's listeners are told at once. It is
    refused where the operators' file (--rules-file) declares the rules of this backend."""

    backend: Annotated[str, Setting(positional=True)]
    """Name of the backend."""
    rules: Annotated[dict[str, str], Setting(positional=True, metavar="TYPE=STATUS")]
    """Pattern of a condition's type, and pattern of its status, for example Ready=True
    '^Gpu.*Problem$=False|Unknown'."""

    def __post_init__(self) -> None:
        if not self.rules:
            raise ValueError("name at least one rule; Ready=True is what a backend begins with")


@dataclass(frozen=True, kw_only=True)
class ClearRulesConfig(BackendConfig, ViewConfig):
    """Lets the default rules hold for a backend, whoever decided others; its listeners are told at
    once. An operator whose file (--rules-file) declares its rules puts them back at once, which is
    told: take them out of the file first, or the file away from every operator."""

    wait: Seconds = 3.0
    """Seconds to watch whether an operator's file declares rules for it."""


async def set_rules(config: SetRulesConfig, _: asyncio.Event) -> None:
    """`rules set`: replace the rules of a backend; its listeners are told at once.

    Raises:
        RulesError: some cannot be used; nothing is changed.
        RulesDeclaredError: the operators' file declares them.
        TransportError: the queue cannot be used; the text says what to do.
    """
    async with directory_of(config) as directory:
        known = await directory.set_rules(config.backend, config.rules)
        registered = await directory.backends()
    is_registered = config.backend in registered
    if config.json:
        write_json({**_described(config.backend, known), "registered": is_registered})
    else:
        count = len(known.rules)
        rules = counted(count, "rule")
        say(f"{config.backend}: {rules}, version {known.version}")
    if not is_registered:
        names = ", ".join(sorted(registered)) or "none"
        hint(
            f"no listener has registered {config.backend} at the operators of this queue yet;"
            f" registered are: {names}"
        )


async def get_rules(config: GetRulesConfig, _: asyncio.Event) -> None:
    """`rules get`: print the rules of a backend, a line each, as a shell takes them, and where they
    come from.

    Raises:
        TransportError: the queue cannot be used; the text says what to do.
    """
    async with directory_of(config) as directory:
        known = (await directory.rules()).get(config.backend)
        is_registered = config.backend in await directory.backends()
    if config.json:
        write_json({**_described(config.backend, known), "registered": is_registered})
        return
    hint(f"{config.backend} {_ORIGINS[_origin(known)]}")
    if known is None and not is_registered:
        hint(
            f"but the queue knows no backend {config.backend}: either there is none, or the queue"
            " lost its memory just now, and operators put back what they know within seconds"
        )
    for type_, status in (known.rules if known else DEFAULT_RULES).items():
        say(shlex.quote(f"{type_}={status}"))


async def clear_rules(config: ClearRulesConfig, _: asyncio.Event) -> None:
    """`rules clear`: let the default rules hold for a backend.

    Raises:
        RefusedError: an operator's file declares its rules, and does so again.
        TransportError: the queue cannot be used; the text says what to do.
    """
    async with directory_of(config) as directory:
        known = (await directory.rules()).get(config.backend)
        if _origin(known) is Origin.FILE:
            known = await directory.declare_rules(config.backend, None)
            with suppress(TimeoutError):
                async with asyncio.timeout(config.wait):
                    await _declared_again(directory, config.backend)
                raise RefusedError(
                    f"an operator's file (--rules-file) declares the rules of {config.backend}:"
                    " take them out of it, or the file away from every operator that has it"
                )
        elif known is not None and known.rules != DEFAULT_RULES:
            known = await directory.set_rules(config.backend, DEFAULT_RULES)
    if config.json:
        write_json(_described(config.backend, known))
    else:
        say(f"{config.backend}: the default rules hold")


async def _declared_again(directory: Directory, backend: str) -> None:
    async with aclosing(directory.follow_rules()) as following:
        async for found in following:
            if _origin(found.get(backend)) is Origin.FILE:
                return


_ORIGINS = {
    Origin.FILE: "has the rules that the operators' file declared last (--rules-file)",
    Origin.COMMAND: "has rules that were set by command",
    Origin.DEPLOYED: "has rules that the deployed service set",
    Origin.DEFAULT: "has no rules of its own: these hold everywhere",
}


def _origin(known: RuleSet | None) -> Origin:
    return known.origin if known else Origin.DEFAULT


def _described(backend: str, known: RuleSet | None) -> dict[str, object]:
    """The rules of a backend as programs read them; those of which nothing was ever decided have no
    version."""
    return {
        "backend": backend,
        "origin": _origin(known),
        "version": known.version if known else None,
        "rules": known.rules if known else DEFAULT_RULES,
    }
