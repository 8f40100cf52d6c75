"""What the tables of Kubernetes run, and what they make of it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osmo_benchmarks import clusters
from osmo_benchmarks.errors import WrongResultError
from osmo_benchmarks.participants import LEGACY
from osmo_benchmarks.plan import Context
from osmo_benchmarks.records import Record
from osmo_benchmarks.shared import Shared
from osmo_benchmarks.systems import Osmo, System
from osmo_benchmarks.tables import large_cluster, startup
from osmo_benchmarks.tables._listening import leads, listening
from osmo_benchmarks.tables.large_cluster import in_flight, peak, thinned
from osmo_simulator import api_server

SECOND = 1_000_000_000


@pytest.fixture(autouse=True)
def simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clusters are simulated ones, here as everywhere."""
    monkeypatch.setattr(clusters, "has_api_server", lambda: False)


def context(folder: Path, shared: Shared, *systems: System) -> Context:
    """Of a heat."""
    return Context(
        folder=folder,
        systems={each.name: each for each in systems},
        shared=shared,
        seed=1,
        round=0,
    )


def record(at: int, key: str = "w/t", status: str = "RUNNING") -> Record:
    """A report that was received at `at`, made just before and acknowledged just after."""
    return Record(at=at, created=at - 1, key=key, status=status, acked=at + 1)


async def test_a_start_is_measured(tmp_path: Path) -> None:
    """Each pod once, the first before the last."""
    async with Shared() as shared:
        heat = context(tmp_path, shared, Osmo("ws"))
        outcome = (await startup.start_up(heat, 30))["osmo-ws"]
    figures = outcome.figures
    assert 0 < figures["first_report_ms"] <= figures["last_ack_ms"]
    assert figures["first_to_last_ms"] == pytest.approx(sum(outcome.series["gap_ms"]))
    assert len(outcome.series["gap_ms"]) == 29
    assert figures["cpu_s"] > 0
    assert figures["peak_rss_mb"] > 1


async def test_two_systems_see_the_same_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study's Python design beside ours: both to the end of every workflow, by one set of
    rules."""
    monkeypatch.setattr(startup, "ARRIVAL", 0.05)
    monkeypatch.setattr(startup, "STEP", (0.01, 0.02))
    async with Shared() as shared:
        outcomes = await startup.transitions(context(tmp_path, shared, LEGACY, Osmo("ws")))
    ours, theirs = outcomes["osmo-ws"], outcomes["legacy"]
    assert len(ours.series["diff_ms"]) == len(theirs.series["diff_ms"]) > startup.TASKS
    assert sorted(ours.series["diff_ms"]) == sorted(-each for each in theirs.series["diff_ms"])
    assert 0 <= ours.figures["first_share"] <= 1


async def test_a_burst_and_a_size_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one cluster, whose pods change."""
    monkeypatch.setattr(large_cluster, "BURST", 60)
    monkeypatch.setattr(large_cluster, "NODES", 3)
    async with Shared() as shared:
        for name in ("burst", "size"):
            (tmp_path / name).mkdir()
        burst = (await large_cluster.burst(context(tmp_path / "burst", shared, Osmo("ws"))))[
            "osmo-ws"
        ]
        # The shared cluster is the same, and its pods are as the burst left them.
        size = (await large_cluster.size(context(tmp_path / "size", shared, Osmo("ws")), 60, 0.1))[
            "osmo-ws"
        ]
    assert len(burst.series["round_trip_ms"]) == 60
    assert burst.figures["peak_1s_per_s"] == 60
    assert 1 <= burst.figures["in_flight_max"] <= 60
    assert size.figures["us_per_object"] == pytest.approx(size.figures["cpu_s"] / 60 * 1e6)
    assert len(size.series["rss_s"]) == len(size.series["rss_mb"]) > 0


