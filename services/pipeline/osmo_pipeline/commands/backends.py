"""`osmo-pipeline backends`: who reports, what is known of each, and how to be rid of one."""

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import field
from datetime import datetime
from typing import TYPE_CHECKING

from osmo_pipeline.commands.contents import moment
from osmo_pipeline.commands.output import (
    Column,
    Listing,
    brief,
    hint,
    say,
    say_all,
    write_json,
)
from osmo_pipeline.commands.places import directory_of, open_queue_of, queue_of, store_of
from osmo_pipeline.config import BackendConfig, PatienceConfig, StorePasswordConfig, ViewConfig
from osmo_pipeline.errors import NothingFoundError, RefusedError, StoppedError
from osmo_pipeline.fleet import Member, State, Stored, all_of, members, standings
from osmo_reports.conditions import DEFAULT_RULES
from osmo_reports.directory import Origin, open_directory
from osmo_runtime.queues import store_url
from osmo_runtime.texts import counted
from osmo_transport import QueueUnavailableError
from osmo_transport.bounds import Seconds
from osmo_transport.lean import dataclass
from osmo_worker.config import StoreConfig

if TYPE_CHECKING:
    from osmo_worker.store import Backend, StateStore

MOST_NODES = 20
"""Nodes that are not available, of which `backends show` tells the names."""


def _nodes(counts: Mapping[str, int]) -> str:
    return f"{counts['available']}/{sum(counts.values())}"


def _tasks(counts: Mapping[str, int]) -> str:
    return str(sum(counts.values()))


_COLUMNS = (
    Column("BACKEND", "backend", 18),
    Column("STATE", "state", 6),
    Column("HEARD", "heartbeat_age_seconds", 5, right=True, show=brief),
    Column("SINCE", "reporting_seconds", 5, right=True, show=brief),
    Column("TASKS", "tasks", 6, right=True, show=_tasks),
    Column("NODES", "nodes", 9, right=True, show=_nodes),
    Column("VERSION", "version", 8),
    Column("BY", "credentials", 20, show=" ".join),
    Column("FROM", "address"),
)


@dataclass(frozen=True, kw_only=True)
class FleetConfig(PatienceConfig, ViewConfig, StorePasswordConfig):
    """What every command about all backends can be told."""

    store: str | None = field(default=None, repr=False)
    """URL of the workers' state store (sqlite, postgresql), which knows heartbeats, tasks and
    nodes; none: they are not shown."""


@dataclass(frozen=True, kw_only=True)
class ListConfig(FleetConfig):
    """Lists the backends that the operators' queue, the directory beside it, or the store knows. In
    a table `HEARD` is how old the last heartbeat is, `SINCE` for how long the process reports that
    does so now, `NODES` how many are available, and `BY` the credentials that let those in who
    report it: each of its sources has a process of its own, and who stands by is not among them.
    The exit code is 3 if there is none."""

    containing: str = ""
    """Only those with this text in their name; the case does not matter."""
    state: State | None = None
    """Only those that are: silent, without a heartbeat for longer than `silent_after`; blind, whose
    listener hears nothing of its cluster; away, with nobody who reports, where no store is named;
    ok."""


@dataclass(frozen=True, kw_only=True)
class ShowConfig(FleetConfig, BackendConfig):
    """Shows all that is known of a backend: its cluster, the processes that report it or did so,
    its rules, and with --store its tasks and nodes. The exit code is 3 if nothing is known."""


@dataclass(frozen=True, kw_only=True)
class ForgetConfig(BackendConfig, ViewConfig):
    """Frees the name of a backend for another cluster, and lets the default rules hold for it. Stop
    its listeners first: they go on, and take the name again when they connect anew before another
    cluster has it. The exit code is 3 if nothing is known of it."""


@dataclass(frozen=True, kw_only=True)
class ResetConfig(BackendConfig, ViewConfig, StorePasswordConfig):
    """Makes good what no report of a backend reaches any more, because something was reported or
    given out with an epoch of the future: its listeners begin anew, and what they then report
    counts. Let the workers catch up first: what waits in the queue is applied later."""

    store: str = field(repr=False)
    """URL of the workers' state store (sqlite, postgresql)."""


@dataclass(frozen=True, kw_only=True)
class PurgeConfig(BackendConfig, ViewConfig, StorePasswordConfig):
    """Removes all rows of a backend from the store for ever: tasks, nodes, usage, events and
    itself. It is refused while the backend is reported. What is cut short can be run again. The
    exit code is 3 if the store knows no such backend."""

    store: str = field(repr=False)
    """URL of the workers' state store (sqlite, postgresql)."""
    silent_after: Seconds = StoreConfig.silent_after
    """Seconds for which the store must not have heard of it."""
    force: bool = False
    """Remove them although the backend may be reported: what is reported later makes rows anew."""


