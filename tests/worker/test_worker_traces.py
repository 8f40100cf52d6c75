"""The spans of a worker: one for each delivery that it handles, with all that it is for."""

import logging

import pytest
from msgspec.structs import replace
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_trace_id

from osmo_runtime.operations.tracing import open_tracing
from osmo_transport import Ack, Delivery, Message, Outcome
from osmo_worker import Worker
from tests.worker.harness import CONFIG, filled_queue, report, settled, until, working


def traced(number: int, task: str = "task") -> Message:
    return replace(report(task, version=(1, number)), traceparent=f"00-{number:032x}-{1:016x}-01")


async def test_what_a_report_makes_needless_is_linked(caplog: pytest.LogCaptureFixture) -> None:
    """A user who looks for an older one finds by which it was handled; what the handler logs of
    one report tells its trace."""
    exporter = InMemorySpanExporter()

    async def handle(delivery: Delivery) -> Outcome:
        logging.getLogger("handler").warning("handles it")
        return Ack()

    sent = [traced(1), report(version=(1, 2)), traced(3), traced(4, "other"), report("untraced")]
    async with filled_queue(*sent) as queue, open_tracing("test", exporter) as (tracer, _):
        worker = Worker(queue.consumer("workers", "one"), handle, CONFIG, tracer=tracer)
        async with working(worker):
            await until(lambda: settled(queue))
    links = {
        span.attributes["osmo.key"]: [link.context.trace_id for link in span.links]
        for span in exporter.get_finished_spans()
        if span.attributes
    }
    assert links == {"flow/task/0": [3, 1], "flow/other/0": [4]}
    told = [vars(record).get("trace_id") for record in caplog.records]
    assert sorted(told, key=str) == [format_trace_id(3), format_trace_id(4), None]
