"""What an operator tells in numbers. The names are promises: dashboards stand on them."""

from collections.abc import Iterator, Mapping

from osmo_operator.relay import Relay
from osmo_runtime.operations import Figure, Inquiry, Kind, Operations, Reading
from osmo_transport import QueueStatus, Server

DEPTH = Figure(
    "osmo_queue_depth", Kind.GAUGE, "Entries that no worker has been given yet.", ("stream",)
)
PENDING = Figure(
    "osmo_queue_pending",
    Kind.GAUGE,
    "Entries on lease to workers, or waiting for their next try.",
    ("stream",),
)
OLDEST = Figure(
    "osmo_queue_oldest",
    Kind.GAUGE,
    "Time since the oldest entry was added, on lease or not; 0 where there is none.",
    ("stream",),
    "s",
)
CONSUMERS = Figure(
    "osmo_queue_consumers", Kind.GAUGE, "Consumers that were heard of within a lease."
)
DEAD = Figure("osmo_queue_dead", Kind.GAUGE, "Dead letters that are held.")
APPENDED = Figure(
    "osmo_operator_appended", Kind.COUNTER, "Messages stored and acknowledged.", ("stream",)
)
APPEND = Figure(
    "osmo_operator_append",
    Kind.HISTOGRAM,
    "Times from the beginning of an append until the queue has answered it.",
    (),
    "s",
)
CONNECTIONS = Figure(
    "osmo_operator_connections",
    Kind.GAUGE,
    "Listeners that are connected, by the scheme of the URL at which they came.",
    ("transport",),
)
REFUSED = Figure(
    "osmo_operator_refused",
    Kind.COUNTER,
    "What was not taken: clients that broke the protocol, must not come back (refused), whose"
    " credential does not let them report (denied) or is over (expired), or who were asked to come"
    " later (unavailable), and single messages.",
    ("reason",),
)
FENCED = Figure(
    "osmo_operator_fenced", Kind.COUNTER, "Listeners that were told that a newer one took over."
)
RESYNC = Figure(
    "osmo_operator_resync",
    Kind.COUNTER,
    "Listeners that were asked for a full snapshot, because the queue lost its memory.",
)
SLOWED = Figure(
    "osmo_operator_slowed",
    Kind.COUNTER,
    "Time for which connections of a backend were not read because it had sent more than its quota;"
    " of each connection. Of 1 000 backends, and of all further ones as (others).",
    ("backend",),
    "s",
)

FIGURES = (
    *(DEPTH, OLDEST, PENDING, DEAD, CONSUMERS),
    *(APPENDED, APPEND, CONNECTIONS, REFUSED, FENCED, RESYNC, SLOWED),
)
"""All of them."""


def measure(
    operations: Operations, server: Server, relay: Relay, queue: Inquiry[QueueStatus]
) -> None:
    """Let the figures be told. Those of the queue are as old as its last answer, and missing while
    there is none."""

    def of_queue() -> Iterator[QueueStatus]:
        if (status := queue.answer) is not None:
            yield status

    def by(attribute: str, values: Mapping[str, float]) -> list[Reading]:
        return [(value, {attribute: name}) for name, value in values.items()]

    operations.measure(DEPTH, lambda: [r for s in of_queue() for r in by("stream", s.waiting)])
    operations.measure(PENDING, lambda: [r for s in of_queue() for r in by("stream", s.pending)])
    operations.measure(OLDEST, lambda: [r for s in of_queue() for r in by("stream", s.oldest)])
    operations.measure(CONSUMERS, lambda: [(s.consumers, {}) for s in of_queue()])
    operations.measure(DEAD, lambda: [(s.dead, {}) for s in of_queue()])
    operations.measure(APPENDED, lambda: by("stream", relay.stored))
    operations.measure(APPEND, lambda: [(relay.append_time, {})])
    operations.measure(CONNECTIONS, lambda: by("transport", server.stats.connections))
    operations.measure(REFUSED, lambda: by("reason", server.stats.refused))
    operations.measure(FENCED, lambda: [(server.stats.fenced, {})])
    operations.measure(RESYNC, lambda: [(server.stats.resynced, {})])
    operations.measure(SLOWED, lambda: by("backend", server.stats.slowed))