async def test_a_listener_that_misses_something_has_no_figure(tmp_path: Path) -> None:
    """Nor one that reports what is not there."""
    async with Shared() as shared, clusters.simulated() as cluster:
        there = startup.pods("a", 3)
        await cluster.create(there)
        expected = {each.key: startup.PENDING for each in there}
        async with listening(context(tmp_path, shared, Osmo("ws")), cluster.kubeconfig) as found:
            it = found["osmo-ws"]
            assert len(await it.until(expected, startup.TIMEOUT)) == 3
            with pytest.raises(WrongResultError, match="only 3 reports had arrived"):
                await it.until({**expected, "gone/gone": "RUNNING"}, 0.1)
            with pytest.raises(WrongResultError, match="pods that are not there"):
                await it.until(dict([*expected.items()][:2]), 0.1)


def test_who_was_first() -> None:
    """In what both reported, by the first report of each."""
    ours = [record(5, "a"), record(9, "b"), record(10, "b"), record(1, "only ours")]
    theirs = [record(7, "a"), record(6, "b"), record(3, "a", "COMPLETED")]
    assert sorted(leads(ours, theirs)) == pytest.approx([-2e-6, 3e-6])
    outcomes = startup.who_was_first({"ours": ours, "theirs": theirs})
    assert outcomes["ours"].figures["first_share"] == 0.5


@given(st.lists(st.integers(0, 3 * SECOND), min_size=1, max_size=50))
def test_peaks_are_those_of_a_naive_count(times: list[int]) -> None:
    """Of every window that begins with an event."""
    times.sort()
    naive = max(sum(at <= each < at + SECOND for each in times) for at in times)
    assert peak(times, 1.0) == naive


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=30))
def test_what_is_in_flight(spans: list[tuple[int, int]]) -> None:
    """From its creation to its acknowledgement; at the end nothing is."""
    records = [
        Record(at=0, created=start, key="", status="", acked=start + length)
        for start, length in spans
    ]
    times, counts = in_flight(records)
    assert times == sorted(times)
    assert counts[-1] == 0
    assert min(counts) >= -len(spans)
    open_ended = [each for each in records if each.acked > each.created]
    for each in open_ended[:1]:
        naive = sum(other.created <= each.created < other.acked for other in open_ended)
        assert max(counts) >= naive


@given(st.lists(st.floats(0, 1e6), max_size=2_000))
def test_thinned_series_keep_their_end(values: list[float]) -> None:
    """And are short enough for a plot."""
    kept = thinned(values)
    assert len(kept) <= large_cluster.POINTS
    assert kept[-1:] == values[-1:]


def test_the_plan_of_workflows() -> None:
    """As many as in the study, each pod in order, some fail; the same seed gives the same plan."""
    plan, ends = startup.workflows(3)
    assert startup.workflows(3) == (plan, ends) != startup.workflows(4)
    assert len(ends) == startup.TASKS
    assert len({each.pod.workflow for each in plan}) == startup.WORKFLOWS
    assert [each.at for each in plan] == sorted(each.at for each in plan)
    assert set(ends.values()) == {"COMPLETED", "FAILED"}
    seen = set()
    for change in plan:
        assert (change.status is None) == (change.pod not in seen)
        seen.add(change.pod)


@pytest.mark.usefixtures("real_cluster")
def test_copies_of_a_pod(real_cluster: api_server.RealCluster) -> None:
    """Are pods like any other to the API server."""
    real_cluster.clear()
    first, *others = startup.pods("copied", 130)
    pods = "/api/v1/namespaces/osmo/pods"
    real_cluster.request("POST", pods, clusters._pod(first, 0))
    real_cluster.copy_pod(
        first.name,
        (
            {first.name: each.name, first.workflow: each.workflow, first.task: each.task}
            for each in others
        ),
    )
    try:
        found = real_cluster.request("GET", pods)["items"]
        labels = [each["metadata"]["labels"] for each in found]
        keys = [f"{each['osmo.workflow_uuid']}/{each['osmo.task_uuid']}" for each in labels]
        assert sorted(keys) == sorted(each.key for each in (first, *others))
        assert len({each["metadata"]["uid"] for each in found}) == len(found)
        with pytest.raises(ValueError, match="not of the same length"):
            real_cluster.copy_pod(first.name, [{first.name: "short"}])
    finally:
        real_cluster.clear()
