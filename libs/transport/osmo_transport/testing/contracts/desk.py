"""A server's end for the tests of the transport contract, and what is sent to it."""

from collections.abc import Collection, Sequence

from osmo_transport.client import Client
from osmo_transport.errors import QueueUnavailableError
from osmo_transport.message import Message, read_message
from osmo_transport.queues.abc import AppendOutcome
from osmo_transport.queues.delivery import Producer, ProducerState
from osmo_transport.queues.leases import Renewal
from osmo_transport.server import Incoming, Server
from osmo_transport.session import Greeting
from osmo_transport.session.admission import Record, judge
from osmo_transport.testing.contracts.transport_suite import event


class Desk:
    """A server with a queue in memory: it stores what comes, once, and acknowledges it."""

    def __init__(self) -> None:
        self._record = Record()
        self.messages: list[Message] = []
        self.available = True
        self.queue_epoch = "one"
        self.now = 1.0
        """By which leases end; it stands still until a test moves it."""
        self.renews = True
        """Whether signs of life are noted."""
        self.slowed: set[str] = set()
        """Backends of which something came that were over their quota."""

    async def admit(self, greeting: Greeting) -> ProducerState:
        """As `Queue.open_producer`."""
        if not self.available:
            raise QueueUnavailableError("the store is away")
        producer, instance, known = greeting.producer, greeting.instance, greeting.known
        return self._record.admit(
            producer, self.queue_epoch, instance, known, self.now, greeting.claim
        )

    async def renew(
        self, renewals: Sequence[Renewal], wanted: Collection[Producer]
    ) -> Collection[Producer]:
        """As `Queue.renew`."""
        return self._record.renew(renewals if self.renews else (), wanted, self.now)

    def store(self, incoming: Incoming) -> None:
        """Store what is new, then acknowledge."""
        if incoming.slowed:
            self.slowed.add(incoming.producer.backend)
        place = self._record.place(incoming.producer)
        match judge(place, self.queue_epoch, incoming):
            case AppendOutcome.LOST:
                incoming.resync()
            case AppendOutcome.FENCED:
                incoming.fence()
            case AppendOutcome.STORED:
                fresh = incoming.after(place.sequence)
                self.messages += [read_message(data) for _, data in fresh]
                self._record.stored(incoming.producer, place.epoch, incoming.last)
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
