"""The state store's promises, over SQLite in memory and in a file, and PostgreSQL."""

import itertools
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from osmo_reports.bodies import Condition, UpdatePod, encode_body
from osmo_transport import Ack, Delivery, Message, Outcome, Reject, Retry, Version, new_message
from osmo_worker import WorkerMetrics
from osmo_worker.store import StateStore, Task, Totals, open_store, walk
from tests.worker.harness import BACKEND, STORE, delivery, existence, report, snapshot_end


async def _apply(store: StateStore, *messages: Message) -> Sequence[Outcome]:
    return await store.handle_batch([delivery(message) for message in messages])


async def _only(store: StateStore) -> Task:
    (task,) = await store.tasks()
    return task


async def test_a_report_becomes_a_row(store_url: str) -> None:
    """Every field is there, in types that a program can use."""
    now = datetime(2026, 3, 4, 5, 6, 7, 891000, tzinfo=UTC)
    condition = Condition("Fit", False, "NotFit", 'said "no"', "2026-01-02T03:04:05Z")
    body = UpdatePod(
        "flow",
        "task",
        2,
        "FAILED",
        container="main",
        node="node-1",
        pod_ip="10.0.0.1",
        message="it's broken",
        exit_code=137,
        conditions=(condition,),
        pod="osmo/pod-1",
        created_at="2026-01-02T03:04:05Z",
    )
    message = new_message("update_pod", "k", encode_body(body), version=Version(3, 99), final=True)
    message = msgspec.structs.replace(message, timestamp=now.timestamp() - 5)
    async with open_store(store_url, STORE, clock=now.timestamp) as store:
        assert await _apply(store, message) == [Ack()]
        assert await _only(store) == Task(
            backend=BACKEND,
            workflow_uuid="flow",
            task_uuid="task",
            retry_id=2,
            status="FAILED",
            terminal=True,
            concluded=False,
            exit_code=137,
            message="it's broken",
            node="node-1",
            container="main",
            pod_ip="10.0.0.1",
            pod="osmo/pod-1",
            conditions=(condition,),
            created_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
            status_since=now - timedelta(seconds=5),
            updated_at=now,
            deleted_at=None,
            epoch=3,
            resource_version=99,
            status_epoch=3,
            status_resource_version=99,
        )


async def test_no_exit_code_and_no_creation_time_are_null(store: StateStore) -> None:
    """What is not known is None, not a number or a text that looks like something."""
    await _apply(store, report("one"), report("two", created_at="yesterday"))
    for task in await store.tasks():
        assert (task.exit_code, task.created_at) == (None, None)


@pytest.mark.parametrize("first", ["older", "newer"])
async def test_only_a_newer_version_is_written(store: StateStore, first: str) -> None:
    """By epoch, then by resource version, and never by a clock."""
    older = report(version=(1, 900), status="RUNNING")
    newer = report(version=(2, 5), status="SCHEDULING")
    order = [older, newer] if first == "older" else [newer, older]
    for message in order:
        assert await _apply(store, message) == [Ack()]
    task = await _only(store)
    assert (task.status, task.epoch, task.resource_version) == ("SCHEDULING", 2, 5)


async def test_equal_and_older_versions_are_counted_as_stale(store_url: str) -> None:
    """They are acknowledged, change nothing, and are in the ledger."""
    metrics = WorkerMetrics()
    async with open_store(store_url, STORE, metrics=metrics) as store:
        await _apply(store, report(version=(1, 2)))
        before = await _only(store)
        for version in ((1, 2), (1, 1), (0, 9)):
            assert await _apply(store, report(version=version, status="UNKNOWN")) == [Ack()]
        assert await _only(store) == before
    assert metrics.stale == 3


@pytest.mark.parametrize("terminal", ["COMPLETED", "FAILED", "FAILED_EVICTED"])
@pytest.mark.parametrize("late", [False, True])
async def test_a_terminal_status_is_never_replaced_by_another(
    store: StateStore, terminal: str, late: bool
) -> None:
    """Whichever comes first; the newer report still moves the version."""
    messages = [report(version=(1, 5), status=terminal), report(version=(2, 6), status="RUNNING")]
    for message in reversed(messages) if late else messages:
        await _apply(store, message)
    task = await _only(store)
    assert (task.status, task.terminal) == (terminal, True)
    assert (task.epoch, task.resource_version) == (2, 6)
    assert (task.status_epoch, task.status_resource_version) == (1, 5)


