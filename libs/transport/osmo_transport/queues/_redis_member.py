"""What one member of a consumer group says to Redis; `_redis_consumer` decides when."""

import itertools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from osmo_transport.queues import _scripts
from osmo_transport.queues._redis_layout import Layout
from osmo_transport.queues._redis_link import (
    Argument,
    Command,
    ErrorReply,
    Link,
)
from osmo_transport.queues._rules import EXHAUSTED, other_group
from osmo_transport.queues.abc import QueueConfig

CHUNK = 1000
"""Ids in one call of a script: bounds the time for which Redis serves nobody else."""

STALE_LEASES = 10
"""A consumer that holds nothing and was silent for so many leases is removed from the group."""

AT_ONCE = 24 * 3600.0
"""Seconds of idleness of an entry that is given back: longer than anybody's lease."""

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class NoGroupError(Exception):
    """A stream or its group is missing: `Member.join` makes them."""


class Found(NamedTuple):
    """An entry that is pending for this member now."""

    stream: str
    id: str
    fields: list[bytes]
    attempt: int


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

    A blocked read has a connection of its own, so that nothing waits behind it. Every call raises
    `QueueUnavailableError` and `QueueRefusedError` as `Link.run` does.
    """

    def __init__(
        self,
        make_link: Callable[[], Link],
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
        self.reader = make_link()
        self.writer = make_link()
        self._shared_for = int(layout.shared_for * 1000)
        self._keys = layout.keys
        self._names = {key: stream for stream, key in self._keys.streams.items()}
        self._config = config
        self._tally = tally

    async def read_new(
        self, count: int, streams: Sequence[str], wait: float | None = None
    ) -> list[list[Found]]:
        """Take up to `count` new entries of each stream, first waiting up to `wait` seconds if all
        are empty; a list for each stream that gave any.

        Raises:
            NoGroupError
        """
        block: Command = () if wait is None else ("BLOCK", max(1, int(wait * 1000)))
        keys = [self._keys.streams[stream] for stream in streams]
        ids = (">",) * len(keys)
        command: Command = ("XREADGROUP", "GROUP", self.group, self.name, "COUNT", count, *block)
        (reply,) = await self._read((*command, "STREAMS", *keys, *ids), wait=wait or 0.0)
        found = []
        for key, entries in reply or ():
            stream = self._names[key.decode()]
            found.append([Found(stream, id_.decode(), fields, 1) for id_, fields in entries])
        return found

    async def look(self) -> None:
        """Read the queue epoch alone."""
        await self._read()

    async def pending(self, stream: str, after: str) -> list[str]:
        """A page of the ids that are pending for this member; `after` is "-" or "(ID".

        Raises:
            NoGroupError
        """
        key = self._keys.streams[stream]
        (reply,) = await self._read(("XPENDING", key, self.group, after, "+", CHUNK, self.name))
        return [entry_id.decode() for entry_id, *_ in reply]

    async def claim(
        self, cursors: Mapping[str, str], count: int
    ) -> dict[str, tuple[str, list[str]]]:
        """Take over up to `count` entries of each stream whose lease has ended; by stream the next
        cursor, "0-0" at the end, and the ids.

        Raises:
            NoGroupError
        """
        who = (self.group, self.name, max(1, int(self._config.lease * 1000)))
        replies = await self._read(
            *(
                # JUSTID leaves the count of attempts to `take`.
                ("XAUTOCLAIM", self._keys.streams[stream], *who, cursor, "COUNT", count, "JUSTID")
                for stream, cursor in cursors.items()
            )
        )
        claimed = {}
        for stream, (cursor, ids, *deleted) in zip(cursors, replies, strict=True):
            # Redis 6.2 does not report deleted entries here; `take` finds them.
            self._count_lost(stream, len(deleted[0]) if deleted else 0)
            claimed[stream] = (cursor.decode(), [entry_id.decode() for entry_id in ids])
        return claimed

    async def take(
        self, stream: str, ids: Sequence[str], *, taken_over: bool = False
    ) -> list[Found]:
        """Count another attempt of entries that are pending for this member, and read them; those
        whose attempts are used up become dead letters instead. Workers that are not ours try for
        ever, and what they gave no end to is tried here once all the same when it is taken over."""
        found = []
        limits = (self._config.max_attempts, self._config.max_dead_letters)
        spare = int(taken_over and self._shared_for > 0)
        for chunk in _chunks(ids):
            ((taken, lost, dropped, failure),) = await self.reader.call(
                _scripts.TAKE,
                (
                    (self._keys.dead, self._keys.streams[stream]),
                    (self.group, self.name, stream, *limits, EXHAUSTED, spare, *chunk),
                ),
            )
            self._tally.dead_dropped += dropped
            self._count_lost(stream, lost)
            if failure:
                _log.warning("dead letters of stream %s have to wait: %s", stream, failure.decode())
            found += [Found(stream, id_.decode(), fields, n) for id_, fields, n in taken]
        return found

    async def join(self) -> None:
        """Make the group where it is missing, from the beginning of each stream.

        Raises:
            QueueRefusedError: there is another group.
        """
        (other,) = await self.reader.call(_scripts.JOIN, (tuple(self._names), (self.group,)))
        if other:
            raise other_group(other.decode(), self.group)

    async def sweep(self) -> None:
        """Remove the names of members that are gone and hold nothing, and find entries whose member
        was removed while it held them."""
        silence = int(self._config.lease * 1000 * STALE_LEASES)
        # Who does not settle in one step leaves an entry pending for nobody for a moment.
        arguments = (self.group, self.name, silence, int(AT_ONCE * 1000), self._shared_for)
        found = await self.reader.call(
            _scripts.SWEEP, *(((key,), arguments) for key in self._names)
        )
        if sum(found):
            _log.error("%d entries were pending for nobody, they are delivered again", sum(found))

    async def remove(self, removal: Removal) -> tuple[list[tuple[str, str]], str]:
        """Acknowledge and bury what is still pending for this member. Returns the (stream, id) of
        all that is done, and the error of dead letters that were refused."""
        calls: list[tuple[tuple[str, ...], tuple[Argument, ...]]] = []
        asked: list[list[tuple[str, str]]] = []
        for stream in removal.acks.keys() | removal.dead.keys():
            keys = (self._keys.epoch, self._keys.dead, self._keys.streams[stream])
            whose = (self.queue_epoch, self.group, self.name, stream)
            most = self._config.max_dead_letters
            for ids in _chunks(removal.acks.get(stream, ())):
                calls.append((keys, (*whose, most, len(ids), *ids)))
                asked.append([(stream, entry_id) for entry_id in ids])
            for letters in _chunks(removal.dead.get(stream, ())):
                calls.append((keys, (*whose, most, 0, *itertools.chain(*letters))))
                asked.append([(stream, entry_id) for entry_id, _ in letters])
        done: list[tuple[str, str]] = []
        refused = ""
        replies = await self.writer.call(_scripts.SETTLE, *calls) if calls else ()
        for settled, (dropped, failure) in zip(asked, replies, strict=True):
            self._tally.dead_dropped += dropped
            if failure:
                refused = failure.decode()
            else:
                done += settled
        return done, refused

    async def renew(self, stream: str, ids: Sequence[str]) -> set[str]:
        """Start leases anew; returns the ids that are no longer this member's."""
        gone = set(ids)
        for chunk in _chunks(ids):
            key = self._keys.streams[stream]
            (renewed,) = await self.writer.call(
                _scripts.RENEW, ((key,), (self.group, self.name, *chunk))
            )
            gone.difference_update(entry_id.decode() for entry_id in renewed)
        return gone

    async def give_back(self, known: Iterable[tuple[str, str, float, int | None]]) -> None:
        """End the leases of all that is pending for this member, and remove its name if that is
        nothing. `known`: (stream, id, seconds of idleness, attempts to count; None: as they are).
        """
        arguments: dict[str, list[Argument]] = {
            stream: [self.group, self.name, int(AT_ONCE * 1000)] for stream in self._keys.streams
        }
        for stream, entry_id, idle, attempts in known:
            count = "" if attempts is None else attempts
            arguments[stream] += (entry_id, max(0, int(idle * 1000)), count)
        await self.writer.call(
            _scripts.GIVE_BACK,
            *(((self._keys.streams[stream],), args) for stream, args in arguments.items()),
        )

    async def _read(self, *commands: Command, wait: float = 0.0) -> list[Any]:
        """Run commands on the reader's connection and look at the queue epoch right after them."""
        *replies, epoch = await self.reader.run(
            *commands, ("GET", self._keys.epoch), wait=wait, check=False
        )
        for reply in replies:
            if isinstance(reply, ErrorReply):
                if "NOGROUP" in reply.text or "UNBLOCKED" in reply.text:
                    raise NoGroupError
                raise self.reader.refusal(reply.text)
        self.queue_epoch = (epoch or b"").decode()
        return replies

    def _count_lost(self, stream: str, number: int) -> None:
        if number:
            self._tally.lost += number
            _log.error("%d pending entries of stream %s were deleted by others", number, stream)


def _chunks(items: Sequence[_T]) -> Iterable[Sequence[_T]]:
    return (items[start : start + CHUNK] for start in range(0, len(items), CHUNK))
