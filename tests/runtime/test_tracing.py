"""The spans of a service, and how they leave it."""

import asyncio
import logging
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, format_span_id, format_trace_id

from osmo_runtime.logs import JsonFormatter, TextFormatter
from osmo_runtime.operations import ServiceConfig, open_operations, outlet, sdk
from osmo_runtime.operations.outlet import COMPLAINTS
from osmo_runtime.operations.tracing import MOST_LINKS, Tracer, open_tracing
from osmo_transport import Ack, Delivery, Message, ProducerBatch, Retry, new_message
from osmo_transport.errors import UsageError
from osmo_transport.queues.delivery import NEW, Producer, batch_of
from tests.helpers import eventually

Spans = Sequence[ReadableSpan]

TRACE = "0af7651916cd43dd8448eb211c80319c"
FIRST, SECOND = f"00-{TRACE}-00000000000000a1-01", f"00-{TRACE[::-1]}-00000000000000a2-01"
UNSAMPLED = f"00-{TRACE}-00000000000000a1-00"


@asynccontextmanager
async def traced() -> AsyncIterator[tuple[Tracer, Callable[[], Spans]]]:
    """A tracer, and the spans that were exported when it was closed."""
    exporter = InMemorySpanExporter()
    async with open_tracing("osmo-test", exporter) as (tracer, _):
        yield tracer, exporter.get_finished_spans


def report(traceparent: str | None = None) -> Message:
    return new_message("update_pod", "w/t/0", b"body", traceparent=traceparent)


def batch(*traceparents: str | None) -> ProducerBatch:
    messages = [report(traceparent) for traceparent in traceparents]
    return batch_of(Producer("b", "s"), NEW, 1, [*messages, None])


def delivery(traceparent: str | None) -> Delivery:
    return Delivery("1-0", "pods", "b", report(traceparent))


def text_of(context: SpanContext | None) -> str:
    assert context is not None
    ids = f"{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}"
    return f"00-{ids}-{context.trace_flags:02x}"


def links(span: ReadableSpan) -> list[str]:
    return [text_of(link.context) for link in span.links]


async def test_a_report_that_is_sampled_says_so() -> None:
    """It carries the context of its span, which began when the change was known."""
    message = report()
    async with traced() as (tracer, exported):
        with tracer.report(message, 1234.5) as told:
            pass
    (span,) = exported()
    assert told == msgspec.structs.replace(message, traceparent=text_of(span.context))
    assert (span.name, span.start_time, span.parent) == ("report update_pod", 1234500000000, None)
    assert span.attributes is not None
    assert span.attributes["osmo.key"] == "w/t/0"


async def test_a_report_that_is_not_sampled_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody after the listener has anything to look at."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    message = report()
    async with traced() as (tracer, exported):
        with tracer.report(message, 0.0) as told:
            assert told is message
    assert not exported()


@pytest.mark.parametrize("sampler", ["parentbased_always_on", "always_off"])
async def test_an_append_links_to_each_report_that_is_sampled(
    sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And stands in the trace of the first one, whatever it would sample by itself."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", sampler)
    async with traced() as (tracer, exported):
        with tracer.append([batch(None, FIRST), batch(UNSAMPLED, SECOND)]):
            pass
        with tracer.append([batch(None, UNSAMPLED)]):
            pass
    (span,) = exported()
    assert text_of(span.parent) == FIRST
    assert links(span) == [FIRST, SECOND]


async def test_links_are_bounded() -> None:
    """That to the parent is kept, however many reports an append has."""
    async with traced() as (tracer, exported):
        with tracer.append([batch(FIRST, *[SECOND] * 500)]):
            pass
    (span,) = exported()
    assert text_of(span.parent) == FIRST
    assert links(span) == [FIRST, *[SECOND] * (MOST_LINKS - 1)]


