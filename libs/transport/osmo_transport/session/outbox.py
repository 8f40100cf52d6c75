"""What waits to be sent: encoded messages.

A newer message of a `latest` kind takes the place of the older one of its key, so that the outbox
holds one entry for each live resource however long the server is away. Messages of `every` kinds
are all kept, up to a bound; beyond it the oldest of them is dropped and counted.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable

from osmo_transport.kinds import latest_kinds
from osmo_transport.message import read_message
from osmo_transport.session.config import OutboxConfig

_Key = tuple[str, str] | int
"""Kind and key of a `latest` kind; a number of its own for each of an `every` kind."""


class Outbox:
    """An ordered queue that coalesces; see the module. Not bound to any connection."""

    def __init__(self, config: OutboxConfig) -> None:
        self._config = config
        self._most_entries, self._most_bytes = config.max_entries, config.max_bytes
        self._latest = latest_kinds
        self._entries: dict[_Key, bytes] = {}
        """Mostly all are taken, and a dict costs each of them least. From when a part of them is
        taken until all are it is an OrderedDict, which gives up its oldest at once: a dict looks
        for it behind all that it gave up before."""
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
        return len(self._entries)

    @property
    def full(self) -> bool:
        """Whether a bound at which `send` waits is reached."""
        return len(self._entries) >= self._most_entries or self.bytes >= self._most_bytes

    def put(self, kind: str, key: str, data: bytes) -> int:
        """Add a message of this kind and key, `data` being its bytes; returns how many messages
        left without being sent (coalesced or dropped)."""
        if kind not in self._latest:
            return self._put_every(data)
        return self._put_latest((kind, key), data)

    def _put_latest(self, key: tuple[str, str], data: bytes) -> int:
        older = self._entries.setdefault(key, data)
        if older is data:
            self.bytes += len(data)
            return 0
        # Decoded here alone: most messages leave before another one of their key comes.
        if read_message(data).supersedes(read_message(older)):
            self._entries[key] = data
            self.bytes += len(data) - len(older)
        self.coalesced += 1
        return 1

    def _put_every(self, data: bytes) -> int:
        size = len(data)
        self._entries[self._next_every] = data
        self._every.append(self._next_every)
        self._next_every += 1
        self.bytes += size
        self._every_bytes += size
        return self._drop_oldest()

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
        entries = self._entries
        if len(entries) <= count and self.bytes <= room:
            everything = list(entries.values()), self.bytes
            self._clear()
            return everything
        if not isinstance(entries, OrderedDict):
            entries = OrderedDict(entries)
            self._entries = entries
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
        self.bytes -= total
        return taken, total

    def put_back(self, taken: Iterable[bytes]) -> int:
        """Return what was taken, in order, ahead of everything else; a message whose key has a
        newer one by now makes way for it. Returns how many messages left without being sent."""
        later = list(self._entries.items())
        self._clear()
        gone = 0
        for data in taken:
            message = read_message(data)
            gone += self.put(message.kind, message.key, data)
        for key, data in later:
            gone += self._put_every(data) if isinstance(key, int) else self._put_latest(key, data)
        return gone

    def _clear(self) -> None:
        self._entries = {}
        self._every.clear()
        self.bytes = self._every_bytes = 0
