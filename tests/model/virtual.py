"""An event loop whose time passes only while nothing else is to be done, and then at once."""

import asyncio
import selectors


class _Skipping(selectors.SelectSelector):
    """Waits for nothing: moves `now` on instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("everybody waits, and nothing will ever happen")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """For what does no I/O and has no threads. `time` begins at 0."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now
