"""The hostname of each node, as seen by a node informer."""

from collections.abc import Callable, Sequence

from osmo_listener.informer.store import Change
from osmo_listener.listeners.node import HOSTNAME_LABEL, NO_HOSTNAME
from osmo_listener.listeners.objects import Node


class Hostnames:
    """A handler of an informer of nodes.

    Args:
        tell: is told the name of each node whose hostname has become known or another.
    """

    def __init__(self, tell: Callable[[str], None] = lambda _: None) -> None:
        self._tell = tell
        self._known: dict[str, str] = {}

    def get(self, node: str) -> str | None:
        """The hostname of a node by its name; None: it is not known."""
        return self._known.get(node)

    async def changed(self, changes: Sequence[Change[Node]]) -> None:
        """See `informer.Handler`."""
        for change in changes:
            if change.new is None:
                if change.old is not None:
                    self._known.pop(change.old.metadata.name, None)
                continue
            metadata = change.new.metadata
            name, hostname = metadata.name, metadata.labels.get(HOSTNAME_LABEL, NO_HOSTNAME)
            if self._known.get(name) != hostname:
                self._known[name] = hostname
                self._tell(name)

    async def synced(self, resource_version: int, count: int) -> None:
        """See `informer.Handler`."""

    async def regressed(self, resource_version: int) -> None:
        """See `informer.Handler`."""
