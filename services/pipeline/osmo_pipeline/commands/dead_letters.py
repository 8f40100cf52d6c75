"""`osmo-pipeline dlq`: what was given up, and another try for it."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from typing import Annotated

from osmo_pipeline.commands.contents import FilterConfig, Wanted, described, moment
from osmo_pipeline.commands.output import (
    Column,
    Listing,
    brief,
    hint,
    say,
    say_all,
    write_json,
)
from osmo_pipeline.commands.places import open_queue_of
from osmo_pipeline.config import ViewConfig
from osmo_pipeline.errors import NothingFoundError, StoppedError
from osmo_runtime.fields import Setting
from osmo_runtime.texts import counted
from osmo_transport import DeadLetter, Queue, QueueConfig, UsageError
from osmo_transport.bounds import Count
from osmo_transport.lean import dataclass

PAGE = 500
"""Dead letters that are asked for at a time; large ones come in smaller pages."""

STEP = 100
"""Dead letters that are replayed or dropped at a time: what is done is known that exactly."""

Letters = Annotated[tuple[str, ...], Setting(positional=True, metavar="LETTER")]

_COLUMNS = (
    Column("LETTER", "letter", 16),
    Column("AGE", "age_seconds", 4, right=True, show=brief),
    Column("BACKEND", "backend", 10),
    Column("KIND", "kind", 10),
    Column("KEY", "key", 14),
    Column("REASON", "reason"),
)


@dataclass(frozen=True, kw_only=True)
class LettersConfig(FilterConfig):
    """What every command that goes through dead letters can be told."""

    reason: str | None = None
    """Only those with this text in their reason; the case does not matter."""

    @property
    def wanted(self) -> Wanted:
        """Which of them it is about."""
        return Wanted(self.backend, self.kind, self.older_than, self.reason)


@dataclass(frozen=True, kw_only=True)
class ListConfig(LettersConfig):
    """Lists the dead letters of a queue, the oldest first. JSON holds all of each, with the body of
    the report. The exit code is 3 if there is none."""

    limit: Count = 100
    """Dead letters that are listed."""


@dataclass(frozen=True, kw_only=True)
class ShowConfig(ViewConfig):
    """Shows all of some dead letters, as `dlq list` names them. The exit code is 3 if one of them
    is not there."""

    letters: Letters
    """Those to show."""

    def __post_init__(self) -> None:
        if not self.letters:
            raise ValueError("name at least one dead letter, as `dlq list` does")


@dataclass(frozen=True, kw_only=True)
class ChangeConfig(LettersConfig):
    """What every command that does something with dead letters can be told."""

    letters: Letters = ()
    """Those that are meant; without one, all that the options leave."""
    all: bool = False
    """Do not ask before all of them are meant."""

    def __post_init__(self) -> None:
        if self.letters and (self.all or not self.wanted.everything):
            raise ValueError("name dead letters, or choose among all of them: not both")


@dataclass(frozen=True, kw_only=True)
class ReplayConfig(ChangeConfig):
    """Puts dead letters back into their streams, each with all its attempts before it. A report
    that is older than what is known changes nothing. What is cut short can be run again: no letter
    is lost or doubled. The exit code is 3 if there is none."""

    max_entries: Count = QueueConfig.max_entries
    """Entries that the queue may hold, as the operators are told; beyond it nothing is put back."""


@dataclass(frozen=True, kw_only=True)
class DropConfig(ChangeConfig):
    """Removes dead letters for ever. The exit code is 3 if there is none."""


async def list_letters(config: ListConfig, stop: asyncio.Event) -> None:
    """`dlq list`.

    Raises:
        NothingFoundError: there is no such dead letter.
        TransportError: the queue cannot be used; the text says what to do.
    """
    more = False
    async with await open_queue_of(config) as queue:
        with Listing(_COLUMNS, as_json=config.json) as out:
            async for page in _pages(queue, config.wanted, stop):
                for letter in page:
                    if out.rows == config.limit:
                        more = True
                        break
                    out.add(_row(letter))
                if more:
                    break
        if stop.is_set():
            raise StoppedError(f"stopped after {counted(out.rows, 'dead letter')}")
        if not out.rows:
            raise _none(config.wanted)
    if more:
        hint(f"there are more than these {out.rows}: --limit shows them")


async def show_letters(config: ShowConfig, stop: asyncio.Event) -> None:
    """`dlq show`.

    Raises:
        NothingFoundError: one of them is not there.
        TransportError: the queue cannot be used; the text says what to do.
    """
    missing = dict.fromkeys(config.letters)
    async with await open_queue_of(config) as queue:
        with Listing((), as_json=True) if config.json else _Sheets() as out:
            async for page in _pages(queue, Wanted(None, None, 0.0), stop):
                for letter in page:
                    if letter.id in missing:
                        del missing[letter.id]
                        out.add(_row(letter))
                if not missing:
                    break
    if stop.is_set():
        raise StoppedError("stopped before all of them were found")
    if missing:
        raise NothingFoundError(f"there is no dead letter {', '.join(missing)}")


async def replay(config: ReplayConfig, stop: asyncio.Event) -> None:
    """`dlq replay`.

    Raises:
        UsageError: nobody is there to be asked whether all are meant.
        NothingFoundError: there is no such dead letter, or it was not agreed to.
        StoppedError: it was told to stop half-way.
        TransportError: the queue cannot be used, or is full; the text says what to do.
    """
    async with await open_queue_of(config, config.max_entries) as queue:
        await _Change("replay", "replayed", queue.replay, _REPLAYABLE).run(queue, config, stop)


async def drop(config: DropConfig, stop: asyncio.Event) -> None:
    """`dlq drop`.

    Raises: as `replay`.
    """
    async with await open_queue_of(config) as queue:
        await _Change("drop", "dropped", queue.drop).run(queue, config, stop)


_REPLAYABLE = " with a backend and a message: others cannot be put back, only dropped"


class _Change:
    """What is done with many dead letters, a step at a time."""

    def __init__(
        self,
        verb: str,
        done: str,
        act: Callable[[Collection[str]], Awaitable[int]],
        needed: str = "",
    ) -> None:
        """`needed`: what a letter has to have for it."""
        self._verb = verb
        self._said = done
        self._act = act
        self._needed = needed
        self._count = 0

    async def run(self, queue: Queue, config: ChangeConfig, stop: asyncio.Event) -> None:
        ended = False
        try:
            if config.letters:
                await self._do(config.letters, stop)
            else:
                if not config.all:
                    await self._ask(queue, config.wanted, stop)
                async for page in _pages(queue, config.wanted, stop):
                    await self._do([letter.id for letter in page], stop)
            ended = not stop.is_set()
        finally:
            if self._count or config.json:
                self._tell(config, ended=ended)
        if not ended:
            raise StoppedError(
                f"stopped half-way: {counted(self._count, 'dead letter')} {self._said}"
            )
        if not self._count:
            raise _none(None if config.letters else config.wanted, self._needed)
        if missing := max(0, len(set(config.letters)) - self._count):
            raise NothingFoundError(f"{missing} of them are no dead letters{self._needed}")

    async def _do(self, letters: Collection[str], stop: asyncio.Event) -> None:
        named = list(letters)
        while named and not stop.is_set():
            self._count += await self._act(named[:STEP])
            del named[:STEP]

    def _tell(self, config: ChangeConfig, *, ended: bool) -> None:
        if config.json:
            write_json({self._said: self._count, "complete": ended})
        else:
            least = "" if ended else "at least "
            say(f"{self._said} {least}{counted(self._count, 'dead letter')}")

    async def _ask(self, queue: Queue, wanted: Wanted, stop: asyncio.Event) -> None:
        if not sys.stdin.isatty():
            raise UsageError(f"name the dead letters to {self._verb}, or say --all")
        count = 0
        async for page in _pages(queue, wanted, stop):
            count += len(page)
        if count == 0:
            return
        answer = await _answer(f"{self._verb} {counted(count, 'dead letter')}? [y/N] ", stop)
        if answer.strip().casefold() not in ("y", "yes") and not stop.is_set():
            raise NothingFoundError("nothing was done")


async def _answer(question: str, stop: asyncio.Event) -> str:
    """What is typed at the terminal, or nothing once the command shall stop."""
    sys.stderr.write(question)
    sys.stderr.flush()
    loop, typed = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), typed.set)
    waiting = [asyncio.create_task(event.wait()) for event in (typed, stop)]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        loop.remove_reader(sys.stdin.fileno())
        for task in waiting:
            task.cancel()
    return sys.stdin.readline() if typed.is_set() else ""


async def _pages(
    queue: Queue, wanted: Wanted, stop: asyncio.Event
) -> AsyncIterator[list[DeadLetter]]:
    """The wanted ones of those that there are now, page by page: what is replayed and dies again
    meanwhile is not among them."""
    left, after = (await queue.status()).dead, ""
    while left > 0 and not stop.is_set():
        page = await queue.dead_letters(min(PAGE, left), after)
        if not page:
            return
        left, after = left - len(page), page[-1].id
        if found := [letter for letter in page if wanted.has(letter)]:
            yield found


def _none(wanted: Wanted | None, needed: str = "") -> NothingFoundError:
    """That there is none of those that are `wanted`, or that were named; and what one `needed`."""
    such = "" if wanted is not None and wanted.everything else "such "
    return NothingFoundError(f"there is no {such}dead letter{needed}")


def _row(letter: DeadLetter) -> Mapping[str, object]:
    given_up = {
        "buried": moment(letter.buried),
        "entry": letter.entry,
        "attempts": letter.attempt,
        "reason": letter.reason,
    }
    return {"letter": letter.id, **described(letter), **given_up}


class _Sheets(Listing):
    """All of each, below each other."""

    def __init__(self) -> None:
        super().__init__((), as_json=False)

    def add(self, row: Mapping[str, object]) -> None:
        if self.rows:
            sys.stdout.write("\n")
        self.rows += 1
        say_all(row)
