"""What the tables of transport, queue and workers run, and what they make of it."""

from collections import Counter
from pathlib import Path

import pytest

from osmo_benchmarks import postgres
from osmo_benchmarks.errors import WrongResultError
from osmo_benchmarks.plan import Context
from osmo_benchmarks.programs.load import Event, read
from osmo_benchmarks.programs.worker import Handled
from osmo_benchmarks.shared import Shared
from osmo_benchmarks.systems import Osmo
from osmo_benchmarks.tables import _plans, round_trip, scale_out, sustained, workers
from osmo_benchmarks.tables._cluster import NODES, owner, redis_cluster
from osmo_benchmarks.tables._handling import Played, judge, stage
from osmo_benchmarks.tables._queue import eventually, together

MS = 1_000_000
"""In ns."""


def event(after_ms: float, status: str, workflow: str = "w") -> Event:
    """A report of a plan."""
    return Event(after_ms=after_ms, workflow=workflow, task="t", status=status)


def handled(
    status: str, created: float, done: float, *, superseded: bool = False, workflow: str = "w"
) -> Handled:
    """A record, with times in ms."""
    return Handled(
        at=round(done * MS),
        created=round(created * MS),
        done=round(done * MS),
        key=f"{workflow}/t",
        status=status,
        worker="one",
        superseded=superseded,
    )


def times(played: Played) -> list[float]:
    """Of all events in the order of their ends, in ms."""
    return [each.milliseconds for each in played.processed]


PLAN = [event(0, "SCHEDULING"), event(10, "RUNNING"), event(20, "COMPLETED")]


def context(folder: Path, shared: Shared, system: Osmo | None = None) -> Context:
    """Of a heat of ours."""
    ours = system or Osmo("ws")
    return Context(folder=folder, systems={ours.name: ours}, shared=shared, seed=1, round=0)


def test_the_plan_of_the_study() -> None:
    """19 workflows, 93 events, each workflow in order; the same seed gives the same plan."""
    events = _plans.many_workflows(1)
    assert events == _plans.many_workflows(1) != _plans.many_workflows(2)
    assert len(events) == 93
    assert len({each.workflow for each in events}) == 19
    assert [each.after_ms for each in events] == sorted(each.after_ms for each in events)
    for workflow in {each.workflow for each in events}:
        statuses = [each.status for each in events if each.workflow == workflow]
        assert statuses in ([*_plans.STATUSES], [*_plans.STATUSES[1:]])


def test_the_steady_plan_grows_with_the_workers() -> None:
    """And shares no task with the other plan, whose records are in the same files."""
    events = _plans.steady(1, 4)
    assert len(events) == 4 * 93
    assert max(Counter((each.workflow, each.status) for each in events).values()) == 1
    assert 700 < events[-1].after_ms < 1_000
    others = {each.workflow for each in _plans.many_workflows(1)}
    assert not others & {each.workflow for each in events}


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    """By our sender, and so by the others."""
    _plans.write(PLAN, tmp_path / "plan")
    assert read(tmp_path / "plan") == PLAN


def test_each_event_has_its_time() -> None:
    """From creation to the end of its own handling."""
    records = [
        handled("SCHEDULING", 100, 112),
        handled("RUNNING", 110, 125),
        handled("COMPLETED", 120, 150),
    ]
    played = judge(PLAN, records, ["one", "two"], compacts=False)
    assert times(played) == [12, 15, 30]
    assert played.per_worker == {"one": 3, "two": 0}
    assert played.superseded == 0


def test_a_service_that_handles_ends_with_its_acknowledgement() -> None:
    """Where there is no worker."""
    record = Handled(at=0, created=0, acked=5 * MS, key="w/t", status="COMPLETED")
    played = judge([event(0, "COMPLETED")], [record], [""], compacts=False)
    assert times(played) == [5]
    assert played.per_worker == {"": 1}


def test_a_superseded_event_waits_for_the_newer_one() -> None:
    """Also one that never got to the queue, of which the plan tells when it was made."""
    records = [
        handled("COMPLETED", 121, 140),
        handled("RUNNING", 110, 140, superseded=True),
    ]
    played = judge(PLAN, records, ["one"], compacts=True)
    assert played.superseded == 2
    assert sorted(times(played)) == [19, 30, 40]
    with pytest.raises(WrongResultError, match="never handled: w/t SCHEDULING"):
        judge(PLAN, records, ["one"], compacts=False)


def test_an_older_event_is_done_with_a_newer_one_that_was_faster() -> None:
    """The state that users see was there by then."""
    records = [
        handled("SCHEDULING", 100, 112),
        handled("COMPLETED", 120, 130),
        handled("RUNNING", 110, 150),
    ]
    assert sorted(times(judge(PLAN, records, ["one"], compacts=False))) == [10, 12, 20]


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([handled("SCHEDULING", 0, 1), handled("RUNNING", 0, 1)], "w/t COMPLETED"),
        (
            [
                handled("SCHEDULING", 0, 1),
                handled("RUNNING", 0, 1),
                handled("COMPLETED", 0, 1, superseded=True),
            ],
            "w/t COMPLETED",
        ),
        ([*[handled("COMPLETED", 0, 1)] * 2], "more often than sent: w/t COMPLETED"),
        ([handled("COMPLETED", 0, 1), handled("LOST", 0, 1)], "more often than sent: w/t LOST"),
    ],
)
def test_a_wrong_run_is_told(records: list[Handled], reason: str) -> None:
    """A final state that is missing, and anything that is there twice."""
    with pytest.raises(WrongResultError, match=reason):
        judge(PLAN, records, ["one"], compacts=True)