async def test_a_newer_terminal_status_replaces_an_older_one(store: StateStore) -> None:
    """Among terminal ones the version decides."""
    await _apply(store, report(version=(1, 5), status="FAILED", exit_code=1))
    await _apply(store, report(version=(1, 7), status="FAILED_EVICTED", exit_code=3004))
    task = await _only(store)
    assert (task.status, task.exit_code) == ("FAILED_EVICTED", 3004)


async def test_a_deleted_pod_keeps_its_row(store: StateStore) -> None:
    """The row says when the pod went, and a late report does not bring it back."""
    await _apply(store, report(version=(1, 5)))
    await _apply(store, report(version=(1, 7), deleted=True))
    await _apply(store, report(version=(1, 6), status="SCHEDULING"))
    task = await _only(store)
    assert (task.status, task.resource_version) == ("RUNNING", 7)
    assert task.deleted_at is not None
    assert await store.tasks(live_only=True) == []
    assert await store.counts() == {}


async def test_a_delete_of_an_unknown_pod_leaves_its_tombstone(store: StateStore) -> None:
    """Then an update that comes after it, though it is older, is recognised as such."""
    await _apply(store, report(version=(1, 7), deleted=True))
    await _apply(store, report(version=(1, 6)))
    assert (await _only(store)).deleted_at is not None


async def test_a_pod_that_was_created_again_is_live(store: StateStore) -> None:
    """A truly newer report of the key means that there is a pod again."""
    await _apply(store, report(version=(1, 7), deleted=True))
    await _apply(store, report(version=(1, 8)))
    assert (await _only(store)).deleted_at is None


async def test_a_snapshots_end_deletes_what_it_left_out(store: StateStore) -> None:
    """Rows of older epochs are gone; the snapshot's own and other backends' are not."""
    await store.handle_batch([delivery(report("other"), backend="another")])
    await _apply(store, report("gone", version=(1, 5)), report("kept", version=(1, 6)))
    await _apply(store, report("kept", version=(2, 6)), snapshot_end(1, version=(2, 9)))
    assert [(t.backend, t.task_uuid) for t in await store.tasks(live_only=True)] == [
        ("another", "other"),
        (BACKEND, "kept"),
    ]
    gone = (await store.tasks(BACKEND))[0]
    assert (gone.task_uuid, gone.epoch, gone.resource_version) == ("gone", 1, 5)
    assert gone.deleted_at is not None


@pytest.mark.parametrize("killed_after", [4, 8])
async def test_a_snapshots_end_goes_step_by_step(
    store: StateStore, monkeypatch: pytest.MonkeyPatch, killed_after: int
) -> None:
    """Each step looks at a few rows, also where hardly any is left out. Others have their turn
    between two, and where a worker is killed there, the end that comes again marks the rest."""
    monkeypatch.setattr(walk, "STEP_ROWS", 2)
    names = [f"t{number}" for number in range(9)]
    await _apply(store, *(report(name, version=(1, 5)) for name in names))
    await _apply(store, *(report(name, version=(2, 5)) for name in names[:-1]))
    end = delivery(snapshot_end(8, version=(2, 9)))
    steps = store._applier.apply([end])
    for number in range(killed_after):
        await store._database.call(next, steps)
        await _apply(store, report("other", version=(2, 10 + number)))
    steps.close()
    assert len(await store.tasks(live_only=True)) == 10
    assert await store.handle_batch([end]) == [Ack()]
    assert [t.task_uuid for t in await store.tasks(live_only=True)] == ["other", *names[:-1]]


async def test_a_snapshots_end_comes_after_what_was_read_with_it(store: StateStore) -> None:
    """Also when it stands first in its batch."""
    outcomes = await _apply(store, snapshot_end(1, version=(2, 9)), report(version=(2, 6)))
    assert outcomes == [Ack(), Ack()]
    assert (await _only(store)).deleted_at is None


