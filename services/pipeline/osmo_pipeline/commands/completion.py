"""`osmo-pipeline completion`: the command lines of all programs, completed by a shell."""

import asyncio
import sys
from typing import Annotated, Literal

from osmo_runtime.completion import shell_code
from osmo_runtime.fields import Setting
from osmo_runtime.logs import LogLevel
from osmo_runtime.runner import ProgramConfig
from osmo_transport.lean import dataclass

PROGRAMS = ("osmo-listener", "osmo-operator", "osmo-pipeline", "osmo-simulator", "osmo-worker")


@dataclass(frozen=True, kw_only=True)
class CompletionConfig(ProgramConfig):
    """Prints what makes a shell complete the command lines of all our programs, for example in
    ~/.bashrc: source <(osmo-pipeline completion bash)"""

    shell: Annotated[Literal["bash", "zsh", "fish"], Setting(positional=True)]
    """For which."""
    log_level: LogLevel = LogLevel.WARNING
    """The least severe log records that are written."""


async def show_code(config: CompletionConfig, _: asyncio.Event) -> None:
    """`completion`.

    Raises:
        MissingExtraError: the extra is not installed.
    """
    sys.stdout.write(shell_code(PROGRAMS, config.shell))
