"""How the tables run a system's programs, and read what its client prints."""

import asyncio
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

import msgspec

from osmo_benchmarks.errors import WrongResultError
from osmo_benchmarks.plan import Context
from osmo_benchmarks.processes import Program, program, server
from osmo_benchmarks.programs.client import Result
from osmo_benchmarks.systems import Command


def running(context: Context, name: str, command: Command) -> AbstractAsyncContextManager[Program]:
    """A program of a heat, for as long as the context lasts.

    Raises:
        ProgramError: it cannot be started.
    """
    log = context.folder / f"{name}.log"
    return program(name, command.arguments, log, command.environment)


def serving(context: Context, name: str, command: Command) -> AbstractAsyncContextManager[Program]:
    """As `running`, once it says where it listens."""
    log = context.folder / f"{name}.log"
    return server(name, command.arguments, log, command.environment)


async def stop_all(programs: Iterable[Program]) -> None:
    """End programs at once, and not each after the one before."""
    await asyncio.gather(*(each.stop() for each in programs))


async def measured(
    context: Context, name: str, command: Command, messages: int, timeout: float
) -> Result:
    """Run a client to its end; what it measured.

    Raises:
        ProgramError: it failed, or did not end within `timeout` seconds.
        WrongResultError: it does not say that all `messages` were acknowledged.
    """
    async with running(context, name, command) as client:
        printed = await client.output(timeout)
    try:
        result = msgspec.json.decode(printed, type=Result)
    except msgspec.DecodeError as exc:
        raise WrongResultError(f"{name} printed no result but {printed[:200]!r}") from exc
    if result.acknowledged != messages:
        raise WrongResultError(f"{result.acknowledged} of {messages} messages were acknowledged")
    return result
