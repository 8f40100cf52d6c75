"""The figures of a service, read by OpenTelemetry's SDK when somebody asks for them.

Counters and gauges are observable instruments of the SDK. It has no histogram that is read like
that, so they are added to what it collects.
"""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import anyio

from osmo_runtime import __version__
from osmo_runtime.operations.figures import BOUNDS, Figure, Histogram, Kind, Read, Reading
from osmo_runtime.operations.sdk import resource_of
from osmo_transport.errors import MissingExtraError

try:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from opentelemetry.metrics import CallbackOptions, Observation
    from opentelemetry.sdk.metrics import MeterProvider, ObservableCounter, ObservableGauge
    from opentelemetry.sdk.metrics.export import (
        AggregationTemporality,
        CardinalityLimits,
        HistogramDataPoint,
        InMemoryMetricReader,
        Metric,
        MetricExporter,
        MetricExportResult,
        MetricReader,
        MetricsData,
        ResourceMetrics,
        ScopeMetrics,
    )
    from opentelemetry.sdk.metrics.export import Histogram as HistogramData
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
except ImportError as exc:
    raise MissingExtraError(
        f"figures need {exc.name}: pip install 'osmo-pipeline[operations]'"
    ) from exc

MOST_VALUES = 20_000
"""Of one figure, each with other attributes: more than there are backends."""

COLLECTING = 0.05
"""Share of its time that a process gives at most to making the text of its figures, however often
it is asked for: who asks too soon is told the last one again."""

_SCOPE = InstrumentationScope("osmo", __version__)


class Exporter:
    """The figures of a service.

    Args:
        service: its name, unless `OTEL_SERVICE_NAME` gives another one.
        pushed_to: where `push` takes them; None: nowhere.
        clock: seconds that only rise.
    """

    content_type = CONTENT_TYPE_LATEST
    """Of what `text` returns."""

    def __init__(
        self,
        service: str,
        pushed_to: MetricExporter | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._clock = clock
        self._text = b""
        self._text_until = -math.inf
        self._turn = asyncio.Lock()
        self._reads: dict[Figure, Read] = {}
        self._values: dict[Figure, list[Reading]] = {}
        self._durations: list[Metric] = []
        self._began = time.time_ns()
        self._resource = resource_of(service)
        self._registry = CollectorRegistry()
        readers: list[MetricReader] = [_Scraped(self, self._registry)]
        self._pushed_to = pushed_to
        if pushed_to is not None:
            self._pushed = InMemoryMetricReader(cardinality_limits=_LIMITS)
            readers.append(self._pushed)
        self._provider = MeterProvider(
            metric_readers=readers, resource=self._resource, shutdown_on_exit=False
        )
        self._meter = self._provider.get_meter(_SCOPE.name, _SCOPE.version)

    def add(self, figure: Figure, read: Read) -> None:
        """Tell a figure too."""
        self._reads[figure] = read
        if figure.kind is Kind.HISTOGRAM:
            return
        create = (
            self._meter.create_observable_counter
            if figure.kind is Kind.COUNTER
            else self._meter.create_observable_gauge
        )
        observe = partial(self._observe, figure)
        create(figure.name, [observe], unit=figure.unit, description=figure.help)

    async def text(self) -> bytes:
        """All figures in Prometheus' text format: at this moment, or shortly before, as
        `COLLECTING` says."""
        async with self._turn:
            began = self._clock()
            if began >= self._text_until:
                self._read()
                # A second for ten thousand backends, in which messages go on.
                self._text = await anyio.to_thread.run_sync(generate_latest, self._registry)
                ended = self._clock()
                self._text_until = ended + (ended - began) / COLLECTING
            return self._text

    def collect(self) -> MetricsData:
        """All figures at this moment, to be pushed."""
        self._read()
        return self.with_durations(self._pushed.get_metrics_data())

    def push(self, data: MetricsData) -> bool:
        """Hand figures over; waits for the answer, and says whether they were taken."""
        assert self._pushed_to is not None
        try:
            return self._pushed_to.export(data) is MetricExportResult.SUCCESS
        except Exception:  # noqa: BLE001  (figures that are not taken end nothing)
            return False

    def with_durations(self, data: MetricsData | None) -> MetricsData:
        """The same figures, and those that the SDK does not have."""
        scope = ScopeMetrics(_SCOPE, self._durations, "")
        if data is None or not data.resource_metrics:
            return MetricsData([ResourceMetrics(self._resource, [scope], "")])
        first, *others = data.resource_metrics
        return MetricsData([replace(first, scope_metrics=[*first.scope_metrics, scope]), *others])

    def close(self) -> None:
        """Give up what the SDK holds."""
        self._provider.shutdown()
        if self._pushed_to is not None:
            self._pushed_to.shutdown()

    def _read(self) -> None:
        """Take down what the figures are: they belong to the event loop, and what is made of them
        does not."""
        self._values = {figure: list(read()) for figure, read in self._reads.items()}
        self._durations = [
            self._histogram(figure, values)
            for figure, values in self._values.items()
            if figure.kind is Kind.HISTOGRAM
        ]

    def _observe(self, figure: Figure, _: CallbackOptions) -> Iterable[Observation]:
        for value, attributes in self._values.get(figure, ()):
            if not isinstance(value, Histogram):
                yield Observation(value, attributes)

    def _histogram(self, figure: Figure, values: Iterable[Reading]) -> Metric:
        now = time.time_ns()
        points = [
            self._point(value, attributes, now)
            for value, attributes in values
            if isinstance(value, Histogram)
        ]
        data = HistogramData(points, AggregationTemporality.CUMULATIVE)
        return Metric(figure.name, figure.help, figure.unit, data)

    def _point(
        self, histogram: Histogram, attributes: Mapping[str, str], now: int
    ) -> HistogramDataPoint:
        return HistogramDataPoint(
            attributes=dict(attributes),
            start_time_unix_nano=self._began,
            time_unix_nano=now,
            count=histogram.count,
            sum=histogram.total,
            bucket_counts=histogram.told(),
            explicit_bounds=BOUNDS,
            min=0.0,
            max=histogram.maximum,
        )


_LIMITS: CardinalityLimits = {ObservableCounter: MOST_VALUES, ObservableGauge: MOST_VALUES}


class _Scraped(PrometheusMetricReader):
    def __init__(self, exporter: Exporter, registry: CollectorRegistry) -> None:
        super().__init__(scope_info_enabled=False, registry=registry, cardinality_limits=_LIMITS)
        self._exporter = exporter

    def _receive_metrics(
        self, metrics_data: MetricsData | None, timeout_millis: float = 10_000, **kwargs: Any
    ) -> None:
        super()._receive_metrics(
            self._exporter.with_durations(metrics_data), timeout_millis, **kwargs
        )
