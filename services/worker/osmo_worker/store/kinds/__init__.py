"""The kinds of reports: what row each becomes, and how it joins the one that is there."""

from osmo_worker.store.kinds.nodes import NODES
from osmo_worker.store.kinds.tasks import TASKS
from osmo_worker.store.kinds.usage import USAGE
from osmo_worker.store.merge import Resource

RESOURCES: dict[str, Resource] = {each.kind: each for each in (NODES, TASKS, USAGE)}
"""Those of which the newest report of each key is a row: by kind, in the order in which a batch
writes them, as every worker locks their rows in it."""

EXISTENCE_KINDS: dict[str, Resource] = {
    each.existence_kind: each for each in RESOURCES.values() if each.existence_kind is not None
}
"""By the kind that reports existence alone."""
