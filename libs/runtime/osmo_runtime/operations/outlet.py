"""Where ended spans leave the process: a bounded queue, and a thread that hands them over.

OpenTelemetry's own batches are bounded too, but it does not say how many spans were lost, and a
collector that hangs holds up its stop for half a minute.
"""

import logging
import threading
from collections import deque

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

MOST_WAITING = 2048
"""Spans that wait for the collector; beyond that they are dropped: the default of OpenTelemetry."""

BATCH = 512
"""Spans that are handed over at once, and that are not kept waiting for others: likewise."""

INTERVAL = 1.0
"""Seconds that a span waits for others."""

LAST_EXPORT = 2.0
"""Seconds that the last spans may take: a collector that is away holds up no stop for long."""

COMPLAINTS = (
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
)
"""The loggers that alone say why an export failed, once for each of its tries."""

_log = logging.getLogger(__name__)


class Outlet(SpanProcessor):
    """Hands ended spans to `exporter`. It never waits for it, and never raises."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._waiting: deque[ReadableSpan] = deque()
        self._wake = threading.Event()
        self._closing = False
        self._ended = 0
        self._taken = 0
        self._too_many = 0
        self._not_taken = 0
        self._reason = _Reason()
        self._trouble = False
        self._why = ""
        # One that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)
        for name in COMPLAINTS:
            logging.getLogger(name).addFilter(self._reason)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Spans that were not handed over, and will not be."""
        return self._too_many + self._not_taken

    def on_end(self, span: ReadableSpan) -> None:
        """Take over a span."""
        self._ended += 1
        if len(self._waiting) >= MOST_WAITING:
            self._too_many += 1
            return
        self._waiting.append(span)
        if len(self._waiting) >= BATCH:
            self._wake.set()

    def shutdown(self) -> None:
        """Hand over what is left, within `LAST_EXPORT`; waits for it."""
        self._closing = True
        self._wake.set()
        self._thread.join(LAST_EXPORT)
        lost = self._ended - self._taken
        if lost:
            why = self._why or self._reason.text or "it did not answer in time"
            _log.warning(
                "the collector did not take %d of %d spans: %.300s", lost, self._ended, why
            )
        for name in COMPLAINTS:
            logging.getLogger(name).removeFilter(self._reason)

    def _run(self) -> None:
        closing = False
        while not closing:
            self._wake.wait(INTERVAL)
            self._wake.clear()
            closing = self._closing
            self._export_all()
        self._exporter.shutdown()

    def _export_all(self) -> None:
        while self._waiting:
            before = self._too_many
            batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            reason = self._export(batch)
            if reason:
                self._not_taken += len(batch)
            else:
                self._taken += len(batch)
                if self._too_many > before:
                    reason = "they come faster than the collector takes them"
            self._tell(reason)

    def _export(self, batch: list[ReadableSpan]) -> str:
        """Why the collector did not take them; empty: it did."""
        self._reason.text = ""
        try:
            result = self._exporter.export(batch)
        except Exception as exc:  # noqa: BLE001  (spans are not worth more than this)
            return f"{type(exc).__name__}: {exc}"
        if result is SpanExportResult.SUCCESS:
            return ""
        return self._reason.text or "it does not say why"

    def _tell(self, reason: str) -> None:
        if reason and not self._trouble:
            _log.warning("spans are dropped: %.300s", reason)
        elif self._trouble and not reason:
            _log.info("the collector takes spans again; dropped so far: %d", self.dropped)
        self._trouble = bool(reason)
        self._why = reason or self._why


class _Reason(logging.Filter):
    """Keeps the first complaint of an export, and lets none be written."""

    text = ""

    def filter(self, record: logging.LogRecord) -> bool:
        self.text = self.text or record.getMessage()
        return False
