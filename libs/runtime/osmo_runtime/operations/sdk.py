"""What figures and traces share of OpenTelemetry's SDK: who tells, and where to push over OTLP.

Both are told by OpenTelemetry's own variables: `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, and
`OTEL_EXPORTER_OTLP_…`.
"""

import importlib
import logging
import os
from typing import Any

from osmo_runtime import __version__
from osmo_runtime.masking import MASK
from osmo_transport.errors import MissingExtraError, UsageError

try:
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import SpanExporter
except ImportError as exc:
    raise MissingExtraError(
        f"figures and traces need {exc.name}: pip install 'osmo-pipeline[operations,otel]'"
    ) from exc


def _without_value(record: logging.LogRecord) -> bool:
    """Whoever presents himself to a collector does so by a header, which is shown where it is
    malformed."""
    if record.args:
        record.args = (MASK,)
    return True


logging.getLogger("opentelemetry.util.re").addFilter(_without_value)


def resource_of(service: str) -> Resource:
    """Who tells: `service`, unless `OTEL_SERVICE_NAME` gives another name."""
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": service}
    return Resource.create({**named, "service.version": __version__})


def metric_exporter() -> MetricExporter:
    """What pushes figures.

    Raises:
        MissingExtraError: it is not installed.
        UsageError: a variable is wrong.
    """
    exporter: MetricExporter = _exporter("METRICS", "metric_exporter.OTLPMetricExporter")
    return exporter


def span_exporter() -> SpanExporter:
    """What pushes spans.

    Raises: as `metric_exporter`.
    """
    exporter: SpanExporter = _exporter("TRACES", "trace_exporter.OTLPSpanExporter")
    return exporter


def _exporter(signal: str, name: str) -> Any:
    protocol = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL") or os.environ.get(
        "OTEL_EXPORTER_OTLP_PROTOCOL"
    )
    module, _, exporter = name.partition(".")
    package = f"opentelemetry.exporter.otlp.proto.{'grpc' if protocol == 'grpc' else 'http'}"
    try:
        return getattr(importlib.import_module(f"{package}.{module}"), exporter)()
    except ImportError as exc:
        raise MissingExtraError(
            f"OTLP needs {exc.name}: pip install 'osmo-pipeline[otel]'"
        ) from exc
    except Exception as exc:  # of many classes, and each for what a user has set
        raise UsageError(f"a variable OTEL_EXPORTER_OTLP_… is wrong: {exc}") from exc
