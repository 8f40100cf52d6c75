"""What one member of a consumer group says to Redis; `consumer` decides when."""

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from osmo_transport.message import new_id
from osmo_transport.queues.abc import QueueConfig
from osmo_transport.queues.redis.client import Argument, Call, Command, RedisClient
from osmo_transport.queues.redis.layout import Layout, content_of
from osmo_transport.queues.redis.replies import ErrorReply
from osmo_transport.queues.redis.scripts import entries
from osmo_transport.queues.rules import EXHAUSTED, Burials, other_group

CHUNK = 500
"""Entries that one call of a script looks at: bounds the time for which Redis serves nobody
else."""

READ_BYTES = 512 * 1024
"""Bytes that one exchange brings, about: bounds the time that it takes over a slow link."""

MOST_UNSEEN = 256
"""Entries that a read of new ones takes at most: their sizes are judged by the last ones, and where
much larger ones follow, one read brings so many of them."""

UNKNOWN_SIZE = 8 * 1024
"""Bytes that an entry is taken to have before any was read."""

STALE_LEASES = 10
"""A consumer that holds nothing and was silent for so many leases is removed from the group."""

AT_ONCE = 24 * 3600.0
"""Seconds of idleness of an entry that is given back: longer than anybody's lease."""

ORPHANS = "orphans"
"""The member that entries are given to whose own was removed by hand: nobody, and its lease has
ended."""

_log = logging.getLogger(__name__)
_FIELDS = itemgetter(2)
"""Of a `Found`."""
_T = TypeVar("_T")


class NoGroupError(Exception):
    """A stream or its group is missing: `Member.join` makes them."""


Found = tuple[str, str, list[bytes], int]
"""An entry that is pending for this member now: its stream, id, fields and attempt."""


class New(NamedTuple):
    """What a read of new entries brought."""

    found: list[Found]
    gave: frozenset[str]
    """The streams that they are of."""
    more: bool
    """Whether there may be more of them."""


class Pending(NamedTuple):
    """An entry that is pending for this member, without its content."""

    id: str
    attempt: int


class Returned(NamedTuple):
    """An entry that a member which leaves gives back."""

    stream: str
    id: str
    wait: float
    """Seconds for which nobody may have it."""
    attempt: int
    """Attempts to count."""


class Removed(NamedTuple):
    """What became of a removal, by (stream, id)."""

    done: list[tuple[str, str]]
    buried: set[tuple[str, str]]
    """Of which a dead letter was made."""
    refused: str
    """The error of dead letters that were refused; they and their neighbours are not done."""


class Removal(NamedTuple):
    """What `Member.remove` is asked for: ids to acknowledge, and ids with reasons to bury."""

    acks: dict[str, list[str]]
    dead: dict[str, list[tuple[str, str]]]


@dataclass
class Tally:
    """What the members of one queue object count together; see `QueueStatus`."""

    dead_dropped: int = 0
    lost: int = 0


