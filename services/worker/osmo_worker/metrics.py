"""What a worker counts and measures, readable at any moment."""

from osmo_runtime.operations.figures import Histogram
from osmo_transport import Consumer


class WorkerMetrics:
    """The ledger of one worker: `received` is the sum of `handled`, `compacted`, `retried`,
    `rejected` and what is in hand."""

    def __init__(self) -> None:
        self.received = 0
        """Deliveries taken from the queue."""
        self.handled = 0
        """Deliveries that a handler acknowledged."""
        self.compacted = 0
        """Deliveries acknowledged without being handled, because a newer one of the key was."""
        self.stale = 0
        """Of the handled, those that the store skipped because it holds a newer version."""
        self.retried = 0
        """Deliveries given back for a later try."""
        self.rejected = 0
        """Deliveries that became dead letters because they cannot be handled, ever."""
        self.holding: str | None = None
        """Why the worker waits instead of handling (the queue or the store is away), or None."""
        self.processing_time = Histogram()
        """From a message's creation at the listener until it was acknowledged to the queue."""
        self.consumer: Consumer | None = None
        """Whose deliveries they are; set by the worker."""

    @property
    def buried(self) -> int:
        """Dead letters that the worker's consumer made: of deliveries that were rejected or failed
        at their last attempt, and of entries that it found unreadable or given up by others."""
        return 0 if self.consumer is None else self.consumer.buried