async def test_a_report_of_an_older_epoch_than_the_snapshot_is_a_tombstone(
    store: StateStore,
) -> None:
    """What the snapshot left out stays deleted, however late its last report comes."""
    await _apply(store, snapshot_end(0, version=(2, 9)))
    assert await _apply(store, report(version=(1, 5))) == [Ack()]
    task = await _only(store)
    assert (task.epoch, task.deleted_at is None) == (1, False)


async def test_a_report_of_the_snapshots_epoch_revives_its_row(store: StateStore) -> None:
    """A snapshot applied before one of its reports does no lasting harm, though the report's
    resource version is below the list's."""
    await _apply(store, report(version=(1, 5)), snapshot_end(0, version=(2, 9)))
    assert (await _only(store)).deleted_at is not None
    await _apply(store, report(version=(2, 5)))
    assert (await _only(store)).deleted_at is None


async def test_an_older_snapshot_is_stale(store: StateStore) -> None:
    """It deletes nothing that a newer one has reported."""
    await _apply(store, report(version=(3, 5)), snapshot_end(1, version=(3, 9)))
    await _apply(store, report("new", version=(1, 1)))
    assert await _apply(store, snapshot_end(0, version=(2, 8))) == [Ack()]
    assert len(await store.tasks(live_only=True)) == 1


async def test_a_snapshots_end_waits_for_its_reports(store: StateStore) -> None:
    """While another worker may still hold some of them it is retried; at last it is applied."""
    await _apply(store, report("old", version=(1, 5)), report("new", version=(2, 6)))
    end = snapshot_end(2, version=(2, 9))
    for attempt in range(1, STORE.snapshot_attempts):
        (outcome,) = await store.handle_batch([delivery(end, attempt=attempt)])
        assert isinstance(outcome, Retry)
        assert outcome.reason == "1 of the snapshot's 2 reports are applied"
        assert outcome.after == STORE.snapshot_delay
        assert len(await store.tasks(live_only=True)) == 2
    (outcome,) = await store.handle_batch([delivery(end, attempt=STORE.snapshot_attempts)])
    assert outcome == Ack()
    assert [task.task_uuid for task in await store.tasks(live_only=True)] == ["new"]


async def test_a_snapshot_counts_reports_of_pods_that_went_since(store: StateStore) -> None:
    """A pod that was reported and deleted again is not on its way any more."""
    await _apply(store, report("a", version=(2, 5)), report("b", version=(2, 6)))
    await _apply(store, report("b", version=(2, 10), deleted=True))
    assert await _apply(store, snapshot_end(2, version=(2, 9))) == [Ack()]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
async def test_a_report_of_existence_keeps_its_row_alive(
    store: StateStore, order: tuple[int, ...]
) -> None:
    """Through the end of its snapshot, in any order, and the row shows what it showed before."""
    await _apply(store, report(version=(1, 5), node="node-1"))
    messages = [
        existence(version=(2, 6)),
        snapshot_end(0, version=(2, 9)),
        report(version=(1, 4), status="SCHEDULING"),
    ]
    for index in order:
        assert await _apply(store, messages[index]) == [Ack()]
    task = await _only(store)
    assert (task.status, task.node, task.deleted_at) == ("RUNNING", "node-1", None)
    assert (task.epoch, task.resource_version) == (2, 6)
    assert (task.status_epoch, task.status_resource_version) == (1, 5)


async def test_a_report_of_existence_is_applied_after_what_was_read_with_it(
    store: StateStore,
) -> None:
    """So that it finds the row of an earlier report, though it stands first in its batch."""
    await _apply(
        store,
        snapshot_end(0, version=(2, 9)),
        existence(version=(2, 5)),
        report(version=(1, 5)),
    )
    assert (await _only(store)).deleted_at is None


async def test_a_report_of_existence_makes_no_row(store: StateStore) -> None:
    """It waits a while for one whose report another worker may hold; at last it is no error."""
    message = existence(version=(2, 5))
    for attempt in range(1, STORE.snapshot_attempts):
        (outcome,) = await store.handle_batch([delivery(message, attempt=attempt)])
        assert isinstance(outcome, Retry)
        assert outcome.after == STORE.snapshot_delay
    last = delivery(message, attempt=STORE.snapshot_attempts)
    assert await store.handle_batch([last]) == [Ack()]
    assert await store.tasks() == []


