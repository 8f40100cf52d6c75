"""Where a client's token comes from: a file that somebody else keeps fresh, or a command."""

import asyncio
import contextlib
import os
import shlex
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from osmo_transport import _tasks
from osmo_transport._text import shown
from osmo_transport.credentials import MAX_TOKEN
from osmo_transport.errors import ConnectionLostError, UsageError
from osmo_transport.files import LOOK_INTERVAL, WatchedFile
from osmo_transport.lean import dataclass
from osmo_transport.naming import setting
from osmo_transport.transports.abc import PLAIN
from osmo_transport.transports.urls import stays_here

COMMAND_TIMEOUT = 30.0
"""Seconds that a command may take: it may ask somebody over the network."""

COMMAND_INTERVAL = 300.0
"""Seconds after which a command is run again whose tokens do not say when they end."""

SPENT = 0.8
"""Share of a token's time after which the command is asked for another one."""

MAX_SAID = 200
"""Characters of what a command that fails says on stderr which are shown."""


@dataclass(frozen=True, kw_only=True)
class TokenConfig:
    """What a client presents to a server that asks who it is, besides a certificate. A newer token
    takes the place of the one before without a new connection."""

    file: Path | None = None
    """File with the token, which is read again when it changes, as one that somebody keeps fresh
    for this program."""
    command: str = field(default="", repr=False)
    """Command that prints the token, instead of a file; run again before its token ends, at the
    latest every five minutes where it does not say when it does. No shell is involved."""
    insecure: bool = False
    """Whether the token may be sent over ws:// or grpc:// to another machine, where everybody on
    the way can read it: only where something else encrypts the way."""

    def __post_init__(self) -> None:
        if self.file is not None and self.command:
            raise ValueError("there are a token file and a token command: one of them is enough")
        if self.file is not None:
            object.__setattr__(self, "file", Path(self.file))
        try:
            shlex.split(self.command)
        except ValueError as exc:
            raise ValueError(f"the token command cannot be read: {exc}") from exc


class TokenSource:
    """The token that a client presents now.

    Args:
        config: where it comes from.
        wall: seconds since the Unix epoch.
    """

    def __init__(self, config: TokenConfig, wall: Callable[[], float] = time.time) -> None:
        self._path = config.file
        self._file: WatchedFile[str] | None = None
        self._command = shlex.split(config.command)
        self._wall = wall
        self._token = ""
        self._until = 0.0

    @property
    def given(self) -> bool:
        """Whether there is to be a token."""
        return self._path is not None or bool(self._command)

    async def token(self) -> str:
        """The token of now; empty where none is to be given.

        Raises:
            ConnectionLostError: it cannot be had now.
            UsageError: what is there is no token.
        """
        if self._path is not None:
            if self._file is None:
                self._file = _opened(self._path)
            return self._file.look()
        if self._command and self._wall() >= self._until:
            token = self._printed(await self._run())
            now = self._wall()
            ends = _end_of(token)
            spent = COMMAND_INTERVAL if ends is None else (ends - now) * SPENT
            self._token, self._until = token, now + max(spent, LOOK_INTERVAL)
        return self._token

    async def pause(self) -> None:
        """Wait until it is worth while to look again."""
        await asyncio.sleep(LOOK_INTERVAL)

    def _printed(self, data: bytes) -> str:
        try:
            return _checked(data)
        except ValueError as exc:
            kind = ConnectionLostError if isinstance(exc, _NoTokenError) else UsageError
            raise kind(f"what {self._command[0]} printed cannot be used: {exc}") from exc

    async def _run(self) -> bytes:
        name = self._command[0]
        # asyncio ends a process whose start is cancelled without those that it has started.
        starting = asyncio.create_task(
            asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=MAX_TOKEN + 2,
                start_new_session=True,
            )
        )
        try:
            await _tasks.ended([starting])
            process = starting.result()
            assert process.stdout is not None
            assert process.stderr is not None
            async with asyncio.timeout(COMMAND_TIMEOUT):
                said, wrong = await asyncio.gather(
                    _start_of(process.stdout), _start_of(process.stderr)
                )
                code = await process.wait()
        except TimeoutError as exc:
            raise ConnectionLostError(f"{name} gave no token within {COMMAND_TIMEOUT:g} s") from exc
        except OSError as exc:
            raise ConnectionLostError(f"cannot run the token command: {exc}") from exc
        finally:
            if starting.exception() is None:
                await _kill(starting.result())
        if code:
            why = shown(wrong.decode(errors="replace").strip(), MAX_SAID)
            raise ConnectionLostError(f"{name} failed with {code}: {why}")
        return said


async def _kill(process: asyncio.subprocess.Process) -> None:
    """End a process, and those that it has started, unless they have ended."""
    assert process.stdout is not None
    if process.returncode is None or not process.stdout.at_eof():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        await process.wait()


async def _start_of(stream: asyncio.StreamReader) -> bytes:
    """What a stream begins with; the rest is read, and dropped."""
    kept = b""
    while piece := await stream.read(MAX_TOKEN):
        kept = (kept + piece)[: MAX_TOKEN + 2]
    return kept


class _NoTokenError(ValueError):
    """There is none yet."""


def _opened(path: Path) -> WatchedFile[str]:
    try:
        return WatchedFile(path, _checked, what="token file", limit=MAX_TOKEN + 2)
    except UsageError as exc:
        if isinstance(exc.__cause__, OSError | _NoTokenError):
            # It may be about to be written, as by who mounts it.
            raise ConnectionLostError(
                f"{exc}; tried again until it is there, however long that takes"
            ) from exc.__cause__
        raise


def _checked(data: bytes) -> str:
    """The token, which neither a header nor a line of a log could be made of otherwise."""
    token = data.decode("ascii", errors="replace").strip()
    if not token:
        raise _NoTokenError("there is no token in it")
    if len(token) > MAX_TOKEN:
        raise ValueError(f"it is no token: it is longer than {MAX_TOKEN}")
    if not all("!" <= character <= "~" for character in token):
        raise ValueError("it is no token: it is more than one printable word")
    return token


class _Claims(msgspec.Struct):
    exp: float | None = None


def _end_of(token: str) -> float | None:
    """When a JWT says that it ends, in seconds since the Unix epoch; believed of one's own. None:
    it is none, or does not say."""
    try:
        payload = token.split(".")[1]
        return msgspec.json.decode(urlsafe_b64decode(payload + "=="), type=_Claims).exp
    except (IndexError, ValueError, msgspec.MsgspecError):
        return None


def check_in_the_clear(url: str, config: TokenConfig) -> None:
    """Look whether others could read the token on its way to `url`.

    Raises:
        UsageError: they could.
    """
    if (config.file is None and not config.command) or config.insecure:
        return
    parts = urlsplit(url)
    if parts.scheme in PLAIN and not stays_here(url):
        raise UsageError(
            f"everybody on the way to {url} could read the token: use {parts.scheme}s://, or set"
            f" {setting('client.token.insecure')} if something else encrypts the way"
        )
