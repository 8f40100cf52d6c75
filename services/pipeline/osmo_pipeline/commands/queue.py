"""`osmo-pipeline queue`: what a queue holds, without taking any of it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Annotated

from osmo_pipeline.commands.contents import FilterConfig, Wanted, described
from osmo_pipeline.commands.output import Column, Listing, brief, say, write_json
from osmo_pipeline.commands.places import open_queue_of
from osmo_pipeline.config import ViewConfig
from osmo_pipeline.errors import NothingFoundError, StoppedError
from osmo_runtime.fields import Setting
from osmo_transport import Queue, StoredEntry
from osmo_transport.bounds import Count
from osmo_transport.lean import dataclass

PAGE = 500
"""Entries that are asked for at a time; large ones come in smaller pages."""

_STREAMS = (
    Column("STREAM", "stream", 20),
    Column("WAITING", "waiting", 10, right=True),
    Column("PENDING", "pending", 10, right=True),
    Column("OLDEST", "oldest_seconds", 8, right=True, show=brief),
)

_ENTRIES = (
    Column("ENTRY", "entry", 16),
    Column("AGE", "age_seconds", 4, right=True, show=brief),
    Column("TRIES", "attempts", 5, right=True),
    Column("HOLDER", "holder", 10),
    Column("BACKEND", "backend", 12),
    Column("KIND", "kind", 12),
    Column("KEY", "key"),
)


@dataclass(frozen=True, kw_only=True)
class StatusConfig(ViewConfig):
    """Shows of each stream of a queue how many entries wait, how many are on lease and how old the
    oldest of them is; how many consumers and dead letters there are."""


@dataclass(frozen=True, kw_only=True)
class PeekConfig(FilterConfig):
    """Shows the oldest entries of a queue, and takes none of them. In a table `TRIES` is how often
    one was delivered, and `HOLDER` the consumer that has it; JSON holds all of it, with the body of
    each report. The exit code is 3 if there is none."""

    streams: Annotated[tuple[str, ...], Setting(positional=True, metavar="STREAM")] = ()
    """Those to look into; all without one."""
    limit: Count = 20
    """Entries that are shown of each stream."""


async def show_status(config: StatusConfig, _: asyncio.Event) -> None:
    """`queue status`.

    Raises:
        TransportError: the queue cannot be used; the text says what to do.
    """
    async with await open_queue_of(config) as queue:
        status = await queue.status()
    figures = {
        "queue_epoch": status.queue_epoch,
        "consumers": status.consumers,
        "dead": status.dead,
    }
    streams = [
        {
            "stream": stream,
            "waiting": waiting,
            "pending": status.pending[stream],
            "oldest_seconds": round(status.oldest.get(stream, 0.0), 3),
        }
        for stream, waiting in status.waiting.items()
    ]
    if config.json:
        write_json({**figures, "streams": streams})
        return
    with Listing(_STREAMS, as_json=False) as out:
        for row in streams:
            out.add(row)
    say("consumers {consumers}, dead letters {dead}, queue epoch {queue_epoch}".format(**figures))


async def peek(config: PeekConfig, stop: asyncio.Event) -> None:
    """`queue peek`.

    Raises:
        UsageError: the queue has no such stream.
        NothingFoundError: there is no such entry.
        TransportError: the queue cannot be used; the text says what to do.
    """
    wanted = Wanted(config.backend, config.kind, config.older_than)
    async with await open_queue_of(config) as queue:
        streams = config.streams or tuple((await queue.status()).waiting)
        with Listing(_ENTRIES, as_json=config.json) as out:
            for stream in streams:
                left = config.limit
                async for entry in _entries(queue, stream, wanted, left):
                    if left == 0 or stop.is_set():
                        break
                    left -= 1
                    out.add(_row(entry))
        if stop.is_set():
            raise StoppedError(f"stopped after {out.rows} entries")
        if not out.rows:
            raise NothingFoundError("the queue holds no such entry")


async def _entries(
    queue: Queue, stream: str, wanted: Wanted, limit: int
) -> AsyncIterator[StoredEntry]:
    size = min(PAGE, limit + 1) if wanted.everything else PAGE
    after = ""
    while page := await queue.peek(stream, size, after):
        after = page[-1].id
        for entry in page:
            if wanted.has(entry):
                yield entry


def _row(entry: StoredEntry) -> Mapping[str, object]:
    delivered = {
        "pending": entry.pending,
        "attempts": entry.attempts,
        "holder": entry.holder,
    }
    return {"entry": entry.id, **described(entry), **delivered}