def test_figures_of_a_plan() -> None:
    """Times and shares are those of the events."""
    events = [event(0, "COMPLETED", f"w{number}") for number in range(4)]
    ends = (500, 1500, 2500, 700)
    records = [
        handled("COMPLETED", 0, end, workflow=f"w{number}") for number, end in enumerate(ends)
    ]
    assert workers.summary(judge(events, records, ["one"], compacts=True)) == {
        "avg_ms": 1300,
        "median_ms": 1100,
        "min_ms": 500,
        "max_ms": 2500,
        "under_1s_share": 0.5,
        "under_2s_share": 0.75,
        "superseded": 0,
    }


def test_shares_are_compared_with_even_ones() -> None:
    """Of two workers with 30 and 10 one has half as much again."""
    played = Played([], {"one": 30, "two": 10}, 0)
    assert workers.shares(played) == {"most_share": 1.5, "least_share": 0.5}


def test_the_rate_is_that_of_all_partitions_at_work() -> None:
    """What one does before the others have begun does not count."""
    second = 1_000_000_000
    slow = [0, second, 2 * second, 3 * second]
    late = [second, second + second // 2, 2 * second, 9 * second]
    assert scale_out.common_rate([slow]) == 1.0
    assert scale_out.common_rate([slow, late]) == 2.0
    with pytest.raises(WrongResultError):
        scale_out.common_rate([[0, 1], [2, 3]])


async def test_reports_reach_the_workers(tmp_path: Path) -> None:
    """Two plans in turn, each complete, and shared by two workers."""
    async with Shared() as shared, stage(context(tmp_path, shared), 1.0, 2) as ready:
        first = await ready.play(_plans.many_workflows(1))
        second = await ready.play(PLAN)
    assert len(first.processed) == 93
    assert min(times(first)) >= 1.0
    assert len(second.processed) == 3
    assert sum(first.per_worker.values()) + first.superseded >= 93
    assert sum(second.per_worker.values()) >= 1


async def test_messages_are_counted_in_redis_and_in_the_store(tmp_path: Path) -> None:
    """Through the operator, and from there through the worker; Redis is emptied in between."""
    async with Shared() as shared:
        heat = context(tmp_path, shared)
        (appended,) = (await sustained.through_operator(heat, 500)).values()
        (stored,) = (await sustained.into_sqlite(heat, 2_000)).values()
    assert appended.figures["rate_per_s"] > 0
    assert stored.figures["rate_per_s"] > 0
    assert stored.figures["share"] == stored.figures["rate_per_s"] / stored.figures["alone_per_s"]


@pytest.mark.postgres
@pytest.mark.skipif(postgres.programs() is None, reason=postgres.MISSING)
async def test_messages_are_counted_in_postgresql(tmp_path: Path) -> None:
    """And written again without a worker: all at once, one by one, and those with waiting."""
    async with Shared() as shared:
        (stored,) = (await sustained.into_postgres(context(tmp_path, shared), 300)).values()
    assert stored.figures["share"] == stored.figures["rate_per_s"] / stored.figures["alone_per_s"]
    assert stored.figures["times_one_by_one"] > 0
    assert stored.figures["times_awaited"] > 0


async def test_round_trips_are_timed(tmp_path: Path) -> None:
    """Each of them, by a client without a service."""
    async with Shared() as shared:
        heat = context(tmp_path, shared, Osmo("memory"))
        outcomes = await round_trip.one_at_a_time(heat, (5, 20))
    outcome = outcomes["osmo-memory"]
    assert len(outcome.series["round_trip_us"]) == 20
    figures = outcome.figures
    assert figures["min_20_us"] <= figures["avg_20_us"] <= figures["max_20_us"]
    assert figures["total_5_ms"] < figures["total_20_ms"]
    assert figures["max_5_us"] <= figures["max_20_us"]


async def test_partitions_of_a_cluster(tmp_path: Path) -> None:
    """They lie on its nodes in turn, and each takes a queue of ours."""
    async with Shared() as shared:
        heat = context(tmp_path, shared)
        places = await scale_out.in_cluster(heat, NODES)
        assert len(set(places.values())) == NODES
        nodes = await shared.get("cluster", redis_cluster)
        assert all(owner(nodes, name) is node for name, node in places.items())
        (name, node), *_ = places.items()
        await scale_out.fill(heat, name, node, 600)
        with pytest.raises(WrongResultError, match="600 entries of 601"):
            await scale_out.work(heat, {name: node}, 601)
        assert await scale_out.work(heat, {name: node}, 600) > 0


async def test_one_failure_of_many_is_told_by_itself() -> None:
    """As the error that it is, not in a group."""

    async def fail() -> None:
        raise WrongResultError("this")

    async def never() -> None:
        await eventually(lambda: False, "that", 60.0)

    with pytest.raises(WrongResultError, match="this"):
        await together([never(), fail()])


async def test_what_does_not_happen_is_told() -> None:
    """With how long it was waited for."""
    with pytest.raises(WrongResultError, match=r"after 0\.01 s the queue is not empty"):
        await eventually(lambda: False, "the queue is not empty", 0.01)
