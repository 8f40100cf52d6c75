"""What people ask a queue in Redis for: a look at what it holds, another try for dead letters.

Each exchange is bounded in entries and bytes, so that Redis serves others in between.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec

from osmo_transport.errors import QueueUnavailableError
from osmo_transport.kinds import DEFAULT_STREAM
from osmo_transport.queues.abc import PAGE_BYTES, QueueConfig
from osmo_transport.queues.delivery import DeadLetter, Producer, StoredEntry
from osmo_transport.queues.leases import MAX_LEASE, Holder, Standing
from osmo_transport.queues.redis.client import Argument, RedisClient
from osmo_transport.queues.redis.layout import Layout, content_of
from osmo_transport.queues.redis.member import CHUNK, ORPHANS, READ_BYTES
from osmo_transport.queues.redis.scripts import looks
from osmo_transport.queues.redis.scripts.producers import decode_who
from osmo_transport.queues.redis.scripts.script import Script
from osmo_transport.queues.rules import check_limit, check_stream, full

_ID = re.compile(r"[0-9]{1,19}-[0-9]{1,19}")
"""What Redis takes for an id, which no clock makes longer."""

_NUMBER = re.compile(r"[0-9]{1,9}")
"""A number of attempts."""

_OWN_NAME = re.compile(r":[0-9a-f]{12}$")
"""What a member has behind the name of its consumer."""


class Administration:
    """See the module. Every call raises `QueueUnavailableError` and `QueueRefusedError` as
    `RedisClient.run` does; else as in `Queue`."""

    def __init__(self, client: RedisClient, layout: Layout, config: QueueConfig) -> None:
        self._client = client
        self._layout = layout
        self._keys = layout.keys
        self._config = config

    async def peek(self, stream: str, limit: int, after: str) -> list[StoredEntry]:
        """See `Queue.peek`."""
        check_stream(stream, self._keys.streams)
        page = await self._page(looks.ENTRIES, self._keys.streams[stream], limit, after)
        return [self._entry(stream, *each) for each in page]

    async def dead_letters(self, limit: int, after: str) -> list[DeadLetter]:
        """See `Queue.dead_letters`."""
        page = await self._page(looks.LETTERS, self._keys.dead, limit, after)
        return [self._letter(*each) for each in page]

    async def _page(self, look: Script, key: str, limit: int, after: str) -> list[Any]:
        """What a script says of each, its id first and then its fields."""
        check_limit(limit)
        page: list[Any] = []
        budget = PAGE_BYTES
        start = f"({after}" if _ID.fullmatch(after) else "-"
        while len(page) < limit and budget > 0:
            asked = min(limit - len(page), CHUNK)
            arguments = (start, asked, READ_BYTES)
            (found,) = await self._client.call(look, ((key,), arguments), expect=4 * READ_BYTES)
            if not found:
                break
            page += found
            budget -= sum(len(field) for each in found for field in each[1])
            start = f"({found[-1][0].decode()}"
        return page

    def _entry(
        self,
        stream: str,
        entry_id: bytes,
        fields: Sequence[bytes],
        age: int,
        *pending: Any,
    ) -> StoredEntry:
        name, content = entry_id.decode(), content_of(fields)
        owner, attempts = pending or (b"", 0)
        holder = owner.decode(errors="replace")
        return StoredEntry(
            id=name,
            stream=stream,
            backend=content.backend,
            message=self._layout.message_or_none(name, content.raw),
            raw=content.raw,
            age=age / 1000,
            pending=bool(pending),
            attempts=attempts,
            holder="" if holder == ORPHANS else _OWN_NAME.sub("", holder),
        )

    def _letter(self, letter_id: bytes, fields: Sequence[bytes]) -> DeadLetter:
        """What somebody else put there is shown too, as far as it goes."""
        letter = dict(zip(fields[::2], fields[1::2], strict=False))
        entry_id, stream, reason, attempt = (
            letter.get(name, b"").decode(errors="replace") for name in (b"i", b"s", b"r", b"n")
        )
        name, content = letter_id.decode(), content_of(fields)
        return DeadLetter(
            id=name,
            entry=entry_id,
            stream=stream,
            backend=content.backend,
            reason=reason,
            attempt=int(attempt) if _NUMBER.fullmatch(attempt) else 0,
            message=self._layout.message_or_none(entry_id, content.raw),
            raw=content.raw,
            buried=int(name.partition("-")[0]) / 1000,
        )

    async def replay(self, letters: Collection[str]) -> int:
        """See `Queue.replay`."""
        streams = self._keys.streams
        spare = DEFAULT_STREAM if DEFAULT_STREAM in streams else next(iter(streams))
        keys = (self._keys.dead, self._keys.counts, *streams.values())
        how: tuple[Argument, ...] = (self._config.max_entries, spare, READ_BYTES, *streams)
        replayed = 0
        for chunk in _chunks(letters):
            while chunk:
                ((done, looked, held, refused),) = await self._client.call(
                    self._layout.replay, (keys, (*how, *chunk))
                )
                replayed += done
                if held >= 0:
                    raise full(held, self._config.max_entries)
                if refused:
                    text = refused.decode(errors="replace")
                    raise QueueUnavailableError(f"the store takes no entries for now: {text}")
                del chunk[:looked]
        return replayed

    async def drop(self, letters: Collection[str]) -> int:
        """See `Queue.drop`."""
        dropped = 0
        for chunk in _chunks(letters):
            (gone,) = await self._client.run(("XDEL", self._keys.dead, *chunk))
            dropped += gone
        return dropped

    async def producers(self, limit: int, after: Standing | None) -> list[Standing]:
        """See `Queue.producers`."""
        check_limit(limit)
        found: list[Standing] = []
        keys = (self._keys.producers, self._keys.opened, self._keys.leases)
        while (room := limit - len(found)) > 0:
            behind: tuple[bytes | str, int | str] = ("", "")
            if after is not None:
                behind = (msgspec.json.encode(after.producer), round(after.opened * 1000))
            asked = min(room, CHUNK)
            how = (asked, *behind, round(MAX_LEASE * 1000))
            (page,) = await self._client.call(looks.PRODUCERS, (keys, how), expect=READ_BYTES)
            found += [_standing(*each) for each in page]
            if len(page) < asked:
                break
            after = found[-1]
        return found


def _standing(producer: bytes, opened: bytes, place: bytes, since: bytes, who: bytes) -> Standing:
    epoch, sequence, instance = place.decode(errors="replace").split(" ", 2)
    holder = None
    if since:
        address, credential = decode_who(who)
        holder = Holder(instance, address, int(since) / 1000, credential)
    return Standing(
        producer=msgspec.json.decode(producer, type=Producer),
        epoch=int(epoch),
        sequence=int(sequence),
        opened=float(opened) / 1000,
        instance=instance,
        holder=holder,
    )


def _chunks(letters: Collection[str]) -> Iterator[list[str]]:
    named = (letter for letter in letters if _ID.fullmatch(letter))
    while chunk := list(islice(named, CHUNK)):
        yield chunk
