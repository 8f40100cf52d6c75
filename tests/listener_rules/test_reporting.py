"""A listener made of one function: what is kept for it."""

import random
import sqlite3
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osmo_listener.informer import ObjectMeta
from osmo_listener.listeners import ObjectListener, Report
from osmo_listener.listeners.objects import Pod, PodMetadata, PodStatus
from osmo_reports.bodies import decode_body
from osmo_transport import Ack, Delivery, Message, Policy, Refusal, Version, kinds
from tests.examples import names_of

T0 = 1_700_000_000.0
LATEST, EVERY = "test_latest", "test_every"


@pytest.fixture(autouse=True, scope="module")
def own_kinds() -> Iterator[None]:
    """What is registered here is forgotten afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_kinds", "_weights", "latest_kinds"):
            patch.setattr(kinds, name, getattr(kinds, name).copy())
        kinds.register_kind(LATEST, Policy.LATEST)
        kinds.register_kind(EVERY, Policy.EVERY)
        yield


def pod(name: str, phase: str, version: int, uid: str = "") -> Pod:
    metadata = PodMetadata(
        name=name, namespace="ns", uid=uid or name, resource_version=str(version)
    )
    return Pod(metadata=metadata, status=PodStatus(phase=phase))


def phases(old: Pod | None, new: Pod | None, now: float) -> list[Report]:
    """The phase of a pod, and what it was; of a pod called `mute` nothing."""
    item = new or old
    assert item is not None
    if item.metadata.name == "bad" and item.status.phase == "odd":
        raise ZeroDivisionError("odd")
    if item.metadata.name == "mute":
        return []
    payload = "gone" if new is None else new.status.phase
    return [Report(item.metadata.name, payload.encode(), final=new is None)]


def listener(kind: str = LATEST, report: Any = phases) -> ObjectListener[Pod]:
    """Of epoch 1."""
    made: ObjectListener[Pod] = ObjectListener(kind, report)
    made.restart(1)
    return made


def short(messages: Any) -> list[tuple[str, str, int]]:
    """Key, payload and revision of each."""
    return [(m.key, m.payload.decode(), m.version.revision) for m in messages]


def test_each_change_becomes_a_message() -> None:
    """With the version of its object, and of a deletion that of the event."""
    made = listener()
    a, b = pod("a", "Pending", 5), pod("a", "Running", 7)
    (first,) = made.on_change(None, a, 5, T0)
    assert (first.kind, first.key, first.version) == (LATEST, "a", Version(1, 5))
    assert (first.payload, first.final, first.timestamp) == (b"Pending", False, T0)
    assert short(made.on_change(a, b, 7, T0)) == [("a", "Running", 7)]
    (last,) = made.on_change(b, None, 9, T0)
    assert (last.payload, last.version, last.final) == (b"gone", Version(1, 9), True)


def test_the_same_again_is_sent_of_an_every_kind_alone() -> None:
    """Of a latest kind nobody would see a difference."""
    before, after = pod("a", "Running", 5), pod("a", "Running", 6)
    for kind, sent in ((LATEST, []), (EVERY, [("a", "Running", 6)])):
        made = listener(kind)
        made.on_change(None, before, 5, T0)
        assert short(made.on_change(before, after, 6, T0)) == sent
        assert short(made.on_change(after, after, 6, T0)) == sent


def test_something_new_of_what_has_not_changed_has_a_higher_version() -> None:
    """As what time alone has to say: the newer report wins."""
    made = listener(report=lambda old, new, now: [Report("a", f"{now:.0f}".encode())])
    item = pod("a", "Running", 5)
    versions = [made.on_change(item, item, 5, now)[0].version for now in (1, 2, 3)]
    assert versions == [Version(1, 5), Version(1, 6), Version(1, 7)]
    assert made.on_change(item, None, 6, 4)[0].version == Version(1, 8)
    again = pod("a", "Pending", 7, uid="other")
    assert made.on_change(None, again, 7, 5)[0].version == Version(1, 9)


def test_a_new_epoch_reports_all_that_live_and_ends() -> None:
    """As if they were new, in the new epoch; then the count tells a store that nothing is left."""
    seen: list[tuple[Pod | None, Pod | None]] = []

    def noted(old: Pod | None, new: Pod | None, now: float) -> list[Report]:
        seen.append((old, new))
        return phases(old, new, now)

    made = listener(report=noted)
    a, b, mute = pod("a", "Running", 5), pod("b", "Running", 6), pod("mute", "Running", 7)
    for item in (a, b, mute):
        made.on_change(None, item, 0, T0)
    made.restart(2)
    seen.clear()
    changed = pod("b", "Failed", 9)
    assert [m.version.epoch for m in made.on_change(b, changed, 9, T0)] == [2]
    *live, end = made.snapshot([a, changed, mute], 9, T0)
    assert short(live) == [("a", "Running", 5)]
    assert seen == [(None, changed), (None, a), (None, mute)]
    assert (end.kind, end.key, end.version) == ("snapshot_end", LATEST, Version(2, 9))
    assert decode_body("snapshot_end", end.payload).count == 2


def test_what_a_snapshot_does_not_hold_is_reported_as_gone() -> None:
    """If it was known, and the change that tells so is still to come."""
    made = listener()
    made.on_change(None, pod("a", "Running", 5), 5, T0)
    gone, end = made.snapshot([], 8, T0)
    assert short([gone]) == [("a", "gone", 8)]
    assert end.kind == "snapshot_end"
    assert made.on_change(pod("a", "Running", 5), None, 8, T0) == []


def test_what_is_refused_of_a_live_object_ends_no_snapshot() -> None:
    """A table would take it for gone. Not of what is gone, of another kind or an older epoch; and
    the next report of it is tried, be it the same."""

    def refused(key: str, kind: str = LATEST, epoch: int = 1) -> None:
        refusal = Refusal("id", kind, key, "too large", Version(epoch, 5))
        assert made.refused(refusal, T0) == ()

    made = listener()
    a, b = pod("a", "Running", 5), pod("b", "Running", 6)
    made.on_change(None, a, 5, T0)
    made.on_change(None, b, 6, T0)
    refused("a", kind=EVERY)
    refused("a", epoch=0)
    refused("gone")
    assert [m.kind for m in made.snapshot([a, b], 9, T0)] == ["snapshot_end"]
    made.restart(2)
    snapshot = made.snapshot([a, b], 9, T0)
    assert next(snapshot).key == "a"
    refused("a", epoch=2)
    assert [m.key for m in snapshot] == ["b"]
    assert short(made.on_change(a, a, 5, T0)) == [("a", "Running", 5)]
    made.restart(3)
    assert [m.kind for m in made.snapshot([a, b], 9, T0)] == [LATEST, LATEST, "snapshot_end"]


def test_a_restart_ends_the_snapshot_before_it() -> None:
    """The next one begins anew."""
    made = listener()
    snapshot = made.snapshot([pod("a", "Running", 5), pod("b", "Running", 6)], 6, T0)
    next(snapshot)
    made.restart(2)
    assert list(snapshot) == []


def test_a_function_that_raises_leaves_one_object_out(caplog: pytest.LogCaptureFixture) -> None:
    """It is named once, the others go on, and no snapshot ends that would delete its rows."""
    made = listener()
    good, bad = pod("good", "Running", 5), pod("bad", "odd", 6)
    (*live,) = made.snapshot([bad, good], 6, T0)
    assert short(live) == [("good", "Running", 5)]
    assert made.on_change(bad, bad, 6, T0) == []
    assert made.failures == 2
    assert (
        caplog.text.count("test_latest of ns/bad cannot be reported: ZeroDivisionError: odd") == 1
    )
    made.restart(2)
    healed = pod("bad", "Running", 8)
    assert short(made.on_change(bad, healed, 8, T0)) == [("bad", "Running", 8)]
    assert [m.kind for m in made.snapshot([healed, good], 8, T0)] == [LATEST, "snapshot_end"]


TEXT: Any = "text"


@pytest.mark.parametrize("wrong", [None, 5, [None], ["abc"], [Report("a", TEXT)]])
def test_what_is_no_report_is_left_out(wrong: Any) -> None:
    """A function may return anything; the listener goes on."""
    made = listener(report=lambda old, new, now: wrong)
    assert made.on_change(None, pod("a", "Running", 5), 5, T0) == []
    assert made.failures == 1


class Table:
    """The handler of the documents, over a database in memory."""

    def __init__(self, handler: Any) -> None:
        self.handler = handler
        self.database = sqlite3.connect(":memory:")
        self.database.executescript(EXAMPLE.TABLES)

    def apply(self, message: Message) -> None:
        self.handler._store(self.database, Delivery("1", "jobs", "backend", message))

    def jobs(self) -> dict[str, int]:
        return dict(self.database.execute("SELECT job, active FROM jobs").fetchall())


EXAMPLE: Any = SimpleNamespace()


@pytest.fixture(scope="module", autouse=True)
def example(own_kinds: None) -> None:
    """The module of the documents; its kind and stream are forgotten afterwards."""
    EXAMPLE.__dict__.update(names_of("libs_listener_EXTENDING"))


STEPS = st.lists(
    st.tuples(st.sampled_from(["set", "delete", "miss", "restart"]), st.integers(0, 3)), max_size=25
)


@given(STEPS, st.randoms(use_true_random=False))
def test_the_table_of_the_documents_equals_the_cluster(
    steps: list[tuple[str, int]], order: random.Random
) -> None:
    """Whatever happens, in whatever order the messages come, and however often."""
    made: ObjectListener[Any] = EXAMPLE.JOBS.create(None)
    made.restart(1)
    epoch, version = 1, 10
    live: dict[str, Any] = {}
    messages: list[Message] = list(made.snapshot([], version, T0))
    for what, number in steps:
        name, version = f"job-{number}", version + 1
        old = live.get(name)
        if what == "set":
            uid = old.metadata.uid if old else f"{name}-{version}"
            meta = ObjectMeta(name=name, namespace="ns", uid=uid, resource_version=str(version))
            live[name] = EXAMPLE.Job(meta, EXAMPLE.JobStatus(active=version))
            messages += made.on_change(old, live[name], version, T0)
        elif what == "delete" and old is not None:
            messages += made.on_change(live.pop(name), None, version, T0)
        elif what == "miss":  # the listener is away meanwhile, and starts anew
            live.pop(name, None)
            made = EXAMPLE.JOBS.create(None)
        if what in {"miss", "restart"}:
            epoch += 1
            made.restart(epoch)
            messages += made.snapshot(live.values(), version, T0)
    messages += order.choices(messages, k=5)
    order.shuffle(messages)
    table = Table(EXAMPLE.JobStore())
    for message in messages:
        table.apply(message)
    assert table.jobs() == {f"ns/{name}": job.status.active for name, job in live.items()}


async def test_the_handler_of_the_documents_keeps_what_it_is_given(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the file that it is told to use."""
    monkeypatch.setenv("JOBS_DATABASE", str(tmp_path / "jobs.db"))
    handler = EXAMPLE.JobStore()
    made: ObjectListener[Any] = EXAMPLE.JOBS.create(None)
    made.restart(1)
    meta = ObjectMeta(name="a", namespace="ns", uid="a", resource_version="3")
    told = made.on_change(None, EXAMPLE.Job(meta, EXAMPLE.JobStatus(succeeded=1)), 3, T0)
    batch = [Delivery("1", "jobs", "b", message) for message in told]
    assert await handler.handle_batch(batch) == [Ack()]
    handler._database.close()
    with sqlite3.connect(tmp_path / "jobs.db") as database:
        rows = database.execute("SELECT job, succeeded FROM jobs").fetchall()
    database.close()
    assert rows == [("ns/a", 1)]
