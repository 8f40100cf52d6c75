"""What waits to be sent: encoded messages.

A newer message of a `latest` kind takes the place of the older one of its key, so that the outbox
holds one entry for each live resource however long the server is away; or two, where a message
that is not final follows a final one, as of a resource that was created again. Messages of `every`
kinds are all kept, up to a bound; beyond it the oldest of them is dropped and counted.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass

from osmo_transport.bounds import Bytes, Count
from osmo_transport.kinds import latest_kinds
from osmo_transport.message import Message, read_message


@dataclass(frozen=True, kw_only=True)
class OutboxConfig:
    """Bounds of an outbox."""

    max_entries: Count = 500_000
    """Entries of all kinds at which `send` waits: several times the live resources of the largest
    backends, so that it is met only by a mistake."""
    max_bytes: Bytes = 512 * 1024 * 1024
    """Bytes at which `send` waits."""
    max_every_entries: Count = 50_000
    """Entries of `every` kinds beyond which the oldest of them is dropped: hours of events."""
    max_every_bytes: Bytes = 64 * 1024 * 1024
    """Bytes of `every` kinds beyond which the oldest of them is dropped."""


_Key = tuple[str, str] | int
"""Kind and key of a `latest` kind; a number of its own for each of an `every` kind."""


class Outbox:
    """An ordered queue that coalesces; see the module. Not bound to any connection."""

    def __init__(self, config: OutboxConfig) -> None:
        self._config = config
        self._entries: OrderedDict[_Key, bytes] = OrderedDict()
        self._behind: dict[_Key, bytes] = {}
        """What goes right behind a final entry of its key: newer, and not final."""
        self._every: deque[int] = deque()
        self._next_every = 0
        self._every_bytes = 0
        self.bytes = 0
        """Bytes of all entries."""
        self.coalesced = 0
        """Messages that another one of their key made needless."""
        self.dropped = 0
        """Messages of `every` kinds that the bounds pushed out."""

    def __len__(self) -> int:
        return len(self._entries) + len(self._behind)

    @property
    def full(self) -> bool:
        """Whether a bound at which `send` waits is reached."""
        entries = len(self._entries) + len(self._behind)
        return entries >= self._config.max_entries or self.bytes >= self._config.max_bytes

    def put(self, message: Message, data: bytes) -> int:
        """Add a message, `data` being its bytes; returns how many messages left without being sent
        (coalesced or dropped)."""
        if message.kind not in latest_kinds:
            return self._put_every(data)
        return self._put_latest((message.kind, message.key), data)

    def _put_latest(self, key: tuple[str, str], data: bytes) -> int:
        older = self._entries.setdefault(key, data)
        if older is not data:
            return self._coalesce(key, older, data)
        self.bytes += len(data)
        return 0

    def _put_every(self, data: bytes) -> int:
        size = len(data)
        self._entries[self._next_every] = data
        self._every.append(self._next_every)
        self._next_every += 1
        self.bytes += size
        self._every_bytes += size
        return self._drop_oldest()

    def _coalesce(self, key: _Key, first: bytes, data: bytes) -> int:
        """Keep of the messages about one resource those that no other replaces; `first` is the one
        in the queue. Returns how many went."""
        behind = self._behind.pop(key, None)
        held = [first] if behind is None else [first, behind]
        # Decoded here alone: most messages leave before another one of their key comes.
        message = read_message(data)
        others = [(read_message(each), each) for each in held]
        kept = [(m, each) for m, each in others if not message.supersedes(m)]
        if not any(m.supersedes(message) for m, _ in kept):
            kept.append((message, data))
        kept.sort(key=_not_final)
        self._entries[key] = kept[0][1]
        if len(kept) == 2:
            self._behind[key] = kept[1][1]
        gone = len(held) + 1 - len(kept)
        self.bytes += sum(len(each) for _, each in kept) - sum(map(len, held))
        self.coalesced += gone
        return gone

    def _drop_oldest(self) -> int:
        dropped = 0
        while len(self._every) > 1 and (
            len(self._every) > self._config.max_every_entries
            or self._every_bytes > self._config.max_every_bytes
        ):
            size = len(self._entries.pop(self._every.popleft()))
            self.bytes -= size
            self._every_bytes -= size
            dropped += 1
        self.dropped += dropped
        return dropped

    def take(self, count: int, room: int) -> tuple[list[bytes], int]:
        """Take the oldest entries, and tell their bytes: up to `count` of them, and none after the
        one that fills `room` bytes."""
        entries, behind = self._entries, self._behind
        pop = entries.popitem
        taken: list[bytes] = []
        total = 0
        while entries and len(taken) < count and total < room:
            key, data = pop(last=False)
            size = len(data)
            total += size
            taken.append(data)
            if type(key) is int:
                self._every.popleft()
                self._every_bytes -= size
            elif behind and key in behind:
                entries[key] = behind.pop(key)
                entries.move_to_end(key, last=False)
        self.bytes -= total
        return taken, total

    def put_back(self, taken: Iterable[bytes]) -> int:
        """Return what was taken, in order, ahead of everything else; a message whose key has a
        newer one by now makes way for it. Returns how many messages left without being sent."""
        later = [*self._entries.items(), *self._behind.items()]
        self._entries = OrderedDict()
        self._behind = {}
        self._every = deque()
        self.bytes = self._every_bytes = 0
        gone = sum(self.put(read_message(data), data) for data in taken)
        for key, data in later:
            gone += self._put_every(data) if isinstance(key, int) else self._put_latest(key, data)
        return gone


def _not_final(kept: tuple[Message, bytes]) -> bool:
    return not kept[0].final
