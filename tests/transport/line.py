"""A connection of which a test says what it takes."""

import asyncio

from osmo_transport.frames import Frame, Stored
from osmo_transport.transports.abc import Connection


class Line(Connection):
    """It keeps what is sent, and is writable when a test says so."""

    peer: str = "nobody"
    writable = True

    def __init__(self) -> None:
        self.sent: list[Frame] = []
        self.closed = asyncio.Event()

    def send(self, frame: Frame) -> None:
        self.sent.append(frame)

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def close(self) -> None:
        self.closed.set()

    async def wait_closed(self) -> None:
        await self.closed.wait()

    def alone(self) -> bool:
        """Whether nothing was said but the welcome."""
        return len(self.sent) == 1

    def stored(self) -> list[int]:
        """What was acknowledged, one after the other."""
        return [frame.sequence for frame in self.sent if isinstance(frame, Stored)]
