"""The node listener: where a backend's tasks can run.

A node is reported when anything that the body holds has changed. Whether it is available follows
from its conditions by the backend's rules (`osmo_reports.conditions`), so new rules are a change
too: every node is judged anew at once.

- Messages are keyed by the node's name. The hostname label is what users see; several nodes may
  lack it, or share it.
- An unchanged node is sent again some time after its last report, by the clock and not by a resync:
  a second chance against whatever went wrong further on. The time is drawn for each report, so that
  nodes that were first seen in one list do not come back in one moment.
- A deletion reports the last state once more, marked `deleted`.
- An inventory of all names closes each snapshot and follows each further list. A store that has
  missed a deletion learns of it there. One that is too large for a message goes in parts.
- A report that says something new has a higher version than the one before, and than every
  inventory before: where the resource version does not rise by itself, as after new rules, it is
  raised. So an inventory is newer than every report that it takes into account, and older than
  every one that it does not.
"""

import logging
import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from math import ceil

import msgspec

from osmo_listener.kubernetes.quantity import parse_quantity
from osmo_listener.listeners.deadlines import Deadlines
from osmo_listener.listeners.fitting import Encoder
from osmo_listener.listeners.objects import Node, Quantity
from osmo_reports.bodies import NodeInventory, NodeInventoryPart, Taint, UpdateNode
from osmo_reports.conditions import DEFAULT_RULES, ConditionRules
from osmo_reports.fitting import MAX_INVENTORY, inventory_parts
from osmo_transport import Refusal
from osmo_transport.bounds import SecondsOrZero
from osmo_transport.lean import dataclass
from osmo_transport.message import Message, Version, new_id

logger = logging.getLogger(__name__)

KIND = "update_node"
INVENTORY_KIND = "node_inventory"
PART_KIND = "node_inventory_part"
HOSTNAME_LABEL = "kubernetes.io/hostname"
NO_HOSTNAME = "-"
_CONVERTED = frozenset({"cpu", "memory", "ephemeral-storage"})
RESEND_SPREAD = 0.2
"""Share of `NodeConfig.resend_after` by which a report is sent again later, at most."""
_LABEL_PREFIX = re.compile(
    r"(?=.{1,253}/)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/"
    r"([A-Za-z0-9][-A-Za-z0-9_.]{0,54})?"
)
"""By the rules of Kubernetes for the names of labels, so that `verified` can follow."""
VERDICTS = 4096
"""Different sets of conditions whose verdict is remembered: nodes of one kind share theirs."""


@dataclass(frozen=True, kw_only=True)
class NodeConfig:
    """How nodes are reported."""

    resend_after: SecondsOrZero = 15 * 60.0
    """Seconds after which an unchanged node is sent again, and up to a fifth more. 0: never."""
    label: bool = False
    """Whether each node gets a label that says if it is available. Needs the right to patch nodes.
    """
    label_prefix: str = "osmo.nvidia.com/"
    """What comes before `verified` in the name of that label: a domain and a slash, and more if
    wanted."""

    def __post_init__(self) -> None:
        if not _LABEL_PREFIX.fullmatch(self.label_prefix):
            raise ValueError(
                f"label_prefix {self.label_prefix!r} does not begin a label's name: use a domain in"
                " lower case and a slash, as osmo.nvidia.com/"
            )


class _Known(msgspec.Struct):
    node: Node
    floor: int
    """The version of the last report or inventory that covers this node in the current epoch."""
    body: UpdateNode | None = None
    """What was last sent in the current epoch; None: nothing yet."""


