"""How it goes, looked at once for all who watch, and how it went a moment ago."""

from collections import deque
from typing import NamedTuple

from osmo_pipeline.top.board import Board
from osmo_pipeline.top.watching import Watch

MOMENTS = 60
"""Looks that the curves are about."""


class Moment(NamedTuple):
    """One point of the curves."""

    rate: float | None
    """Reports per second that the queue took; None: not known."""
    depth: int | None
    """Entries in the queue."""


class Pulse:
    """The figures of the fleet, as of the last `beat`."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self.board: Board = watch.board()
        self.moments: deque[Moment] = deque(maxlen=MOMENTS)

    async def beat(self) -> None:
        """Look once more."""
        await self._watch.look()
        board = self.board = self._watch.board()
        rate = depth = None
        if board.flow is not None:
            rate = sum(board.flow.reported.values())
        if board.status is not None:
            depth = sum(board.status.waiting.values()) + sum(board.status.pending.values())
        self.moments.append(Moment(rate, depth))
