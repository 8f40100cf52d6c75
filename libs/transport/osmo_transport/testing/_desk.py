"""An operator's end for the tests of the transport contract, and what is sent to it."""

from collections.abc import Sequence

from osmo_transport.client import Client
from osmo_transport.delivery import Producer, ProducerState
from osmo_transport.errors import FencedError, QueueUnavailableError
from osmo_transport.message import Message
from osmo_transport.server import Incoming, Server
from osmo_transport.testing._transport_suite import event


class Desk:
    """An operator with a queue in memory: it stores what comes, once, and acknowledges it."""

    def __init__(self) -> None:
        self.states: dict[Producer, ProducerState] = {}
        self.messages: list[Message] = []
        self.available = True
        self.queue_epoch = "one"

    async def admit(self, producer: Producer, known: ProducerState) -> ProducerState:
        """As `Queue.open_producer`."""
        if not self.available:
            raise QueueUnavailableError("the store is away")
        state = self.states.get(producer, ProducerState(self.queue_epoch, 0, 0))
        if known.epoch and state.epoch > known.epoch:
            raise FencedError("a newer listener reports")
        if (known.queue_epoch, known.epoch) != (self.queue_epoch, state.epoch):
            state = ProducerState(self.queue_epoch, max(state.epoch, known.epoch) + 1, 0)
            self.states[producer] = state
        return state

    def store(self, incoming: Incoming) -> None:
        """Store what is new, then acknowledge."""
        batch = incoming.batch
        state = self.states[batch.producer]
        if state.queue_epoch != batch.state.queue_epoch:
            incoming.resync()
        elif state.epoch != batch.state.epoch:
            incoming.fence()
        else:
            assert batch.first <= state.sequence + 1, "a gap"
            fresh = batch.messages[state.sequence + 1 - batch.first :]
            self.messages += [message for message in fresh if message is not None]
            last = max(state.sequence, batch.last)
            self.states[batch.producer] = state._replace(sequence=last)
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