async def list_backends(config: ListConfig, _: asyncio.Event) -> None:
    """`backends list`.

    Raises:
        NothingFoundError: there is no such backend.
        TransportError: the queue cannot be used; the text says what to do. What the store tells is
            listed before.
        WorkerError: the store cannot be used; the text says what to do.
    """
    stored, away = None, None
    if config.store is not None:
        async with await store_of(store_url(config.store, config.store_password_file)) as store:
            stored = await all_of(store)
    try:
        known = await _members(config, stored)
    except QueueUnavailableError as exc:
        if stored is None:
            raise
        away, known = exc, members({}, (), stored, config.patience, time.time())
    found = [each for each in known if _is_wanted(each, config)]
    with Listing(_COLUMNS, as_json=config.json) as out:
        for member in found:
            out.add(described(member, time.time()))
    if away is not None:
        raise away
    if not found:
        raise NothingFoundError("there is no such backend")
    if config.store is None:
        hint("--store tells of heartbeats, tasks and nodes")


async def show_backend(config: ShowConfig, _: asyncio.Event) -> None:
    """`backends show`.

    Raises: as `list_backends`.
    """
    stored, unavailable = None, None
    if config.store is not None:
        async with await store_of(store_url(config.store, config.store_password_file)) as store:
            stored, unavailable = await _stored(store, config.backend)
    found = [each for each in await _members(config, stored) if each.name == config.backend]
    async with directory_of(config) as directory:
        rules = (await directory.rules()).get(config.backend)
    if not found and rules is None:
        raise NothingFoundError(f"nothing is known of a backend {config.backend!r}")
    row: dict[str, object] = {"backend": config.backend}
    for member in found:
        row |= described(member, time.time())
    row["unavailable_nodes"] = unavailable
    row["rules_version"] = None if rules is None else rules.version
    row["rules_origin"] = Origin.DEFAULT if rules is None else rules.origin
    row["rules"] = DEFAULT_RULES if rules is None else rules.rules
    if config.json:
        write_json(row)
    else:
        say_all(row)


async def purge_backend(config: PurgeConfig, stop: asyncio.Event) -> None:
    """`backends purge`.

    Raises:
        NothingFoundError: the store knows no such backend, or not any more.
        RefusedError: the backend is reported.
        StoppedError: it was told to stop half-way.
        TransportError: the queue cannot be used; the text says what to do.
        WorkerError: the store cannot be used, and only a part may be done.
    """
    removed: Counter[str] = Counter()
    async with await store_of(store_url(config.store, config.store_password_file)) as store:
        # Not those of the queue alone: it would be of no use to be refused for another one's store.
        if await _row_of(store, config.backend) is None:
            raise NothingFoundError(f"{store.url} knows no backend {config.backend!r}")
        if not config.force:
            await _check_unreported(config, store)
        try:
            async with aclosing(store.purge(config.backend, force=config.force)) as steps:
                async for step in steps:
                    removed[step.rows] += step.removed
                    if stop.is_set():
                        break
        finally:
            _tell_purged(config, removed)
        if removed["backends"]:
            return
        if stop.is_set():
            raise StoppedError("stopped half-way: run it again for the rest")
        if await _row_of(store, config.backend) is None:
            raise NothingFoundError(f"{store.url} knows no backend {config.backend!r} any more")
    raise RefusedError(
        f"{config.backend} was heard of meanwhile: stop its listeners, and run it again"
    )


async def _row_of(store: "StateStore", backend: str) -> "Backend | None":
    return next(iter(await store.backends(backend)), None)


def _tell_purged(config: PurgeConfig, removed: Mapping[str, int]) -> None:
    complete = bool(removed["backends"])
    if config.json:
        write_json({"backend": config.backend, "removed": dict(removed), "complete": complete})
        return
    counts = ", ".join(
        f"{count} {rows.removesuffix('s') if count == 1 else rows}"
        for rows, count in removed.items()
        if rows != "backends"
    )
    say(f"{config.backend}: removed {counts or 'nothing'}{' and itself' if complete else ''}")


async def _check_unreported(config: PurgeConfig, store: "StateStore") -> None:
    """Refuse to purge what is reported.

    Raises:
        NothingFoundError: somebody else has purged it.
        RefusedError: a process holds the place, or the store has just heard of the backend.
    """
    async with await open_queue_of(config) as queue:
        for each in await standings(queue):
            if each.producer.backend == config.backend and each.holder is not None:
                raise RefusedError(
                    f"{config.backend} is reported by {each.holder.instance} from"
                    f" {each.holder.address}: stop it, or say --force"
                )
    row = await _row_of(store, config.backend)
    if row is None:
        raise NothingFoundError(f"{store.url} knows no backend {config.backend!r} any more")
    age = time.time() - row.last_seen.timestamp()
    if age <= config.silent_after:
        raise RefusedError(
            f"the store has heard of {config.backend} {brief(max(0.0, age))} ago: stop its"
            " listeners, or say --force"
        )


