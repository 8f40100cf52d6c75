"""Nodes for tests, as brief as the rules, and how to read what is reported of them."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from msgspec.structs import astuple

from osmo_listener.listeners import NodeConfig, NodeListener
from osmo_listener.listeners.objects import (
    Node,
    NodeCondition,
    NodeMetadata,
    NodeSpec,
    NodeStatus,
    NodeTaint,
    Quantity,
)
from osmo_reports.bodies import NodeInventory, UpdateNode, decode_body
from osmo_transport.message import Message
from tests.listener_rules.harness import T0

EPOCH = 7
TTL = 900.0
READY = {"Ready": "True"}


def make_node(
    name: str = "n1",
    *,
    uid: str = "",
    rv: int = 1,
    labels: Mapping[str, str] | None = None,
    taints: tuple[NodeTaint, ...] = (),
    unschedulable: bool = False,
    allocatable: Mapping[str, Quantity] | None = None,
    conditions: Mapping[str, str] = READY,
) -> Node:
    """A node that is ready; `uid` and the hostname label default to what belongs to its name."""
    return Node(
        metadata=NodeMetadata(
            name=name,
            uid=uid or f"uid-{name}",
            resource_version=str(rv),
            labels=dict({"kubernetes.io/hostname": f"host-{name}"} if labels is None else labels),
        ),
        spec=NodeSpec(unschedulable=unschedulable, taints=taints),
        status=NodeStatus(
            allocatable=dict(allocatable or {}),
            conditions=tuple(NodeCondition(*each) for each in conditions.items()),
        ),
    )


class Sent(NamedTuple):
    """A message, as far as most tests look at it."""

    key: str
    version: tuple[int, int]
    available: bool = True
    deleted: bool = False


class Listed(NamedTuple):
    """An inventory."""

    version: tuple[int, int]
    nodes: tuple[str, ...]


def sent(messages: Iterable[Message]) -> list[Sent | Listed]:
    """The messages, in order."""
    found: list[Sent | Listed] = []
    for message in messages:
        body = decode_body(message.kind, message.payload)
        if isinstance(body, NodeInventory):
            assert (message.kind, message.key) == ("node_inventory", "nodes")
            found.append(Listed(astuple(message.version), body.nodes))
        else:
            assert message.kind == "update_node"
            found.append(Sent(message.key, astuple(message.version), body.available, body.deleted))
    return found


def make_listener(*, resend_after: float = TTL, draw: float = 0.0) -> NodeListener:
    """A listener in epoch 7, for which every draw is the same."""
    listener = NodeListener(NodeConfig(resend_after=resend_after), draw=lambda: draw)
    listener.restart(EPOCH)
    return listener


def see(listener: NodeListener, node: Node, now: float = T0) -> list[Sent | Listed]:
    """Let the listener see `node` as added or modified."""
    return sent(listener.on_change(None, node, int(node.metadata.resource_version), now))


def gone(listener: NodeListener, node: Node, rv: int, now: float = T0) -> list[Sent | Listed]:
    """Let the listener see that `node` is gone."""
    return sent(listener.on_change(node, None, rv, now))


class Rows:
    """What a store shows after messages in any order."""

    def __init__(self) -> None:
        self.newest: dict[str, Message] = {}
        self.inventory: Message | None = None

    def apply(self, message: Message) -> None:
        if message.kind == "node_inventory":
            if self.inventory is None or message.supersedes(self.inventory):
                self.inventory = message
            return
        row = self.newest.get(message.key)
        if row is None or message.supersedes(row):
            self.newest[message.key] = message

    def live(self) -> dict[str, UpdateNode]:
        """The nodes that users see."""
        listed: NodeInventory | None = None
        if self.inventory is not None:
            listed = decode_body("node_inventory", self.inventory.payload)
        rows = {}
        for name, message in self.newest.items():
            body: UpdateNode = decode_body("update_node", message.payload)
            if self.inventory is not None and listed is not None:
                older = astuple(message.version) <= astuple(self.inventory.version)
                # A store may take either for the truth, so they may not contradict each other.
                assert not (older and body.deleted and name in listed.nodes)
                if older and name not in listed.nodes:
                    continue
            if not body.deleted:
                rows[name] = body
        return rows
