"""Whether a listener is ready, and whether it lives."""

from collections.abc import Callable, Mapping

from osmo_listener.watches import Feed
from osmo_runtime.operations import Check, Work
from osmo_transport import Client

FINDING_OUT = 15.0
"""Seconds beyond `ListWatchConfig.silence` until a listener that hears nothing counts as blind: the
time to ask the API server where it stands."""


def operator_check(client: Client) -> Check:
    """Whether an operator has let this process in, or lets it stand by."""
    stats = client.stats
    if stats.stands_by and (holder := client.holder) is not None:
        reason = f"stands by: {holder.instance} at {holder.address} reports"
        return Check(ok=True, reason=reason, age=stats.silence)
    if stats.connected:
        return Check(ok=True, age=stats.silence)
    return Check(ok=False, reason="no operator has let this process in")


def feed_check(feed: Feed, deadline: float) -> Check:
    """Whether a listener knows all objects, and what it is told from has heard of the API server
    within `deadline` seconds. Where nothing happens, that the server says where it stands is such a
    sign too."""
    age = feed.silence
    found = [informer.status() for informer in feed.informers]
    failure = next((f": {status.last_failure}" for status in found if status.last_failure), "")
    if not all(status.synced for status in found):
        return Check(ok=False, reason=f"does not know all objects yet{failure}", age=age)
    if age > deadline:
        reason = f"has not heard of the API server for {age:.0f} s{failure}"
        return Check(ok=False, reason=reason, age=age)
    return Check(ok=True, age=age)


def sending_work(client: Client) -> Callable[[], Work]:
    """How far the sending has come: while nothing is in flight, what waits has to leave."""

    def work() -> Work:
        stats = client.stats
        waits = stats.connected and stats.waiting > 0 and stats.in_flight == 0
        return Work(waits=waits, done=stats.acknowledged + stats.resent)

    return work


def reporting_work(client: Client, feeds: Mapping[str, Feed]) -> Callable[[], Work]:
    """How far the reporting has come. It waits for an operator with the very first change, and
    while the outbox is full; else whoever is told a change has to return."""

    def work() -> Work:
        stats = client.stats
        told = [each.status() for feed in feeds.values() for each in feed.informers]
        waits_for_others = stats.full or (stats.epoch == 0 and not stats.stands_by)
        waits = any(status.telling for status in told) and not waits_for_others
        return Work(waits=waits, done=sum(status.told for status in told))

    return work
