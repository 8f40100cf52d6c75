"""The kinds of which the store keeps the newest report of each key as a row."""

from osmo_worker.store.joining import Resource
from osmo_worker.store.nodes import NODES
from osmo_worker.store.tasks import TASKS
from osmo_worker.store.usage import USAGE

RESOURCES: dict[str, Resource] = {each.kind: each for each in (NODES, TASKS, USAGE)}
"""By kind, in the order in which a batch writes them: every worker locks their rows in it."""

EXISTENCE_KINDS: dict[str, Resource] = {
    each.existence_kind: each for each in RESOURCES.values() if each.existence_kind is not None
}
"""By the kind that reports existence alone."""


def has_snapshots(kind: str) -> bool:
    """Whether the end of a snapshot of the kind means anything to the store."""
    return kind in RESOURCES and RESOURCES[kind].has_snapshots