async def test_a_known_state_follows_a_report_of_existence(store: StateStore) -> None:
    """Also one of the same version, as when time alone made the state known."""
    await _apply(store, report(version=(1, 5)), existence(version=(2, 6)))
    await _apply(store, report(version=(2, 6), status="FAILED"))
    task = await _only(store)
    assert (task.status, task.status_epoch, task.deleted_at) == ("FAILED", 2, None)


async def test_a_report_of_existence_may_delete(store: StateStore) -> None:
    """The row is marked as deleted and shows what it showed before."""
    await _apply(store, report(version=(1, 5)), existence(version=(2, 6)))
    await _apply(store, existence(version=(2, 7), deleted=True))
    task = await _only(store)
    assert (task.status, task.resource_version, task.deleted_at is None) == ("RUNNING", 7, False)


async def test_an_older_report_of_existence_is_stale(store_url: str) -> None:
    """Of an equal version too; and one that a newer snapshot has left out revives nothing."""
    metrics = WorkerMetrics()
    async with open_store(store_url, STORE, metrics=metrics) as store:
        await _apply(store, report(version=(2, 5)))
        before = await _only(store)
        await _apply(store, existence(version=(2, 5)), existence("absent", version=(2, 5)))
        await _apply(store, existence(version=(1, 9), deleted=True))
        assert await _only(store) == before
        assert metrics.stale == 2
        await _apply(store, snapshot_end(0, version=(4, 9)), existence(version=(3, 5)))
        assert (await _only(store)).deleted_at is not None


async def test_what_cannot_be_handled_is_rejected_for_itself_alone(store: StateStore) -> None:
    """Each has its reason; the rest of the batch is applied."""
    version = Version(1, 1)
    body = encode_body(UpdatePod("flow", "huge", 2**63, "RUNNING"))
    outcomes = await _apply(
        store,
        report("good"),
        new_message("update_pod", "bad", b"\xc1", version=version),
        new_message("from_the_future", "key", b"", version=version),
        new_message("update_pod", "huge", body, version=version),
        snapshot_end(0, version=(1, 1), kind="update_node"),
        report("fine"),
    )
    reasons = [outcome.reason if isinstance(outcome, Reject) else "" for outcome in outcomes]
    assert "cannot be decoded" in reasons[1]
    assert "unknown kind 'from_the_future'" in reasons[2]
    assert "<= 9223372036854775807" in reasons[3]
    assert "no table for snapshot_end" in reasons[4]
    assert (reasons[0], reasons[5]) == ("", "")
    assert [task.task_uuid for task in await store.tasks()] == ["fine", "good"]


async def test_tasks_are_found_by_backend_workflow_and_pod(store: StateStore) -> None:
    """Also a task whose pod is another one now, in a batch of any size."""
    first = [report(f"t{n}", flow=f"f{n % 3}", pod=f"osmo/p{n}") for n in range(60)]
    assert await _apply(store, *first) == [Ack()] * 60
    await store.handle_batch([delivery(report("t1", flow="f1", pod="osmo/p1"), backend="other")])
    renamed = report("t1", flow="f1", pod="osmo/new", version=(1, 2))
    await _apply(store, renamed, *(report(f"t{n}", flow="f0", version=(1, 2)) for n in (0, 3)))

    def names(tasks: list[Task]) -> set[tuple[str, str]]:
        return {(task.backend, task.task_uuid) for task in tasks}

    assert names(await store.tasks(pod="osmo/p1")) == {("other", "t1")}
    assert names(await store.tasks(pod="osmo/new")) == {(BACKEND, "t1")}
    assert [task.pod for task in await store.tasks(pod="osmo/new")] == ["osmo/new"]
    assert len(await store.tasks(workflow="f1")) == 21
    assert names(await store.tasks("other", workflow="f1")) == {("other", "t1")}
    assert await store.tasks("other", workflow="f2") == []