async def forget_backend(config: ForgetConfig, _: asyncio.Event) -> None:
    """`backends forget`: free a backend's name for another cluster, and drop its rules.

    Raises:
        NothingFoundError: the name is not known.
        TransportError: the queue cannot be used; the text says what to do.
    """
    async with directory_of(config) as directory:
        if not await directory.forget(config.backend):
            raise NothingFoundError(f"no backend is called {config.backend!r}")
    if config.json:
        write_json({"backend": config.backend, "forgotten": True})
    else:
        say(f"{config.backend} is free, and the default rules hold for it")


async def reset_backend(config: ResetConfig, _: asyncio.Event) -> None:
    """`backends reset`: let a backend's listeners begin anew, and their reports count.

    Raises:
        TransportError: the queue cannot be used, or the store is not that of any worker; the text
            says what to do.
        WorkerError: the store cannot be used; the text says what to do.
    """
    async with (
        await store_of(store_url(config.store, config.store_password_file)) as store,
        await open_queue_of(config) as queue,
    ):
        # The store first: the epoch that a listener then gets has to be above all that is left.
        rows = await store.heal(config.backend)
        producers = await queue.reset(config.backend)
    if config.json:
        write_json({"backend": config.backend, "rows": rows, "producers": producers})
    else:
        say(
            f"{config.backend}: took back {counted(rows, 'row')} of the future, and lets"
            f" {counted(producers, 'producer')} begin anew"
        )
    if not producers:
        hint(f"the queue knows no producer of a backend {config.backend!r}")


async def _members(config: FleetConfig, stored: Stored | None) -> list[Member]:
    where = queue_of(config)
    async with await open_queue_of(config) as queue, await open_directory(where) as directory:
        registered = await directory.backends()
        reporting = await standings(queue)
    return members(registered, reporting, stored, config.patience, time.time())


def _is_wanted(member: Member, config: ListConfig) -> bool:
    if config.state is not None and member.state is not config.state:
        return False
    return config.containing.casefold() in member.name.casefold()


async def _stored(store: "StateStore", backend: str) -> tuple[Stored, list[str]]:
    """What the store knows, of the tasks and nodes of this backend alone; and the names of the
    first nodes that are not available."""
    nodes: Counter[bool] = Counter()
    unavailable: list[str] = []
    page = await store.nodes_page(backend, live_only=True)
    while True:
        nodes.update(node.available for node in page.rows)
        unavailable += [node.node for node in page.rows if not node.available]
        if page.after is None:
            break
        page = await store.nodes_page(backend, live_only=True, after=page.after)
    rows = {row.name: row for row in await store.backends(backend)}
    tasks = {backend: await store.counts(backend)}
    return Stored(rows=rows, tasks=tasks, nodes={backend: nodes}), unavailable[:MOST_NODES]


def described(member: Member, now: float) -> dict[str, object]:
    """A backend as programs read it, `now` in seconds since the Unix epoch. Where it is not known
    what a field tells, it is null."""
    introduced, row, reporter = member.introduced, member.row, member.reporter
    holder = None if reporter is None else reporter.holder
    nodes = member.nodes
    return {
        "backend": member.name,
        "state": member.state.value,
        "cluster_uid": introduced and introduced.cluster_uid,
        "namespace": introduced and introduced.namespace,
        "version": introduced and introduced.version,
        "address": holder and holder.address,
        "credentials": _credentials(member),
        "reporting_seconds": holder and round(max(0.0, now - holder.since), 3),
        "epoch": member.epoch,
        "last_heartbeat": row and _written(row.last_heartbeat),
        "heartbeat_age_seconds": None
        if member.heartbeat_age is None
        else round(member.heartbeat_age, 3),
        "watch_ages": row and row.watch_ages,
        "first_seen": row and _written(row.first_seen),
        "last_seen": row and _written(row.last_seen),
        "pods_current_at": row and _written(row.pods_current_at),
        "tasks": member.tasks,
        "nodes": None
        if nodes is None
        else {"available": nodes.get(True, 0), "unavailable": nodes.get(False, 0)},
        "producers": [
            {
                "source": each.producer.source,
                "instance": each.instance,
                "epoch": each.epoch,
                "sequence": each.sequence,
                "opened": moment(each.opened),
                "reports": each.holder is not None,
                "address": each.holder and each.holder.address,
                "credential": (each.holder and each.holder.credential) or None,
                "since": each.holder and moment(each.holder.since),
            }
            for each in member.producers
        ],
    }


def _credentials(member: Member) -> list[str] | None:
    """Of all who report it now, that of the last that connected first; None: none is known."""
    holders = [each.holder for each in member.producers if each.holder is not None]
    return list(dict.fromkeys(each.credential for each in holders if each.credential)) or None


def _written(at: datetime | None) -> str | None:
    return None if at is None else moment(at.timestamp())
