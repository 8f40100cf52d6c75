"""The terminal while it shows frames: all of it is theirs, and is given back as it was."""

import asyncio
import logging
import os
import re
import signal
import sys
import termios
import tty
from collections.abc import Callable, Sequence
from enum import Enum
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from osmo_pipeline.top.frame import Line


class Key(Enum):
    """What somebody can press."""

    QUIT = "quit"
    UP = "up"
    DOWN = "down"
    PAGE_UP = "page up"
    PAGE_DOWN = "page down"
    HOME = "home"
    END = "end"


_KEYS = {
    **dict.fromkeys((b"q", b"Q"), Key.QUIT),
    **dict.fromkeys((b"k", b"\x1b[A", b"\x1bOA"), Key.UP),
    **dict.fromkeys((b"j", b"\x1b[B", b"\x1bOB"), Key.DOWN),
    **dict.fromkeys((b"b", b"\x1b[5~"), Key.PAGE_UP),
    **dict.fromkeys((b" ", b"\x1b[6~"), Key.PAGE_DOWN),
    **dict.fromkeys((b"g", b"\x1b[H", b"\x1bOH", b"\x1b[1~"), Key.HOME),
    **dict.fromkeys((b"G", b"\x1b[F", b"\x1bOF", b"\x1b[4~"), Key.END),
}

_SEQUENCE = re.compile(rb"\x1b(?:\[[0-9;]*[A-Za-z~]|O[A-Za-z])|.", re.DOTALL)


def keys_in(typed: bytes) -> list[Key]:
    """The keys that were pressed; those that mean nothing are left out."""
    return [_KEYS[each] for each in _SEQUENCE.findall(typed) if each in _KEYS]


class Screen:
    """Use as `with`, while an event loop runs.

    Args:
        pressed: told each key.
        resized: told that the terminal has another size.
        warned: told what the program logs, which would else be written across the frame.
    """

    def __init__(
        self,
        pressed: Callable[[Key], None],
        resized: Callable[[], None],
        warned: Callable[[str], None],
    ) -> None:
        self._pressed = pressed
        self._resized = resized
        self._console = Console()
        self._live = Live(console=self._console, screen=True, auto_refresh=False)
        self._log = _Told(warned)
        self._handlers: list[logging.Handler] = []
        self._settings: list[Any] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        return os.get_terminal_size(sys.stdout.fileno())

    def show(self, lines: Sequence[Line]) -> None:
        """Show a frame."""
        # Or the environment tells it, which does not change.
        self._console.size = self.size
        texts = [Text(line.text, line.style, no_wrap=True, overflow="crop") for line in lines]
        self._live.update(Group(*texts), refresh=True)

    def __enter__(self) -> Self:
        loop, root = asyncio.get_running_loop(), logging.getLogger()
        self._handlers, root.handlers = root.handlers, [self._log]
        if sys.stdin.isatty():
            self._settings = termios.tcgetattr(sys.stdin)
            tty.setcbreak(sys.stdin)
            self._without_suspending()
            loop.add_reader(sys.stdin.fileno(), self._read)
        loop.add_signal_handler(signal.SIGWINCH, self._resized)
        self._live.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._live.stop()
        loop.remove_signal_handler(signal.SIGWINCH)
        if self._settings is not None:
            loop.remove_reader(sys.stdin.fileno())
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, self._settings)
        logging.getLogger().handlers = self._handlers

    def _without_suspending(self) -> None:
        # A shell would be left in a terminal that is not as it was.
        settings = termios.tcgetattr(sys.stdin)
        settings[6][termios.VSUSP] = b"\0"
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, settings)

    def _read(self) -> None:
        typed = os.read(sys.stdin.fileno(), 1024)
        if not typed:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        for key in keys_in(typed):
            self._pressed(key)


class _Told(logging.Handler):
    def __init__(self, warned: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._warned = warned

    def emit(self, record: logging.LogRecord) -> None:
        self._warned(record.getMessage())
