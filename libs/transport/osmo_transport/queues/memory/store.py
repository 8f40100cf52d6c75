"""What the memory queues of one name share: entries, their holders and their timers."""

import asyncio
import heapq
import itertools
import uuid
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Collection
from typing import NamedTuple

from osmo_transport.queues.delivery import DeadLetter, message_or_none
from osmo_transport.session.admission import Record

Key = tuple[str, str]
"""Stream and id of an entry."""


class Entry:
    """A stored message, encoded. `lease` counts its hand-outs, so that a timer of an earlier one is
    void; `added` is when it came, on the queue's clock."""

    __slots__ = ("added", "attempt", "backend", "data", "holder", "id", "lease", "stream")

    def __init__(self, entry_id: str, stream: str, backend: str, data: bytes, added: float) -> None:
        self.added = added
        self.id = entry_id
        self.stream = stream
        self.backend = backend
        self.data = data
        self.attempt = 0
        self.lease = 0
        self.holder: Holder | None = None


def turn_of(entry_id: str) -> int:
    """Its place among all entries; 0 of what is no id."""
    turn = entry_id.partition("-")[0]
    return int(turn) if turn.isascii() and turn.isdecimal() else 0


class Due(NamedTuple):
    """When an entry that was given out before may be given out again."""

    at: float
    turn: int
    entry: Entry
    lease: int


class Timers:
    """Pending entries that nobody holds, the one that is due first in front."""

    def __init__(self) -> None:
        self._heap: list[Due] = []
        self._turns = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, entry: Entry, at: float) -> None:
        heapq.heappush(self._heap, Due(at, next(self._turns), entry, entry.lease))

    def take_over(self, others: "Timers") -> None:
        while (at := others.next()) is not None:
            self.add(others.pop(), at)

    def next(self) -> float | None:
        """The time of the earliest timer that is not void."""
        heap = self._heap
        while heap and heap[0].lease != heap[0].entry.lease:
            heapq.heappop(heap)
        return heap[0].at if heap else None

    def pop(self) -> Entry:
        """The entry whose time `next` has told."""
        return heapq.heappop(self._heap).entry


class Holder:
    """One consumer's place in the group: what it holds, by (stream, id), and its retries."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.held: dict[Key, Entry] = {}
        self.delayed = Timers()
        self.silent = False


class MemoryStore:
    """What the queues of one name share. `wall` gives the seconds since the Unix epoch."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self.epoch = uuid.uuid4().hex
        self.users = 0
        self.producers = Record()
        self.waiting: dict[str, deque[Entry]] = {}
        self.pending: dict[Key, Entry] = {}
        self.dead: deque[DeadLetter] = deque()
        self.dead_dropped = 0
        self._letters = itertools.count(1)
        self.group = ""
        self.holders: dict[str, Holder] = {}
        self.due = Timers()
        """What anybody may have from its time on."""
        self.turns = itertools.count(1)
        self._arrival = asyncio.Event()

    @property
    def entries(self) -> int:
        return len(self.pending) + sum(map(len, self.waiting.values()))

    def add(self, stream: str, backend: str, data: bytes, now: float) -> None:
        # The epoch keeps an id from coming back after a loss of memory.
        entry = Entry(f"{next(self.turns)}-{self.epoch[:8]}", stream, backend, data, now)
        self.waiting.setdefault(stream, deque()).append(entry)

    def remove(self, entry: Entry) -> None:
        del self.pending[entry.stream, entry.id]
        entry.lease += 1

    def bury(self, entry: Entry, reason: str, limit: int) -> DeadLetter:
        """Make a pending entry a dead letter: one step, because nothing else runs between."""
        self.remove(entry)
        letter = DeadLetter(
            id=f"{next(self._letters):020}",
            entry=entry.id,
            stream=entry.stream,
            backend=entry.backend,
            reason=reason,
            attempt=entry.attempt,
            message=message_or_none(entry.data),
            raw=entry.data,
            buried=self._wall(),
        )
        self.dead.append(letter)
        while len(self.dead) > limit:
            self.dead.popleft()
            self.dead_dropped += 1
        return letter

    def letters_after(self, letter: str) -> list[DeadLetter]:
        """The dead letters behind one that may be gone, the oldest first."""
        start = bisect_right(self.dead, letter, key=lambda each: each.id)
        return list(itertools.islice(self.dead, start, None))

    def letters(self, named: Collection[str]) -> list[DeadLetter]:
        """Those of the dead letters that have one of these ids, the oldest first."""
        wanted = set(named)
        return [letter for letter in self.dead if letter.id in wanted]

    def forget_letters(self, letters: Collection[DeadLetter]) -> None:
        """Take these off the dead letters."""
        gone = {letter.id for letter in letters}
        self.dead = deque(letter for letter in self.dead if letter.id not in gone)

    def abandon(self, holder: Holder, at: float) -> None:
        """A consumer fell silent: its entries are anybody's at `at`, its successor's at once, and
        its retries anybody's when they are due."""
        holder.silent = True
        for entry in holder.held.values():
            self.due.add(entry, at)
        self.due.take_over(holder.delayed)
        self.forget_if_done(holder)
        self.wake()

    def forget_if_done(self, holder: Holder) -> None:
        """Drop the name of a consumer that is gone and has nothing for a successor."""
        if holder.silent and not holder.held and self.holders.get(holder.name) is holder:
            del self.holders[holder.name]

    def wake(self) -> None:
        """Let every waiting consumer look again."""
        self._arrival.set()
        self._arrival = asyncio.Event()

    async def arrival(self, timeout: float | None) -> None:
        """Return at the next `wake`, or after `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._arrival.wait()
        except TimeoutError:
            pass
