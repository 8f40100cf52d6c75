"""What is known of each backend: by the directory beside the queue, by the queue that its reports
go through, and by the store that they end in. Any may know one that the others do not."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from osmo_reports.bodies import Registration
from osmo_transport import Queue, Standing
from osmo_transport.lean import dataclass

if TYPE_CHECKING:
    # A store needs a database's driver, and not every look needs a store.
    from osmo_worker.store import Backend, StateStore

T = TypeVar("T")

PAGE = 1000
"""Producers that are asked for at a time."""


class State(Enum):
    """How a backend does, in a word; the worst comes first."""

    SILENT = "silent"
    """No heartbeat has come for so long that its listener, or the way to the store, is broken."""
    BLIND = "blind"
    """Its listener reports, and has not heard of its API server for long."""
    AWAY = "away"
    """No process reports it; said only where no store was asked, which tells of heartbeats."""
    OK = "ok"


class Patience(NamedTuple):
    """After how many seconds something counts as lost."""

    silent_after: float
    """Without a heartbeat of a backend."""
    blind_after: float
    """That its listener had not heard of the API server."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What the store knows of all backends."""

    rows: Mapping[str, "Backend"]
    """By name."""
    tasks: Mapping[str, Mapping[str, int]]
    """How many tasks have their pod in the cluster, by backend and status."""
    nodes: Mapping[str, Mapping[bool, int]]
    """How many nodes are in the cluster, by backend and whether they are available."""
    counted: bool = True
    """Whether all are counted: else nothing is known of a backend without counts."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One backend. What the store would know is None where it was not asked."""

    name: str
    state: State
    registration: Registration | None
    """As its listener said when it connected."""
    producers: tuple[Standing, ...]
    """Who reports it or has done so, the last that connected first."""
    row: "Backend | None"
    heartbeat_age: float | None
    """Seconds since its last heartbeat, by the listener's clock and ours; None: none is known."""
    tasks: Mapping[str, int] | None
    """By status, those whose pod is in the cluster."""
    nodes: Mapping[bool, int] | None
    """By whether they are available."""

    @property
    def introduced(self) -> "Registration | Backend | None":
        """What tells its cluster and version. The directory has it from the last that connected."""
        return self.registration or self.row

    @property
    def reporter(self) -> Standing | None:
        """The process that reports it now; of several, the one that connected last."""
        return next((each for each in self.producers if each.holder is not None), None)

    @property
    def epoch(self) -> int | None:
        """The highest that was given out."""
        return max((each.epoch for each in self.producers), default=None)


def members(
    registered: Mapping[str, Registration],
    standings: Iterable[Standing],
    stored: Stored | None,
    patience: Patience,
    now: float,
) -> list[Member]:
    """All backends that any of the three knows, in the order of their names; `now` is in seconds
    since the Unix epoch."""
    producers: dict[str, list[Standing]] = defaultdict(list)
    for standing in standings:
        producers[standing.producer.backend].append(standing)
    rows = {} if stored is None else stored.rows
    found = []
    for name in sorted(registered.keys() | producers.keys() | rows.keys()):
        its_own = sorted(producers[name], key=lambda each: each.opened, reverse=True)
        row, age = rows.get(name), None
        if row is not None and row.last_heartbeat is not None:
            age = max(0.0, now - row.last_heartbeat.timestamp())
        if stored is not None:
            state = _state(row, age, patience)
        else:
            state = State.OK if any(each.holder for each in its_own) else State.AWAY
        found.append(
            Member(
                name=name,
                state=state,
                registration=registered.get(name),
                producers=tuple(its_own),
                row=row,
                heartbeat_age=age,
                tasks=None if stored is None else _counts(stored, stored.tasks.get(name)),
                nodes=None if stored is None else _counts(stored, stored.nodes.get(name)),
            )
        )
    return found


def _state(row: "Backend | None", age: float | None, patience: Patience) -> State:
    if row is None or age is None or age > patience.silent_after:
        return State.SILENT
    if max((row.watch_ages or {}).values(), default=0.0) > patience.blind_after:
        return State.BLIND
    return State.OK


def _counts(stored: Stored, counts: Mapping[T, int] | None) -> Mapping[T, int] | None:
    return {} if counts is None and stored.counted else counts


async def standings(queue: Queue) -> list[Standing]:
    """All producers that the queue remembers.

    Raises:
        QueueUnavailableError: the store does not answer.
    """
    found: list[Standing] = []
    while page := await queue.producers(PAGE, found[-1] if found else None):
        found += page
    # One that connects meanwhile is told twice: where it stands now is what counts.
    return list({each.producer: each for each in found}.values())


async def all_of(store: "StateStore") -> Stored:
    """What the store knows of all backends. It reads all tasks and nodes, some at a time.

    Raises:
        StoreUnavailableError: the database does not answer.
    """
    return Stored(
        rows={row.name: row for row in await store.backends()},
        tasks=await store.tally_tasks().complete(),
        nodes=await store.tally_nodes().complete(),
    )
