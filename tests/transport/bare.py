"""A client made of bare frames."""

import msgspec

from osmo_transport import Limits, ProducerState, Server, TlsConfig, TransportError
from osmo_transport.frames import PROTOCOL, Frame, Goodbye, GoodbyeCode, Hello, Welcome
from osmo_transport.queues.delivery import NEW
from osmo_transport.transports.abc import Connection, ConnectionConfig, FrameSink
from osmo_transport.transports.memory import MemoryTransport
from tests.helpers import eventually
from tests.transport.builders import PRODUCER


class BareClient(FrameSink):
    """It keeps what it gets, and says what a test lets it say."""

    def __init__(
        self, name: str = "one", known: ProducerState | None = None, *, takes_over: bool = True
    ) -> None:
        self.name = name
        self.takes_over = takes_over
        self.known = known or NEW
        self.frames: list[Frame] = []
        self.end: TransportError | None = None
        self.connection: Connection

    async def dial(self, server: Server) -> None:
        """Connect and say nothing."""
        config = ConnectionConfig(
            limits=Limits(), tls=TlsConfig(), open_timeout=1.0, max_connections=1
        )
        self.connection = await MemoryTransport().dial(server.url, self, config)

    def say_hello(self) -> None:
        """Introduce oneself."""
        queue_epoch, epoch, sequence = self.known
        hello = Hello(PROTOCOL, *PRODUCER, self.name, queue_epoch, epoch, sequence, Limits())
        self.connection.send(msgspec.structs.replace(hello, takes_over=self.takes_over))

    async def connect(self, server: Server) -> "BareClient":
        """Dial and say hello."""
        await self.dial(server)
        self.say_hello()
        return self

    async def welcome(self) -> Welcome:
        """The server's answer."""
        await eventually(lambda: self.frames)
        (frame,) = self.frames
        assert isinstance(frame, Welcome)
        return frame

    async def goodbye(self) -> GoodbyeCode:
        """Why the server ended it."""
        await eventually(lambda: self.end)
        frame = self.frames[-1]
        assert isinstance(frame, Goodbye)
        return frame.code

    def frame_received(self, frame: Frame) -> None:
        self.frames.append(frame)

    def writing_resumed(self) -> None: ...

    def connection_lost(self, error: TransportError) -> None:
        self.end = error
