"""The plots of a run."""

import statistics
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter

from osmo_benchmarks.report.drawing import HEIGHT, LINES, SYSTEMS, WIDTH, colour, settings, svg
from osmo_benchmarks.report.lines import number
from osmo_benchmarks.run import Run, Sample

BINS = 40
SHORTEST_GAP_US = 0.1
"""Gaps of reports that arrive in one frame are shown as this, because a log axis has no zero."""


class Plot(NamedTuple):
    """A plot of the report."""

    table: str
    """Of the study, below which it stands."""
    title: str
    svg: str


class _Series(NamedTuple):
    system: str
    x: Sequence[float]
    y: Sequence[float]


def plots(run: Run) -> Iterator[Plot]:
    """All for which something was measured."""
    for table, name, title, draw in _PLOTS:
        with settings(name):
            figure, axes = plt.subplots(figsize=(WIDTH, HEIGHT))
            if draw(run, axes):
                _finish(figure, axes)
                yield Plot(table, title, svg(figure))
            else:
                plt.close(figure)


def _finish(figure: Any, axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        figure.legend(
            handles, labels, loc="lower left", bbox_to_anchor=(0.02, 0.9), ncols=3, fontsize=8.5
        )
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
            axis.set_minor_formatter(NullFormatter())


def _pooled(run: Run, experiment: str, series: str) -> Iterator[tuple[str, list[float]]]:
    """By system: a series of all rounds."""
    for system in SYSTEMS:
        samples = run.samples(experiment, system)
        if values := [value for each in samples for value in each.series.get(series, ())]:
            yield system, values


def _one(run: Run, experiment: str, system: str) -> Sample | None:
    """The sample of the round in the middle."""
    samples = run.samples(experiment, system)
    return samples[len(samples) // 2] if samples else None


def _draw(axes: Any, series: Sequence[_Series], *, marker: str = "", steps: bool = False) -> bool:
    for system, x, y in series:
        axes.plot(
            x,
            y,
            color=colour(system),
            linestyle=LINES[system],
            label=system,
            marker=marker,
            markersize=4,
            drawstyle="steps-post" if steps else "default",
        )
    return bool(series)


def _shares(values: Sequence[float]) -> tuple[list[float], list[float]]:
    """The values in order, and the percentage of all that each does not exceed."""
    return sorted(values), [(index + 1) / len(values) * 100 for index in range(len(values))]


def _cdf(experiment: str, series: str, unit: str, run: Run, axes: Any) -> bool:
    drawn = []
    for system, values in _pooled(run, experiment, series):
        drawn.append(_Series(system, *_shares(values)))
    axes.set(xscale="log", xlabel=f"round trip in {unit}", ylabel="share of messages in %")
    return _draw(axes, drawn)


def _gap_histogram(run: Run, axes: Any) -> bool:
    found = {
        system: [max(value * 1e3, SHORTEST_GAP_US) for value in values]
        for system, values in _pooled(run, "startup-85", "gap_ms")
    }
    if not found:
        return False
    longest = max(max(values) for values in found.values()) * 1.01
    ratio = (longest / SHORTEST_GAP_US) ** (1 / BINS)
    edges = [SHORTEST_GAP_US * ratio**step for step in range(BINS + 1)]
    for system, values in found.items():
        share = [100 / len(values)] * len(values)
        axes.hist(
            values,
            bins=edges,
            weights=share,
            histtype="step",
            color=colour(system),
            linestyle=LINES[system],
            label=system,
            linewidth=1.6,
        )
    axes.set(
        xscale="log",
        xlabel="gap in µs (in one frame: 0.1)",
        ylabel="share of gaps in %",
    )
    return True


def _over_time(run: Run, experiment: str, x: str, y: str) -> Iterator[_Series]:
    for system in SYSTEMS:
        if (sample := _one(run, experiment, system)) and sample.series.get(y):
            yield _Series(system, sample.series[x], sample.series[y])


def _burst_backlog(run: Run, axes: Any) -> bool:
    drawn = list(_over_time(run, "burst", "backlog_ms", "backlog"))
    axes.set(
        xscale="symlog",
        xlabel="ms since the first report was made",
        ylabel="reports not yet acknowledged",
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    found = _draw(axes, drawn, steps=True)
    axes.set_xlim(left=0)
    return found


def _queue_backlog(workers: int, run: Run, axes: Any) -> bool:
    drawn = []
    for system in SYSTEMS:
        sample = _one(run, f"workers-{workers}", system)
        if sample and sample.series.get("created_s"):
            created, done = sorted(sample.series["created_s"]), sorted(sample.series["done_s"])
            times = sorted([*created, *done])
            waiting = [float(bisect_right(created, at) - bisect_right(done, at)) for at in times]
            drawn.append(_Series(system, times, waiting))
    axes.set(xlabel="seconds since the first report", ylabel="reports not yet handled")
    return _draw(axes, drawn, steps=True)


def _chronological(workers: int, run: Run, axes: Any) -> bool:
    drawn = []
    for system in SYSTEMS:
        sample = _one(run, f"workers-{workers}", system)
        if sample and (times := sample.series.get("processing_ms")):
            drawn.append(_Series(system, range(1, len(times) + 1), times))
    axes.set(yscale="log", xlabel="report, in the order of its end", ylabel="processing time in ms")
    return _draw(axes, drawn)


def _medians(run: Run, experiments: dict[float, str], figure: str) -> list[_Series]:
    found = []
    for system in SYSTEMS:
        points = []
        for at, experiment in experiments.items():
            values = [
                each.figures[figure]
                for each in run.samples(experiment, system)
                if figure in each.figures
            ]
            if values:
                points.append((at, statistics.median(values)))
        if points:
            found.append(_Series(system, *zip(*points, strict=True)))
    return found


def _scaling(
    experiments: dict[float, str],
    figure: str,
    x: str,
    y: str,
    logarithmic: bool,
    run: Run,
    axes: Any,
) -> bool:
    drawn = _medians(run, experiments, figure)
    scale = "log" if logarithmic else "linear"
    axes.set(xscale="log", yscale=scale, xlabel=x, ylabel=y)
    axes.set_xticks(list(experiments))
    found = _draw(axes, drawn, marker="o")
    if not logarithmic:
        axes.set_ylim(bottom=0)
    return found


def _memory(experiment: str, run: Run, axes: Any) -> bool:
    drawn = list(_over_time(run, experiment, "rss_s", "rss_mb"))
    axes.set(yscale="log", xlabel="seconds since the start of the process", ylabel="RSS in MB")
    return _draw(axes, drawn)


def _differences(experiment: str, run: Run, axes: Any) -> bool:
    found = False
    for peer in ("legacy", "go", "go-tuned"):
        heat = f"{peer}+osmo-ws"
        values = [
            value
            for each in run.samples(experiment, "osmo-ws", heat)
            for value in each.series.get("diff_ms", ())
        ]
        if values:
            found = True
            label = f"beside {peer}"
            axes.plot(*_shares(values), color=colour(peer), linestyle=LINES[peer], label=label)
    axes.axvline(0, color=colour("osmo-ws"), linewidth=1)
    axes.set(
        xscale="symlog",
        xlabel="ms that ours is later (left of 0: ours is first)",
        ylabel="share of reports in %",
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.tick_params(axis="x", labelrotation=45)
    return found


_WORKERS: dict[float, str] = {count: f"workers-{count}" for count in (1, 2, 4, 8)}
_PARTITIONS: dict[float, str] = {count: f"partitions-{count}" for count in (1, 2, 4)}
_IN_CLUSTER: dict[float, str] = {count: f"cluster-partitions-{count}" for count in (1, 2, 4)}
_SIZES: dict[float, str] = {
    1_000: "cluster-1k",
    10_000: "cluster-10k",
    100_000: "cluster-100k",
}
_OBJECTS = "pods in the cluster"

_PLOTS: tuple[tuple[str, str, str, Callable[[Run, Any], bool]], ...] = (
    (
        "round-trip",
        "rt",
        "Round trips, one at a time",
        partial(_cdf, "round-trip", "round_trip_us", "µs"),
    ),
    ("startup", "gap", "Gaps between the reports of 85 pods", _gap_histogram),
    (
        "startup",
        "disc",
        "Who reports 85 new pods first",
        partial(_differences, "discovery-85"),
    ),
    (
        "startup",
        "trans",
        "Who reports status changes first",
        partial(_differences, "transitions"),
    ),
    (
        "large-cluster",
        "burst",
        "Round trips of 951 reports at once",
        partial(_cdf, "burst", "round_trip_ms", "ms"),
    ),
    ("large-cluster", "flight", "Backlog of 951 reports at once", _burst_backlog),
    (
        "large-cluster",
        "objects",
        "CPU time of the start for each pod",
        partial(_scaling, _SIZES, "us_per_object", _OBJECTS, "CPU time per pod in µs", True),
    ),
    (
        "large-cluster",
        "all",
        "Start of the process to the last acknowledgement",
        partial(_scaling, _SIZES, "last_ack_ms", _OBJECTS, "time in ms", True),
    ),
    (
        "large-cluster",
        "rss",
        "Peak memory of the listener",
        partial(_scaling, _SIZES, "peak_rss_mb", _OBJECTS, "RSS in MB", True),
    ),
    (
        "large-cluster",
        "mem10",
        "Memory over time, 10 000 pods",
        partial(_memory, "cluster-10k"),
    ),
    (
        "huge-cluster",
        "mem100",
        "Memory over time, 100 000 pods",
        partial(_memory, "cluster-100k"),
    ),
    (
        "workers",
        "chrono1",
        "Processing time in order, 1 worker",
        partial(_chronological, 1),
    ),
    (
        "workers",
        "chrono2",
        "Processing time in order, 2 workers",
        partial(_chronological, 2),
    ),
    ("workers", "back1", "Backlog of the queue, 1 worker", partial(_queue_backlog, 1)),
    ("workers", "back2", "Backlog of the queue, 2 workers", partial(_queue_backlog, 2)),
    (
        "workers",
        "scale",
        "Average processing time by workers",
        partial(_scaling, _WORKERS, "avg_ms", "workers", "average in ms", True),
    ),
    (
        "scale-out",
        "parts",
        "Rate by partitions, one Redis",
        partial(_scaling, _PARTITIONS, "rate_per_s", "partitions", "messages per second", False),
    ),
    (
        "scale-out",
        "cparts",
        "Rate by partitions, Redis Cluster",
        partial(_scaling, _IN_CLUSTER, "rate_per_s", "partitions", "messages per second", False),
    ),
)
