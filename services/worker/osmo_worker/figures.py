"""What a worker tells in numbers. The names are promises: dashboards stand on them."""

from osmo_runtime.operations import Figure, Kind, Operations, Reading
from osmo_worker.metrics import WorkerMetrics

PROCESSING_TIME = Figure(
    "osmo_backend_event_processing_time",
    Kind.HISTOGRAM,
    "Times from a report's creation at the listener until it was acknowledged to the queue.",
    ("kind",),
    "s",
)
END_TO_END = Figure(
    "osmo_pipeline_end_to_end",
    Kind.HISTOGRAM,
    "Times from a change in the cluster, by the object's own time where it has one, to the row.",
    (),
    "s",
)
COUNT = Figure(
    "osmo_backend_event_count",
    Kind.COUNTER,
    "Reports by what became of them: handled, given back for a retry, or rejected as dead letters.",
    ("kind", "outcome"),
)
SUPERSEDED = Figure(
    "osmo_backend_event_superseded",
    Kind.COUNTER,
    "Reports that were not handled, because a newer one of the same resource was.",
    ("kind",),
)
BURIED = Figure(
    "osmo_worker_buried",
    Kind.COUNTER,
    "Dead letters that were made: of reports that were rejected, or given up after their last try.",
)
IN_HAND = Figure("osmo_worker_in_hand", Kind.GAUGE, "Reports on lease that are not settled yet.")
HOLDING = Figure(
    "osmo_worker_holding",
    Kind.GAUGE,
    "1 while the worker waits because the queue or the store is away, else 0.",
)
STORE_WRITE = Figure(
    "osmo_store_write", Kind.HISTOGRAM, "Times in which the store applied a batch.", (), "s"
)
STORE_ROWS = Figure(
    "osmo_store_rows",
    Kind.COUNTER,
    "Rows that reports made: written, or unchanged where the store knew as new ones or newer.",
    ("table", "outcome"),
)
SILENT = Figure(
    "osmo_backends_silent",
    Kind.GAUGE,
    "Backends without a heartbeat for longer than store_limits.silent_after.",
)
HEARTBEAT_AGE = Figure(
    "osmo_backend_last_heartbeat_age",
    Kind.GAUGE,
    "Time since the last heartbeat of a backend, as of the last housekeeping.",
    ("backend",),
    "s",
)

FIGURES = (
    *(PROCESSING_TIME, END_TO_END, COUNT, SUPERSEDED, BURIED, IN_HAND, HOLDING),
    *(STORE_WRITE, STORE_ROWS, SILENT, HEARTBEAT_AGE),
)
"""All of them."""


def measure(operations: Operations, metrics: WorkerMetrics) -> None:
    """Let the figures be told that every worker has."""

    def counts() -> list[Reading]:
        return [
            (getattr(ledger, outcome), {"kind": kind, "outcome": outcome})
            for kind, ledger in metrics.kinds.items()
            for outcome in ("handled", "retried", "rejected")
        ]

    operations.measure(
        PROCESSING_TIME,
        lambda: [(each.processing_time, {"kind": kind}) for kind, each in metrics.kinds.items()],
    )
    operations.measure(COUNT, counts)
    operations.measure(
        SUPERSEDED,
        lambda: [(each.compacted, {"kind": kind}) for kind, each in metrics.kinds.items()],
    )
    operations.measure(BURIED, lambda: [(metrics.buried, {})])
    operations.measure(IN_HAND, lambda: [(metrics.in_hand, {})])
    operations.measure(HOLDING, lambda: [(int(metrics.holding is not None), {})])


def measure_store(operations: Operations, metrics: WorkerMetrics, silent_after: float) -> None:
    """Let the figures be told of a worker that has the state store. Those of the backends are told
    by workers, because the store knows every backend, also one that reports to no operator; they
    are missing while reports wait, because then they would say that all are silent."""

    def rows() -> list[Reading]:
        # The database's thread may add one meanwhile.
        found = dict(metrics.rows)
        return [(n, {"table": table, "outcome": out}) for (table, out), n in found.items()]

    def silent() -> list[Reading]:
        if (silences := metrics.silences) is None:
            return []
        return [(sum(age > silent_after for age in silences.values()), {})]

    operations.measure(END_TO_END, lambda: [(metrics.end_to_end, {})])
    operations.measure(STORE_WRITE, lambda: [(metrics.write_time, {})])
    operations.measure(STORE_ROWS, rows)
    operations.measure(SILENT, silent)
    operations.measure(
        HEARTBEAT_AGE,
        lambda: [(age, {"backend": name}) for name, age in (metrics.silences or {}).items()],
    )
