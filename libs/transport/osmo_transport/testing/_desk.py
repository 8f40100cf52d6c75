"""An operator's end for the tests of the transport contract, and what is sent to it."""

from collections.abc import Sequence

from osmo_transport.admission import Record
from osmo_transport.client import Client
from osmo_transport.delivery import ProducerState
from osmo_transport.errors import QueueUnavailableError
from osmo_transport.message import Message
from osmo_transport.server import Incoming, Server
from osmo_transport.session import Greeting
from osmo_transport.testing._transport_suite import event


class Desk:
    """An operator with a queue in memory: it stores what comes, once, and acknowledges it."""

    def __init__(self) -> None:
        self._record = Record()
        self.messages: list[Message] = []
        self.available = True
        self.queue_epoch = "one"

    async def admit(self, greeting: Greeting) -> ProducerState:
        """As `Queue.open_producer`."""
        if not self.available:
            raise QueueUnavailableError("the store is away")
        producer, listener, known, _ = greeting
        return self._record.admit(producer, self.queue_epoch, listener, known, 0.0)

    def store(self, incoming: Incoming) -> None:
        """Store what is new, then acknowledge."""
        batch = incoming.batch
        place = self._record.place(batch.producer)
        if batch.state.queue_epoch != self.queue_epoch or batch.first > place.sequence + 1:
            incoming.resync()
        elif place.epoch != batch.state.epoch:
            incoming.fence()
        else:
            fresh = batch.messages[place.sequence + 1 - batch.first :]
            self.messages += [message for message in fresh if message is not None]
            self._record.stored(batch.producer, place.epoch, batch.last)
            incoming.acknowledge()

    async def serve(self, server: Server) -> None:
        """Until the server stops."""
        while taken := await server.receive():
            for incoming in taken:
                self.store(incoming)

    def keys(self) -> list[str]:
        """Of the stored messages, in order."""
        return [message.key for message in self.messages]


async def send_all(client: Client, messages: Sequence[Message]) -> None:
    """Send them and wait until they are acknowledged."""
    for message in messages:
        await client.send(message)
    await client.flush()


def events(count: int, size: int = 10) -> list[Message]:
    """Numbered reports, none of which is coalesced."""
    return [event(str(number), size) for number in range(count)]
