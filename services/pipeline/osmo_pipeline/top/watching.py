"""Asking the queue, the store and the services, each in its time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from osmo_pipeline.fleet import Patience, State, Stored, members, standings
from osmo_pipeline.top.board import Board, Queued, flow, gauges, latencies
from osmo_pipeline.top.figures import Figures
from osmo_reports.bodies import Registration
from osmo_reports.directory import Directory
from osmo_transport import Queue, TransportError
from osmo_transport.lean import dataclass
from osmo_worker.errors import WorkerError

if TYPE_CHECKING:
    from osmo_worker.store import StateStore

ANSWER_TIMEOUT = 5.0
"""Seconds until what does not answer is said to be away; the others wait for it with their next
answers."""

COUNTING_TIME = 0.1
"""Seconds of one look in which rows are counted: at the default interval a twentieth of the time.
A million tasks then take some thirty looks."""

_ORDER = list(State)


class Services(Protocol):
    """Tells the figures of services."""

    async def ask(self) -> Figures:
        """Those of this moment; a service that is away is among their failures."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Whom to ask."""

    place: str
    """The URL of the queue, without its password."""
    queue: Queue
    directory: Directory
    store: "StateStore | None" = None
    services: Services | None = None


class Watch:
    """Knows how it goes, as of the last looks. Latencies are those of the last `window` of them.
    `clock` gives seconds that only rise, `wall` seconds since the Unix epoch."""

    def __init__(
        self,
        sources: Sources,
        patience: Patience,
        *,
        window: int = 1,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._sources = sources
        self._patience = patience
        self._window = window
        self._clock = clock
        self._wall = wall
        self._registered: dict[str, Registration] = {}
        self._queued: list[Queued] = []
        self._stored: Stored | None = None
        if (store := sources.store) is not None:
            self._stored = Stored(rows={}, tasks={}, nodes={}, counted=False)
            self._tallies = store.tally_tasks(), store.tally_nodes()
        self._figures: list[Figures] = []
        self.failures: dict[str, Exception] = {}
        """Why the last question was not answered, by who was asked."""

    async def look(self, *, counted: bool = False) -> None:
        """Ask all of them, at the same time; none of them is waited for longer than
        `ANSWER_TIMEOUT`, but for rows that are all to be `counted`."""
        questions: dict[str, Callable[[], Awaitable[None]]] = {"queue": self._ask_queue}
        if (store := self._sources.store) is not None:
            questions["store"] = partial(self._ask_store, store, counted=counted)
        if (services := self._sources.services) is not None:
            questions["services"] = partial(self._ask_services, services)
        async with asyncio.TaskGroup() as asking:
            for name, question in questions.items():
                asking.create_task(self._ask(name, question))

    async def _ask(self, name: str, question: Callable[[], Awaitable[None]]) -> None:
        try:
            await question()
        except TimeoutError:
            self.failures[name] = TransportError(f"did not answer within {ANSWER_TIMEOUT:g} s")
        except (TransportError, WorkerError) as exc:
            self.failures[name] = exc
        else:
            self.failures.pop(name, None)

    async def _ask_queue(self) -> None:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            queue = self._sources.queue
            self._registered = await self._sources.directory.backends()
            status = await queue.status()
            now = Queued(self._clock(), self._wall(), status, await standings(queue))
        self._queued = [*self._queued[-1:], now]

    async def _ask_store(self, store: "StateStore", *, counted: bool) -> None:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            rows = {row.name: row for row in await store.backends()}
        tasks, nodes = self._tallies
        until, rounds = self._clock() + COUNTING_TIME, min(tasks.rounds, nodes.rounds)
        while min(tasks.rounds, nodes.rounds) == rounds:
            if not counted and self._clock() >= until:
                break
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await (tasks if tasks.rounds == rounds else nodes).step()
        known = bool(tasks.rounds and nodes.rounds)
        self._stored = Stored(rows=rows, tasks=tasks.counts, nodes=nodes.counts, counted=known)

    async def _ask_services(self, services: Services) -> None:
        self._figures = [*self._figures[-self._window :], await services.ask()]

    def board(self) -> Board:
        """What is known now. Of who does not answer any more, the backends that he told of stay."""
        queued, figures = self._queued, self._figures
        answers = "queue" not in self.failures
        found = members(
            self._registered,
            queued[-1].standings if queued else (),
            self._stored,
            self._patience,
            self._wall(),
        )
        problems = [f"{name}: {failure}" for name, failure in self.failures.items()]
        if figures:
            problems += [f"{url}: {why}" for url, why in figures[-1].failures.items()]
        return Board(
            place=self._sources.place,
            wall=self._wall(),
            status=queued[-1].status if queued and answers else None,
            flow=flow(*queued) if len(queued) == 2 and answers else None,
            members=sorted(found, key=lambda member: _ORDER.index(member.state)),
            latencies=latencies(figures[0] if len(figures) > 1 else None, figures[-1])
            if figures
            else {},
            gauges=gauges(figures[-1]) if figures else {},
            problems=problems,
        )