class NodeListener:
    """Implements `Listener[Node]`; the module says what it reports.

    Nodes have a uid, and a resource version that is a number (else ValueError).

    Args:
        config: how.
        draw: a source of numbers in [0, 1).
        on_verdict: told at each evaluation of a node whether it is available.
        on_gone: told the name of each node that is gone.

    Raises:
        MissingExtraError: RE2 is not installed.
    """

    def __init__(
        self,
        config: NodeConfig = NodeConfig(),
        *,
        draw: Callable[[], float] = random.random,
        on_verdict: Callable[[Node, bool], None] = lambda _node, _available: None,
        on_gone: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self._config = config
        self._draw = draw
        self._on_verdict = on_verdict
        self._on_gone = on_gone
        self._epoch = 0
        self._nodes: dict[str, _Known] = {}
        self._deadlines: Deadlines[str] = Deadlines()
        self._highest = 0
        """The highest version reported in the current epoch."""
        self._floor = 0
        """The version that the first report of an unknown node has to exceed: that of the last
        inventory, or of a deletion, which may have been of a node of the same name."""
        self._warned: set[str] = set()
        """Resources of which a bad field was logged; bounded by `_CONVERTED`."""
        self.bad_fields = 0
        """Allocatable fields that were left out, because they are no quantity; each counts once
        for each value that it takes."""
        self._encoder = Encoder()
        self._most = MAX_INVENTORY
        """Bytes of an inventory that is one message."""
        self._use(DEFAULT_RULES)

    @property
    def cut(self) -> int:
        """How often a report was cut, because it would be too large. Inventories never are."""
        return self._encoder.cut

    def restart(self, epoch: int) -> None:
        """See `Listener.restart`."""
        self._epoch = epoch
        self._deadlines = Deadlines()
        self._highest = self._floor = 0
        for known in self._nodes.values():
            known.floor, known.body = 0, None

    def on_change(
        self, old: Node | None, new: Node | None, resource_version: int, now: float
    ) -> list[Message]:
        """See `Listener.on_change`."""
        if new is not None:
            message = self._report(self._place(new), now)
        elif old is not None:
            message = self._remove(old, resource_version, now)
        else:
            message = None
        return [] if message is None else [message]

    def next_deadline(self) -> float | None:
        """See `Listener.next_deadline`."""
        return self._deadlines.next()

    def due(self, now: float) -> list[Message]:
        """See `Listener.due`."""
        due = [self._nodes[name] for name in self._deadlines.take_due(now)]
        return [self._send(known, known.body, now) for known in due if known.body is not None]

    def snapshot(
        self, objects: Iterable[Node], resource_version: int, now: float
    ) -> Iterator[Message]:
        """See `Listener.snapshot`; an inventory takes the place of `snapshot_end`."""
        live = {node.metadata.name: node for node in objects}
        gone = [known.node for name, known in self._nodes.items() if name not in live]
        removals = [self._remove(node, resource_version, now) for node in gone]
        for node in live.values():
            self._place(node)
        told = [message for message in removals if message is not None]
        return self._snapshot(self._epoch, told, resource_version, now)

    def listed(
        self, objects: Iterable[Node], resource_version: int, now: float
    ) -> Iterator[Message]:
        """See `Listener.listed`: an inventory."""
        return self.snapshot(objects, resource_version, now)

    def refused(self, refusal: Refusal, now: float) -> list[Message]:
        """What to say in the place of an inventory that is too large for the link: what there is
        now, in parts, as from now on each."""
        if refusal.kind != INVENTORY_KIND or refusal.version.epoch != self._epoch:
            return []
        self._most = 0
        return self._inventory(self._highest, now)

    def set_rules(self, rules: Mapping[str, str], now: float) -> list[Message]:
        """Judge every node by these rules from now on: type pattern to status pattern.

        Returns the reports of the nodes whose availability changed. A rule that cannot be used is
        left out with a warning; rules that are the same as before change nothing.
        """
        if dict(rules) == self._rules:
            return []
        self._use(rules)
        messages = []
        for known in self._nodes.values():
            before = known.body
            if before is None:
                continue
            available = self._judge(known.node)
            if available != before.available:
                body = msgspec.structs.replace(before, available=available)
                messages.append(self._send(known, body, now))
        return messages

    def _use(self, rules: Mapping[str, str]) -> None:
        compiled, problems = ConditionRules.compile(rules)
        for problem in problems:
            logger.warning("left out of the rules for nodes: %s", problem)
        self._rules = dict(rules)
        self._allow = lru_cache(maxsize=VERDICTS)(compiled.allow)

    def _available(self, node: Node) -> bool:
        conditions = tuple([(each.type, each.status) for each in node.status.conditions])
        return self._allow(conditions) and not node.spec.unschedulable

    def _judge(self, node: Node) -> bool:
        available = self._available(node)
        self._on_verdict(node, available)
        return available

    def _snapshot(
        self, epoch: int, removals: list[Message], resource_version: int, now: float
    ) -> Iterator[Message]:
        yield from removals
        for name, known in list(self._nodes.items()):
            if self._epoch != epoch:
                return
            if known.body is None and self._nodes.get(name) is known:
                yield self._send(known, _body(known.node, self._judge(known.node)), now)
        if self._epoch != epoch:
            return
        for message in self._inventory(resource_version, now):
            if self._epoch != epoch:
                return
            yield message

    def _inventory(self, resource_version: int, now: float) -> list[Message]:
        version = max(resource_version, self._highest)
        self._highest = self._floor = version
        for known in self._nodes.values():
            known.floor = version
        names = tuple(sorted(self._nodes))
        hostnames = tuple([_hostname(self._nodes[name].node) for name in names])
        body = NodeInventory(names, hostnames if hostnames != names else ())
        whole = self._message(INVENTORY_KIND, NodeInventory.KEY, version, body, now)
        if len(whole.payload) <= self._most:
            return [whole]
        return [
            self._message(PART_KIND, part.key(part.part), version, part, now)
            for part in inventory_parts(names)
        ]

    def _place(self, node: Node) -> _Known:
        name = node.metadata.name
        known = self._nodes.get(name)
        if known is None:
            self._note_bad_fields(node, {})
            known = self._nodes[name] = _Known(node, self._floor)
        else:
            self._note_bad_fields(node, known.node.status.allocatable)
            known.node = node
        return known

    def _note_bad_fields(self, node: Node, before: Mapping[str, Quantity]) -> None:
        for resource, quantity in node.status.allocatable.items():
            if before.get(resource) == quantity or _shown(resource, quantity) is not None:
                continue
            self.bad_fields += 1
            if resource not in self._warned:
                self._warned.add(resource)
                logger.warning(
                    "the allocatable %s of node %s is left out, and more like it are only counted:"
                    " %.100r is no quantity",
                    resource,
                    node.metadata.name,
                    quantity,
                )

    def _remove(self, last: Node, resource_version: int, now: float) -> Message | None:
        name = last.metadata.name
        known = self._nodes.get(name)
        if known is None or known.node.metadata.uid != last.metadata.uid:
            return None
        del self._nodes[name]
        self._deadlines.set(name, None)
        self._on_gone(name)
        version = max(resource_version, known.floor + 1)
        self._floor = max(self._floor, version)
        body = _body(last, self._available(last), deleted=True)
        return self._message(KIND, name, version, body, now)

    def _report(self, known: _Known, now: float) -> Message | None:
        body = _body(known.node, self._judge(known.node))
        return None if body == known.body else self._send(known, body, now)

    def _send(self, known: _Known, body: UpdateNode, now: float) -> Message:
        news = body != known.body
        known.body = body
        known.floor = max(int(known.node.metadata.resource_version), known.floor + news)
        if self._config.resend_after > 0:
            after = self._config.resend_after * (1 + RESEND_SPREAD * self._draw())
            self._deadlines.set(body.node, now + after)
        return self._message(KIND, body.node, known.floor, body, now)

    def _message(
        self,
        kind: str,
        key: str,
        version: int,
        body: UpdateNode | NodeInventory | NodeInventoryPart,
        now: float,
    ) -> Message:
        self._highest = max(self._highest, version)
        payload = self._encoder.encode(key, body)
        return Message(kind, key, Version(self._epoch, version), new_id(), now, payload)


def _body(node: Node, available: bool, *, deleted: bool = False) -> UpdateNode:
    metadata, spec, status = node.metadata, node.spec, node.status
    shown = [(resource, _shown(resource, each)) for resource, each in status.allocatable.items()]
    return UpdateNode(
        node=metadata.name,
        hostname=_hostname(node),
        available=available,
        conditions=tuple([each.type for each in status.conditions if each.status == "True"]),
        allocatable={resource: text for resource, text in shown if text is not None},
        labels=metadata.labels,
        taints=tuple(
            [
                Taint(each.key, each.value, each.effect, each.time_added or "")
                for each in spec.taints
            ]
        ),
        deleted=deleted,
    )


def _hostname(node: Node) -> str:
    return node.metadata.labels.get(HOSTNAME_LABEL, NO_HOSTNAME)


def _shown(resource: str, quantity: Quantity) -> str | None:
    """An allocatable quantity as it is reported; None: it should be one, and is none."""
    text = str(quantity)
    if resource not in _CONVERTED:
        return text
    try:
        number = parse_quantity(text)
    except ValueError:
        return None
    if resource == "cpu":
        return str(ceil(number * 1000) // 1000)
    return f"{ceil(number / 1024)}Ki"
