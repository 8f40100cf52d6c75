"""The documents that the page shows: each of bounded size, made by a bounded number of bounded
questions, whatever the store holds.

Texts in them are as others wrote them. The page never takes one for anything but text.
"""

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec

from osmo_pipeline.commands.contents import content
from osmo_pipeline.fleet import Member, State
from osmo_pipeline.top.board import Latency
from osmo_pipeline.web.history import history
from osmo_pipeline.web.pulse import Pulse
from osmo_transport import DeadLetter, Queue, TransportError, UsageError
from osmo_worker.errors import WorkerError
from osmo_worker.store import Key, Node, Page, StateStore, Task

BACKENDS_SHOWN = 50
ROWS_SHOWN = 50
TASKS_SHOWN = 20
"""Tasks of a workflow on one page: each has its history, for which the store is asked."""
EVENTS_SHOWN = 30
"""Newest events in the history of a task."""
LETTERS_SHOWN = 50
STEPS = 5
"""Pages of the store that are looked through to fill one of ours."""
MAX_TEXT = 2000
"""Characters of each text that are told."""
MAX_PAYLOAD = 16 * 1024
"""Bytes of the content of a dead letter beyond which its beginning is told as it is."""
MAX_NAME = 1024
"""Characters of a name that somebody may ask for."""

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME)]
_Number = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

T = TypeVar("T", bound=msgspec.Struct)


class Fleet(msgspec.Struct, frozen=True, tag="fleet", tag_field="view"):
    """All backends whose name has a text in it."""

    page: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    find: Annotated[str, msgspec.Meta(max_length=MAX_NAME)] = ""


class Tasks(msgspec.Struct, frozen=True, tag="tasks", tag_field="view"):
    """A backend, and the tasks whose pods are in the cluster."""

    backend: _Name
    after: tuple[str, str, _Number] | None = None


class Nodes(msgspec.Struct, frozen=True, tag="nodes", tag_field="view"):
    """A backend, and its nodes."""

    backend: _Name
    after: tuple[str] | None = None


class Workflow(msgspec.Struct, frozen=True, tag="workflow", tag_field="view"):
    """The tasks of a workflow, in the first backend that has some or in the named one."""

    workflow: _Name
    backend: str = ""
    after: tuple[str, _Number] | None = None


class OneNode(msgspec.Struct, frozen=True, tag="node", tag_field="view"):
    """A node, and the tasks on it."""

    backend: _Name
    node: _Name
    after: tuple[str, str, _Number] | None = None


class Letters(msgspec.Struct, frozen=True, tag="letters", tag_field="view"):
    """The dead letters, the oldest first."""

    after: Annotated[str, msgspec.Meta(max_length=MAX_NAME)] = ""


View = Fleet | Tasks | Nodes | Workflow | OneNode | Letters


def view_of(query: Mapping[str, str]) -> View:
    """What a request asks for.

    Raises:
        UsageError: it is nothing that can be shown.
    """
    asked: dict[str, Any] = dict(query)
    try:
        if "after" in asked and asked.get("view") != "letters":
            asked["after"] = msgspec.json.decode(asked["after"])
        view: View = msgspec.convert(asked, View, strict=False)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise UsageError(str(exc)) from exc
    parts = [
        part
        for value in msgspec.structs.astuple(view)
        for part in (value if isinstance(value, tuple) else (value,))
    ]
    # No database holds it.
    if any("\0" in part for part in parts if isinstance(part, str)):
        raise UsageError("a name has a NUL character")
    return view