async def test_each_delivery_that_is_handled_has_a_span_of_its_own() -> None:
    """With links to what it makes needless, and what became of it."""
    needed = [
        (delivery(FIRST), delivery(SECOND)),
        (delivery(None),),
        (delivery(None), delivery(UNSAMPLED), delivery(SECOND)),
    ]
    async with traced() as (tracer, exported):
        with tracer.handle(needed) as settle:
            settle([Ack(), Ack(), Retry("http://u:sesame@host is full")])
    good, bad = exported()
    assert (text_of(good.parent), links(good)) == (FIRST, [FIRST, SECOND])
    assert (text_of(bad.parent), links(bad)) == (SECOND, [SECOND])
    assert good.status.is_unset
    assert bad.status.description == "http://u:****@host is full"


async def test_a_delivery_that_is_given_back_ends_its_span() -> None:
    """Cancelled, or because the handler cannot go on."""
    async with traced() as (tracer, exported):
        with pytest.raises(asyncio.CancelledError), tracer.handle([(delivery(FIRST),)]):
            raise asyncio.CancelledError
    assert len(exported()) == 1


@pytest.mark.parametrize(
    "text",
    [
        *("", "00", "00-", FIRST[:-1], f"{FIRST}-more", FIRST.replace("a1", "g1"), FIRST.upper()),
        *(FIRST.replace("00-", "ff-", 1), f"00-{'0' * 32}-00000000000000a1-01"),
        *(f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-00000000000000a1-x1", "é" * 55, "\0" * 55),
        *("0" * 3_000_000, f"01-{FIRST[3:]}-{'0' * 3_000_000}"),
    ],
    ids=lambda text: repr(text[:60]),
)
async def test_text_that_is_no_context_is_ignored(
    text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a peer sends: nothing fails, nothing is traced, and nothing is logged."""
    async with traced() as (tracer, exported):
        with tracer.append([batch(text)]):
            pass
        with tracer.handle([(delivery(text),)]) as settle:
            settle([Ack()])
    assert not exported()
    assert not caplog.records


async def test_bytes_that_are_no_message_are_ignored() -> None:
    """An operator passes on what only a worker can refuse."""
    whole = batch(FIRST)
    broken = msgspec.structs.replace(whole, encoded=(whole.encoded[0][:-1], b"\xc1"))
    async with traced() as (tracer, exported):
        with tracer.append([broken]):
            pass
    assert not exported()


async def test_log_records_tell_their_span(caplog: pytest.LogCaptureFixture) -> None:
    """Whole in JSON, its beginning in text, and nothing where there is none."""
    async with traced() as (tracer, exported):
        logging.getLogger("test").warning("before")
        with tracer.handle([(delivery(FIRST),)]):
            logging.getLogger("test").warning("within")
    (span,) = exported()
    before, within = caplog.records
    assert "trace" not in JsonFormatter("s").format(before)
    line = msgspec.json.decode(JsonFormatter("s").format(within))
    assert f"00-{line['trace_id']}-{line['span_id']}-01" == text_of(span.context)
    assert TextFormatter().format(within).endswith(f"within trace_id={TRACE[:8]}")


class Collector(SpanExporter):
    """Does with the spans what the test says."""

    def __init__(self) -> None:
        self.answers = [SpanExportResult.SUCCESS]
        """The last one counts for all that follow."""
        self.calls = 0
        self.gate = threading.Event()
        self.gate.set()

    def export(self, spans: Spans) -> SpanExportResult:
        self.gate.wait()
        self.calls += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is SpanExportResult.FAILURE:
            for attempt in range(3):
                logging.getLogger(COMPLAINTS[1]).error("503, try %d", attempt)
        return answer

    def shutdown(self) -> None:
        pass


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Collector:
    """Gets each span at once, and keeps nobody waiting at the end."""
    monkeypatch.setattr(outlet, "BATCH", 1)
    monkeypatch.setattr(outlet, "LAST_EXPORT", 0.01)
    return Collector()


def end_spans(tracer: Tracer, count: int) -> None:
    for _ in range(count):
        with tracer.report(report(), 0.0):
            pass


async def test_a_collector_that_answers_errors_is_told_once(
    collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    """With the first reason; and once more when that is over, with what was lost."""
    caplog.set_level(logging.INFO)
    fails, takes = SpanExportResult.FAILURE, SpanExportResult.SUCCESS
    collector.answers = [fails, fails, fails, takes]
    async with open_tracing("osmo-test", collector) as (tracer, spans):
        end_spans(tracer, 4)
        await eventually(lambda: collector.calls == 4)
        assert spans.dropped == 3
        await eventually(lambda: len(caplog.records) == 2)
    assert [record.getMessage() for record in caplog.records] == [
        "spans are dropped: 503, try 0",
        "the collector takes spans again; dropped so far: 3",
        "the collector did not take 3 of 4 spans: 503, try 0",
    ]


async def test_a_collector_that_hangs_holds_nobody_up(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What waits for it is bounded, the rest is counted, and the service stops all the same."""
    monkeypatch.setattr(outlet, "MOST_WAITING", 3)
    collector.gate.clear()
    async with open_tracing("osmo-test", collector) as (tracer, spans):
        end_spans(tracer, 20)
        assert spans.dropped >= 20 - 3 - 1
    collector.gate.set()
    assert [record.getMessage() for record in caplog.records] == [
        "the collector did not take 20 of 20 spans: it did not answer in time"
    ]


async def test_a_collector_that_is_away_delays_nothing(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the exporter's own errors reach the service."""
    monkeypatch.setattr(collector, "export", lambda _: 1 / 0)
    async with open_tracing("osmo-test", collector) as (tracer, spans):
        end_spans(tracer, 2)
        await eventually(lambda: spans.dropped == 2)


async def test_spans_are_made_where_opentelemetry_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By its own variable, and those that no collector took are a figure."""
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(sdk, "span_exporter", lambda: exporter)
    async with open_operations("test", ServiceConfig(), asyncio.Event()) as operations:
        assert operations.tracer is None
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    async with open_operations("test", ServiceConfig(), asyncio.Event()) as operations:
        assert operations.tracer is not None
        end_spans(operations.tracer, 1)
        told = {figure.exposed: read for figure, read in operations.figures}
        assert told["osmo_spans_dropped_total"]() == [(0, {})]
    (span,) = exporter.get_finished_spans()
    assert span.resource.attributes["service.name"] == "test"


@pytest.mark.parametrize("exporter", [sdk.metric_exporter, sdk.span_exporter])
@pytest.mark.parametrize("variable", ["COMPRESSION", "TIMEOUT"])
def test_a_wrong_variable_is_told(
    exporter: Callable[[], object], variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends the program before it begins, where the exporter does not do without."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{variable}", "nonsense")
    with pytest.raises(UsageError, match="OTEL_EXPORTER_OTLP"):
        exporter()


async def test_a_variable_without_effect_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of those that OpenTelemetry's own processor of spans would read."""
    monkeypatch.setattr(sdk, "span_exporter", InMemorySpanExporter)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    async with open_operations("test", ServiceConfig(), asyncio.Event()):
        pass
    (record,) = caplog.records
    assert record.getMessage().startswith("OTEL_BSP_… has no effect")


async def test_a_wrong_limit_of_spans_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a variable of the exporter is."""
    monkeypatch.setenv("OTEL_SPAN_LINK_COUNT_LIMIT", "many")
    with pytest.raises(UsageError, match="OTEL_SPAN_LINK_COUNT_LIMIT"):
        async with traced():
            pass


OFF = """
import asyncio, sys
import osmo_listener.service, osmo_operator.service, osmo_worker.service
from osmo_runtime.operations import ServiceConfig, open_operations

async def run():
    async with open_operations("test", ServiceConfig(), asyncio.Event()):
        print(*(name for name in sys.modules if name.startswith("opentelemetry")))

asyncio.run(run())
"""


def test_the_sdk_is_not_imported_unless_it_is_asked_for() -> None:
    """It takes memory and time to start."""
    found = subprocess.run([sys.executable, "-c", OFF], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
