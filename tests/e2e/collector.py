"""A collector of OpenTelemetry, as far as it takes spans over OTLP/HTTP."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

SpanId = tuple[bytes, bytes]
"""Of the trace, and within it."""


class Taken(NamedTuple):
    """A span, and the service that it is of."""

    service: str
    span: Span

    @property
    def id(self) -> SpanId:
        return self.span.trace_id, self.span.span_id

    @property
    def parent(self) -> SpanId:
        return self.span.trace_id, self.span.parent_span_id

    @property
    def links(self) -> list[SpanId]:
        return [(link.trace_id, link.span_id) for link in self.span.links]

    def attribute(self, name: str) -> str | int | None:
        for attribute in self.span.attributes:
            if attribute.key == name:
                value = attribute.value
                return value.int_value if value.HasField("int_value") else value.string_value
        return None


class Collector:
    """What was taken."""

    def __init__(self) -> None:
        self.taken: list[Taken] = []
        self.url = ""

    def tree(self, root: Taken) -> str:
        """A span, and beneath it those that come from it, in the order in which they began."""
        return "\n".join(self._lines(root, 0))

    def _lines(self, span: Taken, depth: int) -> Iterator[str]:
        yield f"{'  ' * depth}{span.service}: {span.span.name}"
        children = [each for each in self.taken if each.parent == span.id]
        for child in sorted(children, key=lambda each: each.span.start_time_unix_nano):
            lines = list(self._lines(child, depth + 1))
            yield f"{lines[0]}{', linked' if span.id in child.links else ''}"
            yield from lines[1:]

    async def take(self, request: web.Request) -> web.Response:
        for resource in ExportTraceServiceRequest.FromString(await request.read()).resource_spans:
            (service,) = (
                each.value.string_value
                for each in resource.resource.attributes
                if each.key == "service.name"
            )
            for scope in resource.scope_spans:
                self.taken += [Taken(service, span) for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector on a free port."""
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield collector
    finally:
        await runner.cleanup()
