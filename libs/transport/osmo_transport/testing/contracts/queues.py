"""The contract of `osmo_transport.queues.abc` as tests that any implementation can be put to.

Subclass `QueueContract`, say how to open a queue, and let pytest collect the subclass::

    class TestMyQueue(QueueContract):
        async def open_queue(self, config: QueueConfig) -> Queue:
            return await my_queue.open(f"my://localhost/{self.name}", config)

Needs pytest; the tests run under pytest-asyncio or under anyio's plugin.
"""

from osmo_transport.testing.contracts.queue_administering import Administering
from osmo_transport.testing.contracts.queue_delivering import Delivering
from osmo_transport.testing.contracts.queue_settling import Settling, Using
from osmo_transport.testing.contracts.queue_storing import Storing


class QueueContract(Storing, Delivering, Settling, Using, Administering):
    """One test for each promise. Override `open_queue`; the other hooks, where they can be given,
    let more tests run: `crash`, `wipe`, `pass_time`."""
