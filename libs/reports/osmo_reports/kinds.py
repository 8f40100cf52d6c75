"""The kinds of reports, and the streams that carry them, as `osmo_transport` has to know them.

Pods come first, because a user waits for his task to run; usage last, because nobody waits for it.

An entry point in the group `osmo_reports.kinds` leads to a module that registers kinds of its own
when it is imported; every program that puts reports into a queue, or takes them out, imports it.
"""

from osmo_transport.kinds import Policy, register_kind, register_stream
from osmo_transport.registry import Group, named, schemes

MODULES = Group("osmo_reports.kinds")


class Stream:
    """The classes of kinds, each a stream of its own in the queue."""

    PODS = "pods"
    NODES = "nodes"
    USAGE = "usage"
    EVENTS = "events"


WEIGHTS = {Stream.PODS: 8, Stream.NODES: 4, Stream.EVENTS: 2, Stream.USAGE: 1}
"""Each stream's share of a worker's reads while all of them hold entries."""

KINDS = {
    "update_pod": (Policy.LATEST, Stream.PODS),
    "pod_exists": (Policy.LATEST, Stream.PODS),
    "snapshot_end": (Policy.LATEST, Stream.PODS),
    # The newest in the place of one that waits would overtake the reports of pods between the two.
    "pods_current": (Policy.EVERY, Stream.PODS),
    "update_node": (Policy.LATEST, Stream.NODES),
    "node_inventory": (Policy.LATEST, Stream.NODES),
    "node_inventory_part": (Policy.LATEST, Stream.NODES),
    "heartbeat": (Policy.LATEST, Stream.NODES),
    "update_node_usage": (Policy.LATEST, Stream.USAGE),
    "pod_event": (Policy.EVERY, Stream.EVENTS),
    "logging": (Policy.EVERY, Stream.EVENTS),
}


def load_kinds() -> None:
    """Let the kinds of all that is installed be registered.

    Raises:
        UsageError: two packages do not agree, or one of them cannot be imported.
    """
    for name in schemes(MODULES):
        named(MODULES, name)


for _stream, _weight in WEIGHTS.items():
    register_stream(_stream, _weight)
for _kind, (_policy, _stream) in KINDS.items():
    register_kind(_kind, _policy, _stream)