@pytest.mark.postgres
async def test_what_a_database_refuses_costs_its_batch_nothing(postgres: str) -> None:
    """A name that no index of PostgreSQL takes, wherever in a batch it stands."""
    long = random.Random(1).randbytes(5000).hex()
    async with open_store(postgres, STORE) as store:
        reports = [report(f"task-{number}") for number in range(9)]
        reports[4] = report("task-4", flow=long)
        outcomes = await _apply(store, *reports)
        assert [isinstance(outcome, Reject) for outcome in outcomes] == [
            number == 4 for number in range(9)
        ]
        assert isinstance(outcomes[4], Reject)
        assert "the database refuses a row" in outcomes[4].reason
        assert len(await store.tasks()) == 8


async def test_an_unknown_field_is_ignored(store: StateStore) -> None:
    """A newer listener's report is applied as far as this version knows it."""
    newer = b"\x85\xadworkflow_uuid\xa4flow\xa9task_uuid\xa1t\xa8retry_id\x00"
    newer += b"\xa6status\xa7RUNNING\xa7mystery\x2a"
    assert await _apply(store, new_message("update_pod", "k", newer)) == [Ack()]
    assert (await _only(store)).status == "RUNNING"


async def test_a_nul_in_a_text_is_replaced(store: StateStore) -> None:
    """A container may write anything into its last message; its pod's end is not lost for it."""
    condition = Condition("Ready", True, "a\0b", "literally \\u0000")
    body = UpdatePod("flow", "task", 0, "FAILED", message="a\0b", conditions=(condition,))
    message = new_message("update_pod", "k", encode_body(body), version=Version(1, 1), final=True)
    assert await _apply(store, message) == [Ack()]
    task = await _only(store)
    assert task.message == "a\ufffdb"
    assert task.conditions == (Condition("Ready", True, "a\ufffdb", "literally \\u0000"),)


async def test_counts_are_of_live_tasks_by_status(store: StateStore) -> None:
    """For one backend or for all."""
    await _apply(store, report("a"), report("b"), report("c", status="COMPLETED"))
    await _apply(store, report("d", deleted=True))
    await store.handle_batch([delivery(report("e"), backend="another")])
    assert await store.counts() == {"COMPLETED": 1, "RUNNING": 3}
    assert await store.counts(BACKEND) == {"COMPLETED": 1, "RUNNING": 2}


async def test_totals_are_of_all_tasks(store: StateStore) -> None:
    """Those of pods that are gone included; a workflow runs while one of its tasks does."""
    done = report("x", flow="done", status="FAILED")
    await _apply(store, report("a"), report("b", deleted=True), report("c", status="COMPLETED"))
    await _apply(store, done)
    await store.handle_batch([delivery(report("e", flow="else"), backend="another")])
    ended = {"COMPLETED": 1, "FAILED": 1}
    assert await store.totals(BACKEND) == Totals(
        statuses={**ended, "RUNNING": 2}, deleted=1, workflows=2, running=1
    )
    assert await store.totals() == Totals(
        statuses={**ended, "RUNNING": 3}, deleted=1, workflows=3, running=2
    )


async def test_totals_of_nothing(store: StateStore) -> None:
    """An empty store has figures too."""
    assert await store.totals() == Totals(statuses={}, deleted=0, workflows=0, running=0)


async def test_rows_outlive_the_store_object(store_url: str) -> None:
    """A worker that restarts goes on with what it had written."""
    if store_url == "memory://":
        pytest.skip("lives as long as the object, by its promise")
    async with open_store(store_url, STORE) as store:
        await _apply(store, report(version=(1, 5)), snapshot_end(1, version=(1, 9)))
    async with open_store(store_url, STORE) as store:
        await _apply(store, report(version=(1, 4), status="STALE"), report("x", version=(0, 1)))
        assert [task.task_uuid for task in await store.tasks(live_only=True)] == ["task"]
        assert (await store.tasks())[0].status == "RUNNING"


async def test_an_empty_batch_is_no_error(store: StateStore) -> None:
    """There is nothing to do, and nothing is done."""
    assert await store.handle_batch(list[Delivery]()) == []