class Views:
    """Makes the documents."""

    def __init__(self, pulse: Pulse, queue: Queue, store: StateStore, token: str) -> None:
        """`token` allows replay and drop; empty: nobody may."""
        self._pulse = pulse
        self._queue = queue
        self._store = store
        self._token = token

    async def load(self, view: View) -> bytes:
        """The document of a view, in JSON; it says in `error` what cannot be looked at."""
        match view:
            case Fleet():
                document = self._fleet(view)
            case Tasks():
                document = await self._told(lambda: self._tasks(view))
            case Nodes():
                document = await self._told(lambda: self._nodes(view))
            case Workflow():
                document = await self._told(lambda: self._workflow(view))
            case OneNode():
                document = await self._told(lambda: self._node(view))
            case Letters():
                document = await self._told(lambda: self._letters(view))
        return msgspec.json.encode({"replay": bool(self._token), **document}, enc_hook=str)

    async def _told(self, make: Callable[[], Awaitable[dict[str, object]]]) -> dict[str, object]:
        try:
            return await make()
        except (WorkerError, TransportError) as exc:
            return {"error": str(exc)}

    def _fleet(self, view: Fleet) -> dict[str, object]:
        board, moments = self._pulse.board, self._pulse.moments
        members = board.members
        totals: Counter[str] = Counter()
        for each in members:
            totals.update(each.tasks or {})
        wanted = view.find.casefold()
        found = [each for each in members if wanted in each.name.casefold()]
        shown = found[view.page * BACKENDS_SHOWN :][:BACKENDS_SHOWN]
        status, last = board.status, moments[-1] if moments else None
        latency = board.latencies.get("change to row", Latency(None, None))
        return {
            "error": "; ".join(board.problems),
            "backends": [self._backend(each) for each in shown],
            "found": len(found),
            "known": len(members),
            "silent": sum(each.state is State.SILENT for each in members),
            "blind": sum(each.state is State.BLIND for each in members),
            "size": BACKENDS_SHOWN,
            "tasks": _most(totals),
            "nodes": _summed(members),
            "counted": all(each.tasks is not None for each in members),
            "flow": {
                "rate": last and last.rate,
                "rates": [each.rate for each in moments],
                "depth": last and last.depth,
                "depths": [each.depth for each in moments],
                "oldest": status and round(max(status.oldest.values(), default=0.0), 1),
                "dead": status and status.dead,
                "consumers": status and status.consumers,
                "p50": latency.p50,
                "p99": latency.p99,
            },
        }

    def _backend(self, member: Member) -> dict[str, object]:
        flow, row = self._pulse.board.flow, member.row
        return {
            "name": member.name,
            "state": member.state.value,
            "heard": _seconds(row.last_heartbeat if row else None),
            "current": _seconds(row.pods_current_at if row else None),
            "version": _cut((member.introduced and member.introduced.version) or ""),
            "tasks": _most(member.tasks or {}),
            "nodes": _summed([member]),
            "rate": round(flow.reported.get(member.name, 0.0), 1) if flow else None,
        }

    def _one_backend(self, name: str) -> dict[str, object]:
        member = next((each for each in self._pulse.board.members if each.name == name), None)
        if member is None:
            return {"name": name, "unknown": True}
        row, introduced = member.row, member.introduced
        holders = [
            (each.producer.source, each.holder)
            for each in member.producers
            if each.holder is not None
        ]
        return {
            **self._backend(member),
            "cluster": _cut((introduced and introduced.cluster_uid) or ""),
            "namespace": _cut((introduced and introduced.namespace) or ""),
            "first": _seconds(row.first_seen if row else None),
            "watches": [
                [_cut(listener), age]
                for listener, age in sorted(((row and row.watch_ages) or {}).items())[:ROWS_SHOWN]
            ],
            "reporters": [
                {
                    "source": _cut(source),
                    "from": _cut(holder.address),
                    "since": round(holder.since),
                }
                for source, holder in holders[:ROWS_SHOWN]
            ],
        }

    async def _tasks(self, view: Tasks) -> dict[str, object]:
        async def page(after: Key, limit: int) -> Page[Task]:
            return await self._store.tasks_page(
                view.backend, live_only=True, after=after, limit=limit
            )

        rows, after = await _filled(page, view.after or ())
        return {
            "backend": self._one_backend(view.backend),
            "tasks": [_task(each) for each in rows],
            "after": after,
        }

    async def _nodes(self, view: Nodes) -> dict[str, object]:
        async def page(after: Key, limit: int) -> Page[Node]:
            return await self._store.nodes_page(
                view.backend, live_only=True, after=after, limit=limit
            )

        rows, after = await _filled(page, view.after or ())
        return {
            "backend": self._one_backend(view.backend),
            "nodes": [
                {
                    "node": each.node,
                    "available": each.available,
                    "conditions": _texts(each.conditions),
                    "updated": _seconds(each.updated_at),
                }
                for each in rows
            ],
            "after": after,
        }

    async def _workflow(self, view: Workflow) -> dict[str, object]:
        backends = await self._store.backends_of(view.workflow, limit=ROWS_SHOWN)
        backend = view.backend or next(iter(backends), "")
        if backend not in backends:
            return {"workflow": view.workflow, "backends": backends, "tasks": [], "after": None}
        rows, after = await self._store.tasks_page(
            backend, workflow=view.workflow, after=view.after or (), limit=TASKS_SHOWN
        )
        tasks = []
        for each in rows:
            events = await self._store.pod_events(each.pod, backend, limit=EVENTS_SHOWN)
            steps = history(each, events)
            tasks.append(
                _task(each)
                | {
                    "message": _cut(each.message),
                    "pod": _cut(each.pod),
                    "history": [
                        [step.at and round(step.at, 3), _cut(step.what), _cut(step.text)]
                        for step in steps
                    ],
                }
            )
        return {
            "workflow": view.workflow,
            "backends": backends,
            "backend": backend,
            "tasks": tasks,
            "after": after,
        }

    async def _node(self, view: OneNode) -> dict[str, object]:
        async def page(after: Key, limit: int) -> Page[Task]:
            return await self._store.tasks_page(
                view.backend, node=view.node, live_only=True, after=after, limit=limit
            )

        node, usage = await self._store.node(view.backend, view.node)
        rows, after = await _filled(page, view.after or ())
        document: dict[str, object] = {
            "backend": view.backend,
            "node": view.node,
            "known": node is not None,
            "tasks": [_task(each) for each in rows],
            "after": after,
        }
        if node is not None:
            used = {} if usage is None else usage.usage
            others = {} if usage is None else usage.non_workflow_usage
            names = sorted({*node.allocatable, *used, *others})[:ROWS_SHOWN]
            document |= {
                "hostname": _cut(node.hostname),
                "available": node.available,
                "gone": _seconds(node.deleted_at),
                "updated": _seconds(node.updated_at),
                "conditions": _texts(node.conditions),
                "taints": _texts([f"{t.key}={t.value}:{t.effect}" for t in node.taints]),
                "labels": _texts([f"{key}={node.labels[key]}" for key in sorted(node.labels)]),
                "resources": [
                    [
                        _cut(name),
                        *(_cut(of.get(name, "")) for of in (node.allocatable, used, others)),
                    ]
                    for name in names
                ],
            }
        return document

    async def _letters(self, view: Letters) -> dict[str, object]:
        page = await self._queue.dead_letters(LETTERS_SHOWN, view.after)
        status = self._pulse.board.status
        return {
            "token": self._token,
            "dead": status and status.dead,
            "letters": [_letter(each) for each in page],
            "after": page[-1].id if len(page) == LETTERS_SHOWN else None,
        }


