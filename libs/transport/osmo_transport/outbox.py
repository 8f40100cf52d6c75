"""What waits to be sent.

A newer report of a `latest` kind takes the place of the older one of its key, so that the outbox
holds one entry for each live resource however long the operator is away; or two, where a report
that is not final follows a final one, as of a pod that was created again. Reports of `every` kinds
are all kept, up to a bound; beyond it the oldest of them is dropped and counted.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass

from osmo_transport.bounds import Bytes, Count
from osmo_transport.message import FIXED_SIZE, Message, Policy, kind_of


@dataclass(frozen=True, kw_only=True)
class OutboxConfig:
    """Bounds of an outbox."""

    max_entries: Count = 500_000
    """Entries of all kinds at which `send` waits: several times the live resources of the largest
    clusters (100 000 pods, 15 000 nodes), so that it is met only by a mistake."""
    max_bytes: Bytes = 512 * 1024 * 1024
    """Bytes at which `send` waits."""
    max_every_entries: Count = 50_000
    """Entries of `every` kinds beyond which the oldest of them is dropped: hours of a cluster's
    events."""
    max_every_bytes: Bytes = 64 * 1024 * 1024
    """Bytes of `every` kinds beyond which the oldest of them is dropped."""


_Key = tuple[str, str] | int

_LATEST = Policy.LATEST
"""Python 3.11 takes four times as long to look up a member of an enumeration as a global name, and
here it is done for each message."""


class Outbox:
    """An ordered queue that coalesces; see the module. Not bound to any connection."""

    def __init__(self, config: OutboxConfig) -> None:
        self._config = config
        self._entries: OrderedDict[_Key, Message] = OrderedDict()
        self._behind: dict[_Key, Message] = {}
        """What goes right behind a final entry of its key: newer, and not final."""
        self._every: deque[int] = deque()
        self._next_every = 0
        self._every_bytes = 0
        self.bytes = 0
        """Bytes of all entries."""
        self.coalesced = 0
        """Reports that another one of their key made needless."""
        self.dropped = 0
        """Reports of `every` kinds that the bounds pushed out."""

    def __len__(self) -> int:
        return len(self._entries) + len(self._behind)

    @property
    def full(self) -> bool:
        """Whether a bound at which `send` waits is reached."""
        entries = len(self._entries) + len(self._behind)
        return entries >= self._config.max_entries or self.bytes >= self._config.max_bytes

    def put(self, message: Message) -> int:
        """Add a report; returns how many reports left without being sent (coalesced or dropped)."""
        if kind_of(message.kind).policy is _LATEST:
            key: _Key = (message.kind, message.key)
            older = self._entries.get(key)
            if older is not None:
                return self._coalesce(key, older, message)
            self._entries[key] = message
            self.bytes += FIXED_SIZE + len(message.key) + len(message.payload)
            return 0
        size = message.size
        self._entries[self._next_every] = message
        self._every.append(self._next_every)
        self._next_every += 1
        self.bytes += size
        self._every_bytes += size
        return self._drop_oldest()

    def _coalesce(self, key: _Key, first: Message, message: Message) -> int:
        """Keep of the reports about one resource those that no other replaces; `first` is the one
        in the queue. Returns how many went."""
        behind = self._behind.pop(key, None)
        held = [first] if behind is None else [first, behind]
        kept = [m for m in held if not message.supersedes(m)]
        if not any(m.supersedes(message) for m in kept):
            kept.append(message)
        if len(kept) == 2:
            kept.sort(key=_not_final)
            self._behind[key] = kept[1]
        self._entries[key] = kept[0]
        gone = len(held) + 1 - len(kept)
        self.bytes += sum(m.size for m in kept) - sum(m.size for m in held)
        self.coalesced += gone
        return gone

    def _drop_oldest(self) -> int:
        dropped = 0
        while len(self._every) > 1 and (
            len(self._every) > self._config.max_every_entries
            or self._every_bytes > self._config.max_every_bytes
        ):
            size = self._entries.pop(self._every.popleft()).size
            self.bytes -= size
            self._every_bytes -= size
            dropped += 1
        self.dropped += dropped
        return dropped

    def take(self, count: int, room: int) -> tuple[list[Message], int]:
        """Take the oldest entries, and tell their bytes: up to `count` of them, and none after the
        one that fills `room` bytes."""
        entries, behind = self._entries, self._behind
        pop = entries.popitem
        messages: list[Message] = []
        taken = 0
        while entries and len(messages) < count and taken < room:
            key, message = pop(last=False)
            size = FIXED_SIZE + len(message.key) + len(message.payload)
            taken += size
            messages.append(message)
            if type(key) is int:
                self._every.popleft()
                self._every_bytes -= size
            elif behind and key in behind:
                entries[key] = behind.pop(key)
                entries.move_to_end(key, last=False)
        self.bytes -= taken
        return messages, taken

    def put_back(self, messages: list[Message]) -> int:
        """Return what was taken, in order, ahead of everything else; a report whose key has a newer
        one by now makes way for it. Returns how many reports left without being sent."""
        later, behind = [*self._entries.values()], [*self._behind.values()]
        self._entries = OrderedDict()
        self._behind = {}
        self._every = deque()
        self.bytes = self._every_bytes = 0
        return sum(map(self.put, (*messages, *later, *behind)))


def _not_final(message: Message) -> bool:
    return not message.final
