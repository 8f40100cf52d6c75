"""What a worker counts and measures, readable at any moment."""

from collections import Counter

from osmo_runtime.operations import Histogram
from osmo_transport import Consumer
from osmo_transport.kinds import UNKNOWN, kind_of

MOST_KINDS = 100
"""Kinds that are told apart beside those that are registered. A peer may name as many as it
likes."""

OTHER = "other"
"""Stands for all kinds beyond those."""


class KindMetrics:
    """The ledger of one kind."""

    def __init__(self) -> None:
        self.handled = 0
        """See `WorkerMetrics`, as of the next three."""
        self.compacted = 0
        self.retried = 0
        self.rejected = 0
        self.processing_time = Histogram()
        """From a message's creation at the listener until it was acknowledged to the queue."""


class WorkerMetrics:
    """The ledger of one worker: `received` is the sum of `handled`, `compacted`, `retried`,
    `rejected` and what is in hand."""

    def __init__(self) -> None:
        self.received = 0
        """Deliveries taken from the queue."""
        self.in_hand = 0
        """Of these, those that are not settled yet."""
        self._unregistered = 0
        self.kinds: dict[str, KindMetrics] = {}
        """By kind, what became of the deliveries."""
        self.stale = 0
        """Of the handled, those that the store skipped because it holds a newer version."""
        self.rows: Counter[tuple[str, str]] = Counter()
        """By table and outcome, rows that reports made: `written`, or `unchanged`."""
        self.write_time = Histogram()
        """Of batches that the store applied, in seconds."""
        self.end_to_end = Histogram()
        """From the change in the cluster to the row, in seconds; see `store.lag`."""
        self.silences: dict[str, float] | None = None
        """By backend, seconds since its last heartbeat, as of the last housekeeping; None: not
        known, or it says nothing, because reports wait."""
        self.holding: str | None = None
        """Why the worker waits instead of handling (the queue or the store is away), or None."""
        self.consumer: Consumer | None = None
        """Whose deliveries they are; set by the worker."""

    def of(self, kind: str) -> KindMetrics:
        """The ledger of a kind."""
        found = self.kinds.get(kind)
        if found is None:
            if kind_of(kind) is UNKNOWN:
                if self._unregistered < MOST_KINDS:
                    self._unregistered += 1
                else:
                    kind = OTHER
            found = self.kinds.setdefault(kind, KindMetrics())
        return found

    @property
    def handled(self) -> int:
        """Deliveries that a handler acknowledged."""
        return sum(kind.handled for kind in self.kinds.values())

    @property
    def compacted(self) -> int:
        """Deliveries acknowledged without being handled, because a newer one of the key was."""
        return sum(kind.compacted for kind in self.kinds.values())

    @property
    def retried(self) -> int:
        """Deliveries given back for a later try."""
        return sum(kind.retried for kind in self.kinds.values())

    @property
    def rejected(self) -> int:
        """Deliveries that became dead letters because they cannot be handled, ever."""
        return sum(kind.rejected for kind in self.kinds.values())

    @property
    def processing_time(self) -> Histogram:
        """`KindMetrics.processing_time` of all kinds."""
        return Histogram.sum_of(kind.processing_time for kind in self.kinds.values())

    @property
    def buried(self) -> int:
        """Dead letters that the worker's consumer made: of deliveries that were rejected or failed
        at their last attempt, and of entries that it found unreadable or given up by others."""
        return 0 if self.consumer is None else self.consumer.buried
