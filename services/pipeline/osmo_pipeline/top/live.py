"""`top` on a terminal: looks, keys and resizes, each of which makes a new frame."""

import asyncio
from collections import deque
from dataclasses import replace

import anyio

from osmo_pipeline.top.board import Board
from osmo_pipeline.top.frame import frame, rows_of
from osmo_pipeline.top.screen import Key, Screen
from osmo_pipeline.top.watching import Watch


async def show_live(watch: Watch, interval: float, stop: asyncio.Event) -> None:
    """Look each `interval` seconds and show what there is, until `stop` or somebody says so."""
    view = _View(watch.board())
    with Screen(view.press, view.changed.set, view.warn) as screen:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_look, watch, view, interval)
            tasks.start_soon(_draw, screen, view)
            tasks.start_soon(_quit, stop, view)
            await view.left.wait()
            tasks.cancel_scope.cancel()


class _View:
    """What is shown, and from where on."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.first = 0
        self.page = 1
        self.changed = asyncio.Event()
        self.changed.set()
        self.left = asyncio.Event()
        self._warnings: deque[str] = deque(maxlen=1)

    def press(self, key: Key) -> None:
        """See `Screen`."""
        if key is Key.QUIT:
            self.left.set()
        last = max(0, len(self.board.members) - self.page)
        first = {
            Key.UP: self.first - 1,
            Key.DOWN: self.first + 1,
            Key.PAGE_UP: self.first - self.page,
            Key.PAGE_DOWN: self.first + self.page,
            Key.HOME: 0,
            Key.END: last,
        }.get(key, self.first)
        self.first = max(0, min(first, last))
        self.changed.set()

    def warn(self, text: str) -> None:
        """See `Screen`. The last warning is shown with the next look."""
        self._warnings.append(text)

    def show(self, board: Board) -> None:
        """There was another look."""
        self.board = replace(board, problems=(*board.problems, *self._warnings))
        self._warnings.clear()
        self.changed.set()


async def _look(watch: Watch, view: _View, interval: float) -> None:
    while True:
        await watch.look()
        view.show(watch.board())
        await asyncio.sleep(interval)


async def _draw(screen: Screen, view: _View) -> None:
    while True:
        await view.changed.wait()
        view.changed.clear()
        width, height = screen.size
        view.page = rows_of(view.board, width, height)
        screen.show(frame(view.board, width, height, view.first))


async def _quit(stop: asyncio.Event, view: _View) -> None:
    await stop.wait()
    view.left.set()
