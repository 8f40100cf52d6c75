"""What a listener tells in numbers. The names are promises: dashboards stand on them."""

from collections.abc import Callable, Mapping

from osmo_listener.informer import InformerStatus
from osmo_listener.informer.reflector import RELISTS
from osmo_listener.watches import Feed
from osmo_runtime.operations import Figure, Histogram, Kind, Operations, Reading
from osmo_transport import Client, ClientStats

IN_FLIGHT = Figure("osmo_listener_in_flight", Kind.GAUGE, "Reports sent and not yet acknowledged.")
OUTBOX = Figure("osmo_listener_outbox", Kind.GAUGE, "Reports that wait to be sent.")
COALESCED = Figure(
    "osmo_listener_coalesced",
    Kind.COUNTER,
    "Reports that a newer one of the same resource made needless before they were sent.",
)
DROPPED = Figure(
    "osmo_listener_dropped", Kind.COUNTER, "Reports that the bounds of the outbox pushed out."
)
REJECTED = Figure(
    "osmo_listener_rejected", Kind.COUNTER, "Reports that the operator will never store."
)
RESENT = Figure(
    "osmo_listener_resent",
    Kind.COUNTER,
    "Reports that were sent once more, over another connection.",
)
RECONNECTS = Figure(
    "osmo_listener_reconnects",
    Kind.COUNTER,
    "Times that an operator has let this process in, but for the first.",
)
ROUND_TRIP = Figure(
    "osmo_listener_round_trip",
    Kind.HISTOGRAM,
    "Times from sending a batch until it was acknowledged; of those under way at a time, one.",
    (),
    "s",
)
OBJECTS = Figure(
    "osmo_listener_objects", Kind.GAUGE, "Objects that a listener knows.", ("listener",)
)
WATCH_AGE = Figure(
    "osmo_listener_watch_age",
    Kind.GAUGE,
    "Time since the API server was last heard of, by what a listener is told from.",
    ("listener",),
    "s",
)
RELISTED = Figure(
    "osmo_listener_relists",
    Kind.COUNTER,
    "Lists because the position was lost: expired, unreadable, restored (the cluster was, from a"
    " backup), or blind (watches show nothing).",
    ("listener", "reason"),
)
UNREADABLE = Figure(
    "osmo_listener_unreadable",
    Kind.COUNTER,
    "How often an object could not be read, and was left out.",
    ("listener",),
)

FIGURES = (
    *(IN_FLIGHT, OUTBOX, COALESCED, DROPPED, REJECTED, RESENT, RECONNECTS, ROUND_TRIP),
    *(OBJECTS, WATCH_AGE, RELISTED, UNREADABLE),
)
"""All of them."""


def measure(operations: Operations, client: Client, feeds: Mapping[str, Feed]) -> None:
    """Let the figures be told."""
    round_trip = Histogram()
    client.on_round_trip = round_trip.record

    def link(figure: Figure, read: Callable[[ClientStats], int]) -> None:
        operations.measure(figure, lambda: [(read(client.stats), {})])

    def count(read: Callable[[InformerStatus], int]) -> list[Reading]:
        return [
            (sum(read(each.status()) for each in feed.informers), {"listener": name})
            for name, feed in feeds.items()
        ]

    def relists(reason: str) -> list[Reading]:
        return [
            (value, {**attributes, "reason": reason})
            for value, attributes in count(lambda status: status.relists[reason])
        ]

    link(IN_FLIGHT, lambda stats: stats.in_flight)
    link(OUTBOX, lambda stats: stats.waiting)
    link(COALESCED, lambda stats: stats.coalesced)
    link(DROPPED, lambda stats: stats.dropped)
    link(REJECTED, lambda stats: stats.refused)
    link(RESENT, lambda stats: stats.resent)
    link(RECONNECTS, lambda stats: max(0, stats.connects - 1))
    operations.measure(ROUND_TRIP, lambda: [(round_trip, {})])
    operations.measure(
        OBJECTS,
        lambda: [
            (0 if feed.branch is None else len(feed.branch), {"listener": name})
            for name, feed in feeds.items()
        ],
    )
    operations.measure(
        WATCH_AGE, lambda: [(feed.silence, {"listener": name}) for name, feed in feeds.items()]
    )
    operations.measure(RELISTED, lambda: [each for why in RELISTS for each in relists(why)])
    operations.measure(UNREADABLE, lambda: count(lambda status: status.left_out))