async def _filled(
    page: Callable[[Key, int], Awaitable[Page[T]]], after: Key
) -> tuple[list[T], Key | None]:
    """As many rows as are shown, where `STEPS` pages of the store have them."""
    rows: list[T] = []
    behind: Key | None = after
    for _ in range(STEPS):
        found, behind = await page(behind or (), ROWS_SHOWN - len(rows))
        rows += found
        if behind is None or len(rows) == ROWS_SHOWN:
            break
    return rows, behind


def _task(task: Task) -> dict[str, object]:
    return {
        "backend": task.backend,
        "workflow": task.workflow_uuid,
        "task": task.task_uuid,
        "retry": task.retry_id,
        "status": _cut(task.status),
        "concluded": task.concluded,
        "code": task.exit_code,
        "node": task.node,
        "since": _seconds(task.status_since),
        "gone": _seconds(task.deleted_at),
    }


def _letter(letter: DeadLetter) -> dict[str, object]:
    message = letter.message
    if message is None or len(message.payload) > MAX_PAYLOAD:
        # a character is at most four bytes long in UTF-8
        payload = letter.raw[: 4 * (MAX_TEXT + 1)].decode(errors="replace")
    else:
        payload = json.dumps(content(message, b""), ensure_ascii=False, default=str)
    return {
        "id": letter.id,
        "stream": _cut(letter.stream),
        "backend": letter.backend,
        "kind": message and _cut(message.kind),
        "key": message and _cut(message.key),
        "attempts": letter.attempt,
        "reason": _cut(letter.reason),
        "buried": round(letter.buried, 3),
        "payload": _cut(payload),
    }


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else round(moment.timestamp(), 3)


def _most(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Statuses with their counts, the most frequent first."""
    return [(_cut(status), count) for status, count in Counter(counts).most_common(40)]


def _summed(members: Sequence[Member]) -> tuple[int, int]:
    """How many nodes are available, of how many."""
    counts = [each.nodes or {} for each in members]
    return sum(each.get(True, 0) for each in counts), sum(sum(each.values()) for each in counts)


def _texts(texts: Sequence[str]) -> list[str]:
    return [_cut(text) for text in texts[:ROWS_SHOWN]]


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
