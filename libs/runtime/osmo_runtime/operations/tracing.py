"""Traces, from a change in a cluster to the row that shows it.

A report that is sampled, by its listener, carries the context of its span as `traceparent`, over
every transport and through every queue; one that is not carries nothing. Whoever passes reports on
or handles them follows that. As one step of theirs has many reports, and a worker needs one of many
alone, a span *stands in the trace of the first report that is sampled, and links to each*.
"""

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from itertools import islice

import anyio
import msgspec
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from osmo_runtime import __version__
from osmo_runtime.masking import mask_text
from osmo_runtime.operations.outlet import Outlet
from osmo_runtime.operations.sdk import resource_of
from osmo_transport import Ack, Delivery, Message, Outcome, ProducerBatch, UsageError
from osmo_transport.message import traceparent_of

MAX_TRACEPARENT = 128
"""Characters of a trace context that is looked at: the present version has 55, and later ones may
add to it."""

MOST_LINKS = 32
"""Of a span, to the first reports that are sampled: of an append that is larger and sampled whole
these tell enough, and 2 048 such spans that wait for a collector take some 40 MB."""

MAX_REASON = 1_000
"""Characters that are kept of why a delivery was not handled."""

_W3C = TraceContextTextMapPropagator()
_NO_PARENT = Context()

Settle = Callable[[Sequence[Outcome]], None]
"""Is told what became of each work."""


class Tracer:
    """The spans of a service."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer

    @contextmanager
    def report(self, message: Message, since: float) -> Iterator[Message]:
        """A listener hands a report over; `since`, in seconds since the Unix epoch, is when it was
        told of the change. Gives the report to hand over: sampled, it says so."""
        span = self._tracer.start_span(
            f"report {message.kind}",
            _NO_PARENT,
            trace.SpanKind.PRODUCER,
            start_time=round(since * 1e9),
        )
        if not span.is_recording():
            yield message
            return
        span.set_attributes(_about(message))
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, trace.set_span_in_context(span, _NO_PARENT))
        with trace.use_span(span, end_on_exit=True):
            yield msgspec.structs.replace(message, traceparent=carrier["traceparent"])

    @contextmanager
    def append(self, batches: Sequence[ProducerBatch]) -> Iterator[None]:
        """An operator appends batches, until they are stored and answered."""
        encoded = [data for batch in batches for data in batch.encoded]
        span = self._follow("append", trace.SpanKind.CLIENT, map(traceparent_of, encoded))
        if span is None:
            yield
            return
        span.set_attribute("messaging.batch.message_count", len(encoded))
        with trace.use_span(span, end_on_exit=True):
            yield

    @contextmanager
    def handle(self, works: Sequence[Sequence[Delivery]]) -> Iterator[Settle]:
        """A worker handles deliveries at once: each of `works` is one, and those that it makes
        needless. Gives who is to be told what became of each."""
        spans = [self._handling(deliveries) for deliveries in works]

        def settle(outcomes: Sequence[Outcome]) -> None:
            for span, outcome in zip(spans, outcomes, strict=True):
                if span is not None and not isinstance(outcome, Ack):
                    reason = mask_text(outcome.reason)[:MAX_REASON]
                    span.set_status(trace.StatusCode.ERROR, reason)

        # What is logged meanwhile is about all of them.
        alone = spans[0] if len(spans) == 1 else None
        current: AbstractContextManager[object] = nullcontext()
        if alone is not None:
            current = trace.use_span(alone)
        try:
            with current:
                yield settle
        finally:
            for span in filter(None, spans):
                span.end()

    def _handling(self, deliveries: Sequence[Delivery]) -> trace.Span | None:
        first = deliveries[0]
        span = self._follow(
            f"handle {first.message.kind}",
            trace.SpanKind.CONSUMER,
            (delivery.message.traceparent for delivery in deliveries),
        )
        if span is not None:
            span.set_attributes(_about(first.message))
            span.set_attribute("osmo.backend", first.backend)
            span.set_attribute("osmo.attempt", first.attempt)
            span.set_attribute("osmo.superseded", len(deliveries) - 1)
        return span

    def _follow(
        self, name: str, kind: trace.SpanKind, traceparents: Iterable[str | None]
    ) -> trace.Span | None:
        """A span of what follows from some reports; None: none of them is sampled."""
        contexts = (
            context
            for traceparent in traceparents
            if traceparent is not None and (context := _sampled(traceparent)) is not None
        )
        links = [trace.Link(context) for context in islice(contexts, MOST_LINKS)]
        if not links:
            return None
        parent = trace.NonRecordingSpan(links[0].context)
        trace_of_parent = trace.set_span_in_context(parent, _NO_PARENT)
        return self._tracer.start_span(name, trace_of_parent, kind, links=links)


def _about(message: Message) -> dict[str, str]:
    return {
        "messaging.message.id": message.id,
        "osmo.kind": message.kind,
        "osmo.key": message.key,
    }


def _sampled(traceparent: str) -> trace.SpanContext | None:
    """The context of a report that is sampled. Text that is none says nothing."""
    if len(traceparent) > MAX_TRACEPARENT:
        return None
    found = _W3C.extract({"traceparent": traceparent}, _NO_PARENT)
    context = trace.get_current_span(found).get_span_context()
    return context if context.is_valid and context.trace_flags.sampled else None


@asynccontextmanager
async def open_tracing(
    service: str, exporter: SpanExporter
) -> AsyncIterator[tuple[Tracer, Outlet]]:
    """Hand spans to `exporter` until the context is left, sampled as OpenTelemetry's variables say,
    and let log records tell to which they belong.

    Raises:
        UsageError: a variable is wrong.
    """
    outlet = Outlet(exporter)
    try:
        provider = TracerProvider(resource=resource_of(service), shutdown_on_exit=False)
    except ValueError as exc:
        raise UsageError(f"a variable OTEL_… is wrong: {exc}") from exc
    # Whatever the sampler, it decides where a trace begins, and nowhere else.
    provider.sampler = ParentBased(provider.sampler)
    provider.add_span_processor(outlet)
    ids, handlers = _Ids(), list(logging.getLogger().handlers)
    for handler in handlers:
        handler.addFilter(ids)
    try:
        yield Tracer(provider.get_tracer("osmo", __version__)), outlet
    finally:
        for handler in handlers:
            handler.removeFilter(ids)
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(provider.shutdown)


class _Ids(logging.Filter):
    """Adds to each record the ids of the span in which it is made."""

    def filter(self, record: logging.LogRecord) -> bool:
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            record.trace_id = trace.format_trace_id(context.trace_id)
            record.span_id = trace.format_span_id(context.span_id)
        return True
