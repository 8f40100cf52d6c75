"""A tiny program on `osmo_runtime`, run as `python -m tests.runtime.sample`."""

import asyncio
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import field
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from osmo_runtime import runner
from osmo_runtime.fields import Setting
from osmo_runtime.runner import ProgramConfig, announce
from osmo_transport.errors import AddressInUseError, CertificateError, UnknownSchemeError
from osmo_transport.lean import dataclass


class Colour(Enum):
    """A choice."""

    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """A table."""

    max_entries: Annotated[int, msgspec.Meta(ge=1)] = 1000
    """Entries that are held, 100% of them."""
    share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.5
    """Share of the memory."""

    def __post_init__(self) -> None:
        if self.max_entries == 13:
            raise ValueError("max_entries must not be 13")


@dataclass(frozen=True, kw_only=True)
class Config(ProgramConfig):
    """Does what a test tells it."""

    act: str = "wait"
    """What to do."""
    listen: tuple[str, ...] = ()
    """Addresses
    to listen on."""
    backend: Annotated[str, Setting(aliases=("BACKEND", "CLUSTER"))] = "default"
    """Name of the cluster."""
    nodes: Annotated[int, msgspec.Meta(ge=0, le=100)] = 3
    """How many nodes."""
    ratio: float = 1.0
    """A number."""
    watch: bool = False
    """A switch."""
    colour: Colour = Colour.RED
    """A choice by enum."""
    mode: Literal["a", "b"] = "a"
    """A choice by literal."""
    out: Path | None = None
    """A file."""
    weights: Mapping[str, int] = field(default_factory=dict)
    """A mapping."""
    login: Annotated[str, Setting(secret=True)] = ""
    """A secret that is marked."""
    api_token: str = ""
    """A secret by its name."""
    queue: str = "memory://"
    """A URL."""
    limits: Limits = Limits()
    """Its bounds."""

    def without_effect(self) -> Iterator[tuple[str, str]]:
        """See `ProgramConfig`."""
        if not self.watch:
            yield "ratio", "--watch is not set"
            yield "limits", "--watch is not set"


class FarError(Exception):
    """An error of a library that the runtime does not know."""


ERRORS = {
    "usage": UnknownSchemeError("no transport for 'x://'"),
    "distrust": CertificateError("the certificate is not trusted"),
    "far": FarError("the far side\nrefused redis://:hunter2@host"),
    "pipe": BrokenPipeError("of something else"),
}


async def run(config: Config, stop: asyncio.Event) -> None:
    """Do what `config.act` says."""
    match config.act:
        case "return":
            return
        case "wait":
            announce("tcp://user:hidden@127.0.0.1:1")
            await stop.wait()
            sys.stdout.write("drained\n")
        case "ignore":
            announce("tcp://127.0.0.1:1")
            await stop.wait()
            announce("nothing")
            await asyncio.Event().wait()
        case "spin":
            announce("tcp://127.0.0.1:1")
            await stop.wait()
            announce("nothing")
            while True:
                time.sleep(0.01)  # noqa: ASYNC251  (a program that gives the loop no turn)
        case "talk":
            while True:
                announce("tcp://127.0.0.1:1")
        case "loop":
            sys.stdout.write(type(asyncio.get_running_loop()).__module__)
        case "busy":
            async with asyncio.TaskGroup() as group:
                group.create_task(_fail(AddressInUseError("port 1 is in use: choose another")))
        case act if act in ERRORS:
            raise ERRORS[act]
        case "bug":
            async with asyncio.TaskGroup() as group:
                group.create_task(_fail(ZeroDivisionError("oops")))
        case "both" | "same":
            unknown = UnknownSchemeError("no transport for 'x://'")
            used = AddressInUseError("port 1 is in use")
            async with asyncio.TaskGroup() as group:
                group.create_task(_fail(AddressInUseError("port 1 is in use")))
                group.create_task(_fail(used if config.act == "same" else unknown))


async def _fail(error: Exception) -> None:
    raise error


def main() -> int:
    """Run it; the first argument may say that it is a command, and no service."""
    given = sys.argv[1:]
    is_command = given[:1] == ["command"]
    given = given[is_command:]
    return runner.main(
        "sample", Config, run, argv=given, errors={FarError: 1}, is_command=is_command
    )


if __name__ == "__main__":
    sys.exit(main())