class Member:
    """The consumer `name` of `group`, in every stream.

    In Redis it has a name of its own, which begins with `name`: so what an earlier consumer of the
    name had, and what this one had and was not told of, are never confused. A blocked read has a
    connection of its own, so that nothing waits behind it. Every call raises
    `QueueUnavailableError` and `QueueRefusedError` as `RedisClient.run` does.
    """

    def __init__(
        self,
        make_client: Callable[[], RedisClient],
        layout: Layout,
        config: QueueConfig,
        tally: Tally,
        group: str,
        name: str,
    ) -> None:
        self.group = group
        self.name = name
        self.queue_epoch = ""
        """As of the last read."""
        self.reader = make_client()
        self.writer = make_client()
        self._own = f"{name}:{new_id()[:12]}"
        self._lease = max(1, int(config.lease * 1000))
        self._layout = layout
        self._shared_for = int(layout.shared_for * 1000)
        self.burials = Burials()
        self._keys = layout.keys
        self._names = {key: stream for stream, key in self._keys.streams.items()}
        keys = self._keys
        self._where = {
            stream: (keys.epoch, keys.dead, keys.counts, keys.due(stream), key)
            for stream, key in keys.streams.items()
        }
        """By stream, the keys of what is done with its pending entries."""
        self._config = config
        self._tally = tally
        self._size = float(UNKNOWN_SIZE)
        self._latest: Sequence[Found] = ()
        """What came last, until the next read learns from it: of the way to whoever handles a
        report that comes alone, that would be 10 µs."""

    # Reading

    async def read_new(
        self, count: int, streams: Sequence[str], wait: float | None = None
    ) -> "New":
        """Take up to `count` new entries of each stream, and fewer where they are large, first
        waiting up to `wait` seconds if all are empty.

        Raises:
            NoGroupError
        """
        self._learn()
        block: Command = () if wait is None else ("BLOCK", max(1, int(wait * 1000)))
        keys = [self._keys.streams[stream] for stream in streams]
        ids = (">",) * len(keys)
        asked = max(1, min(count, MOST_UNSEEN, int(READ_BYTES / self._size) // len(keys)))
        command: Command = ("XREADGROUP", "GROUP", self.group, self._own, "COUNT", asked)
        (reply,) = await self._read((*command, *block, "STREAMS", *keys, *ids), wait=wait or 0.0)
        found: list[Found] = []
        gave: set[str] = set()
        more = False
        for key, read in reply or ():
            stream = self._names[key.decode()]
            found += [(stream, id_.decode(), fields, 1) for id_, fields in read]
            gave.add(stream)
            more = more or len(read) >= asked
        self._latest = found
        return New(found, frozenset(gave), more)

    def _learn(self, found: Sequence[Found] = ()) -> None:
        """Remember how large the entries of `_latest` are, those above all; now it is `found`."""
        latest, self._latest = self._latest, found
        if latest:
            contents = itertools.chain.from_iterable(map(_FIELDS, latest))
            mean = sum(map(len, contents)) / len(latest)
            self._size = max(1.0, mean, (self._size + mean) / 2)

    async def look(self) -> None:
        """Read the queue epoch alone."""
        await self._read()

    async def pending(self, stream: str, after: str) -> list[Pending]:
        """A page of what is pending for this member; `after` is "-" or "(ID".

        Raises:
            NoGroupError
        """
        key = self._keys.streams[stream]
        (reply,) = await self._read(("XPENDING", key, self.group, after, "+", CHUNK, self._own))
        return [Pending(id_.decode(), attempt) for id_, _, _, attempt in reply]

    async def former(self) -> dict[str, list[str]]:
        """By stream, the members that had this one's name before it. Those of others that are gone
        and hold nothing are removed."""
        silence = self._lease * STALE_LEASES
        arguments = (self.group, self._own, self.name, silence)
        replies = await self.reader.call(
            entries.FORMER, *(((key,), arguments) for key in self._names)
        )
        return {
            stream: [name.decode() for name in names]
            for stream, names in zip(self._names.values(), replies, strict=True)
        }

    async def claim(
        self, stream: str, room: int, cursor: str, former: str = ""
    ) -> tuple[list[Found], str]:
        """Take over up to `room` entries of the stream whose lease has ended, or that are pending
        for the member `former`, from `cursor` on ("-": the beginning); they count as another
        attempt. Returns them, and the next cursor, empty at the end."""
        # Who shares the queue with others tries what they tried for ever once all the same.
        spare = int(self._shared_for > 0)
        how = (spare, former, self._lease, room, READ_BYTES, cursor, CHUNK)
        reply = await self._taking(stream, entries.CLAIM, how)
        return reply.found, reply.end.decode()

    async def take(self, stream: str, wanted: Sequence[Pending]) -> tuple[list[Found], int]:
        """Read entries that are pending for this member, each as the attempt that is said; those
        whose attempts are used up become dead letters instead. Returns them, and how many of the
        wanted were looked at: fewer where they are large."""
        named = [part for entry in wanted[:CHUNK] for part in entry]
        reply = await self._taking(stream, entries.TAKE, (READ_BYTES, *named))
        return reply.found, int(reply.end)

    async def _taking(self, stream: str, script: Any, how: Sequence[Argument]) -> "_Reply":
        ((taken, lost, dropped, failure, end, buried, epoch),) = await self.reader.call(
            script,
            (
                self._where[stream],
                (
                    self.group,
                    self._own,
                    stream,
                    self._config.max_attempts,
                    self._config.max_dead_letters,
                    EXHAUSTED,
                    *how,
                ),
            ),
            expect=2 * READ_BYTES,
        )
        self.queue_epoch = epoch.decode()
        self._tally.dead_dropped += dropped
        if lost:
            _log.error("%d pending entries of stream %s were deleted by others", lost, stream)
        if failure:
            _log.warning("dead letters of stream %s have to wait: %s", stream, failure.decode())
        for id_, fields, attempts in buried:
            self._tell_buried(stream, id_.decode(), fields, attempts)
        found = [(stream, id_.decode(), fields, n) for id_, fields, n in taken]
        self._learn(found)
        return _Reply(found, end)

    def _tell_buried(
        self, stream: str, entry_id: str, fields: Sequence[bytes], attempts: int
    ) -> None:
        content = content_of(fields)
        message = self._layout.message_or_none(entry_id, content.raw)
        self.burials.tell(stream, content.backend, message, attempts, EXHAUSTED.format(attempts))

    async def join(self) -> None:
        """Make the group where it is missing, from the beginning of each stream.

        Raises:
            QueueRefusedError: there is another group.
        """
        (other,) = await self.reader.call(entries.JOIN, (tuple(self._names), (self.group,)))
        if other:
            raise other_group(other.decode(), self.group)

    async def adopt(self, cursors: Mapping[str, str]) -> dict[str, str]:
        """Look from each stream's cursor on ("-": the beginning) for entries whose member was
        removed while it held them; the next cursors of those that are not at the end."""
        # Who does not settle in one step leaves an entry pending for nobody for a moment.
        how = (self.group, ORPHANS, int(AT_ONCE * 1000), self._shared_for)
        replies = await self.reader.call(
            entries.ADOPT,
            *(
                ((self._keys.streams[stream],), (*how, cursor, CHUNK))
                for stream, cursor in cursors.items()
            ),
        )
        if found := sum(number for number, _ in replies):
            _log.error("%d entries were pending for nobody, they are delivered again", found)
        return {
            stream: cursor.decode()
            for stream, (_, cursor) in zip(cursors, replies, strict=True)
            if cursor
        }

    # Settling

    async def prepare(self) -> None:
        """Get ready to settle."""
        await self.writer.prepare(entries.SETTLE)

    async def remove(self, removal: Removal) -> "Removed":
        """Acknowledge and bury what is still pending for this member."""
        calls: list[Call] = []
        asked: list[list[tuple[str, str]]] = []
        whose = (self.queue_epoch, self.group, self._own)
        for stream, acks in removal.acks.items():
            for ids in _chunks(acks):
                calls.append((self._where[stream], (*whose, len(ids), *ids)))
                asked.append([(stream, entry_id) for entry_id in ids])
        for stream, dead in removal.dead.items():
            what = (*whose, 0, stream, self._config.max_dead_letters)
            for letters in _chunks(dead):
                calls.append((self._where[stream], (*what, *itertools.chain(*letters))))
                asked.append([(stream, entry_id) for entry_id, _ in letters])
        done: list[tuple[str, str]] = []
        buried: set[tuple[str, str]] = set()
        refused = ""
        replies = await self.writer.call(entries.SETTLE, *calls) if calls else ()
        for settled, reply in zip(asked, replies, strict=True):
            dropped, failure, letters = reply or (0, b"", ())
            self._tally.dead_dropped += dropped
            buried.update([(settled[0][0], entry_id.decode()) for entry_id in letters])
            if failure:
                refused = failure.decode()
            else:
                done += settled
        return Removed(done, buried, refused)

    async def renew(self, stream: str, ids: Sequence[str]) -> set[str]:
        """Start leases anew; returns the ids that are no longer this member's."""
        gone = set(ids)
        for chunk in _chunks(ids):
            key = self._keys.streams[stream]
            (renewed,) = await self.writer.call(
                entries.RENEW, ((key,), (self.group, self._own, *chunk))
            )
            gone.difference_update(entry_id.decode() for entry_id in renewed)
        return gone

    async def give_back(self, returned: Iterable[Returned]) -> None:
        """End the leases of what is pending for this member, and remove its name if that is
        all."""
        by_stream: dict[str, list[Returned]] = {}
        for entry in returned:
            by_stream.setdefault(entry.stream, []).append(entry)
        for stream, mine in by_stream.items():
            keys = (self._keys.due(stream), self._keys.streams[stream])
            for chunk in _chunks(mine):
                named = [
                    part for e in chunk for part in (e.id, max(0, int(e.wait * 1000)), e.attempt)
                ]
                how = (self.group, self._own, self._lease, int(AT_ONCE * 1000))
                await self.writer.call(entries.GIVE_BACK, (keys, (*how, *named)))
        await self.writer.call(
            entries.LEAVE, *(((key,), (self.group, self._own)) for key in self._names)
        )

    async def aclose(self) -> None:
        """Give up the connections."""
        await self.reader.aclose()
        await self.writer.aclose()

    async def dismiss(self, former: str) -> None:
        """Remove the name of a member that holds nothing any more."""
        await self.reader.call(
            entries.LEAVE, *(((key,), (self.group, former)) for key in self._names)
        )

    async def _read(self, *commands: Command, wait: float = 0.0) -> list[Any]:
        """Run commands on the reader's connection and look at the queue epoch right after them."""
        *replies, epoch = await self.reader.run(
            *commands, ("GET", self._keys.epoch), wait=wait, expect=2 * READ_BYTES, check=False
        )
        for command, reply in zip(commands, replies, strict=True):
            if type(reply) is ErrorReply:
                if "NOGROUP" in reply.text or "UNBLOCKED" in reply.text:
                    raise NoGroupError
                raise self.reader.refusal(reply.text, command)
        if type(epoch) is ErrorReply:
            raise self.reader.refusal(epoch.text, ("GET",))
        self.queue_epoch = (epoch or b"").decode()
        return replies


class _Reply(NamedTuple):
    found: list[Found]
    end: Any


def _chunks(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))
