"""The operations port over real HTTP, the progress file, and what is pushed."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from prometheus_client import CollectorRegistry, generate_latest

from osmo_runtime.operations import (
    Check,
    Figure,
    Histogram,
    Kind,
    Operations,
    Reading,
    ServiceConfig,
    Work,
    exporting,
    open_operations,
    sdk,
    server,
)
from osmo_runtime.operations.server import address
from osmo_transport.errors import AddressInUseError, UsageError
from tests.helpers import eventually

APPENDED = Figure("osmo_operator_appended", Kind.COUNTER, "Messages stored.", ("stream",))
DEPTH = Figure("osmo_queue_depth", Kind.GAUGE, "Entries in the queue.", ("stream",))
APPEND = Figure("osmo_operator_append", Kind.HISTOGRAM, "Times of appends.", (), "s")


Opened = Callable[[ServiceConfig], AbstractAsyncContextManager["Port"]]


@pytest.fixture
def opened(capsys: pytest.CaptureFixture[str]) -> Opened:
    """Opens a service's port, and reads its URL where it is announced."""

    @asynccontextmanager
    async def opened(config: ServiceConfig) -> AsyncIterator[Port]:
        stop = asyncio.Event()
        async with open_operations("osmo-test", config, stop) as operations:
            url = capsys.readouterr().out.removeprefix("operations on ").strip()
            yield Port(operations, stop, url)

    return opened


class Port:
    """A service with an operations port."""

    def __init__(self, operations: Operations, stop: asyncio.Event, url: str) -> None:
        self.operations = operations
        self.stop = stop
        self.url = url

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as client, client.get(self.url + path) as answer:
            return answer.status, await answer.text()

    async def ask(self, path: str) -> tuple[int, Any]:
        async with aiohttp.ClientSession() as client, client.get(self.url + path) as answer:
            return answer.status, await answer.json()


ON_A_FREE_PORT = ServiceConfig(operations="127.0.0.1:0")


async def test_a_service_that_starts_lives_and_is_not_ready(opened: Opened) -> None:
    """Its container is not restarted, and gets no work yet."""
    async with opened(ON_A_FREE_PORT) as port:
        assert await port.get("/livez") == (200, "ok\n")
        code, found = await port.ask("/readyz")
        assert (code, found["ready"]) == (503, False)
        assert found["checks"]["service"]["reason"] == "starting"


async def test_readiness_tells_each_check(opened: Opened) -> None:
    """With its age and its reason, as JSON."""
    async with opened(ON_A_FREE_PORT) as port:
        port.operations.check("queue", lambda: Check(ok=True, age=1.5))
        port.operations.check("store", lambda: Check(ok=True, reason="http://u:sesame@host"))
        check = {"ok": True, "reason": "", "age": 1.5}
        hidden = {"ok": True, "reason": "http://u:****@host", "age": None}
        assert await port.ask("/readyz") == (
            200,
            {"ready": True, "checks": {"queue": check, "store": hidden}},
        )
        port.stop.set()
        code, found = await port.ask("/readyz")
        assert (code, found["checks"]["service"]["reason"]) == (503, "stopping")


async def test_a_service_that_hangs_is_told(opened: Opened) -> None:
    """By its status, with the reason as text."""
    config = ServiceConfig(operations="127.0.0.1:0", operations_stall=1e-9)
    async with opened(config) as port:
        port.operations.work("relay", lambda: Work(waits=True, done=0))
        code, text = await port.get("/livez")
    assert code == 503
    assert text.startswith("relay: work waits")


async def test_figures_are_read_when_they_are_asked_for(opened: Opened) -> None:
    """In Prometheus' text, under the names that its conventions make of them."""
    async with opened(ON_A_FREE_PORT) as port:
        stored, times = 5, Histogram()
        port.operations.measure(APPENDED, lambda: [(stored, {"stream": "pods"})])
        port.operations.measure(DEPTH, lambda: [(7, {"stream": "pods"}), (0, {"stream": "nodes"})])
        port.operations.measure(APPEND, lambda: [(times, {})])
        for duration in (0.002, 0.3, 5000):
            times.record(duration)
        code, text = await port.get("/metrics")
        assert code == 200
        assert f"# TYPE {APPENDED.exposed} counter" in text
        for line in (
            'osmo_operator_appended_total{stream="pods"} 5.0',
            'osmo_queue_depth{stream="nodes"} 0.0',
            'osmo_operator_append_seconds_bucket{le="0.001"} 0.0',
            'osmo_operator_append_seconds_bucket{le="0.00215"} 1.0',
            'osmo_operator_append_seconds_bucket{le="1000.0"} 2.0',
            'osmo_operator_append_seconds_bucket{le="+Inf"} 3.0',
            "osmo_operator_append_seconds_count 3.0",
            "osmo_operator_append_seconds_sum 5000.302",
        ):
            assert f"\n{line}\n" in text
        stored = 6
        while 'osmo_operator_appended_total{stream="pods"} 6.0' not in text:
            _, text = await port.get("/metrics")


async def test_nothing_else_is_served(opened: Opened) -> None:
    """No page of an error tells what is inside."""
    async with opened(ON_A_FREE_PORT) as port:
        assert (await port.get("/"))[0] == 404
        assert (await port.get("/metrics/../etc"))[0] == 404


async def raw(url: str, request: bytes) -> bytes:
    """All that is answered to these bytes, until the connection is closed."""
    reader, writer = await asyncio.open_connection(*address(url.removeprefix("http://")))
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /livez HTTP/1.1\r\nHost: [::1\r\n\r\n", 200),
        (b"GET /livez HTTP/1.1\r\nHost: evil.example:99999999\r\n\r\n", 200),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: \xff\x00\r\n\r\n", 400),
        (b"GET /livez HTTP/1.0\r\n\r\n", 200),
        (b"GET http://evil.example/livez HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n", 405),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\nx", 200),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\n" + b"X: x\r\n" * 1000 + b"\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", 200),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    ],
)
async def test_whatever_is_asked_has_one_answer(
    request_: bytes, status: int, opened: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    """Then the connection is closed; a stranger's mistake is no line of the log."""
    async with asyncio.timeout(30), opened(ON_A_FREE_PORT) as port:
        answer = await raw(port.url, request_)
        assert answer.split(b" ", 2)[1] == str(status).encode()
        assert answer.count(b"HTTP/1.") == 1
        assert await port.get("/livez") == (200, "ok\n")
    assert not caplog.records


async def test_a_connection_has_one_answer(opened: Opened) -> None:
    """So that the pace of connections is the pace of answers."""
    async with asyncio.timeout(30), opened(ON_A_FREE_PORT) as port:
        answer = await raw(port.url, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
    assert answer.count(b"HTTP/1.") == 1


@pytest.mark.parametrize("said", [b"", b"GET /metrics HTTP/1.1\r\nX: "])
async def test_who_says_nothing_keeps_nobody_out(
    said: bytes, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest connection goes when there is one too many, also where half a request came."""
    monkeypatch.setattr(server, "MOST_CONNECTIONS", 5)
    async with asyncio.timeout(30), opened(ON_A_FREE_PORT) as port, AsyncExitStack() as stack:
        where = address(port.url.removeprefix("http://"))
        opened_: list[asyncio.StreamReader] = []
        for _ in range(8):
            reader, writer = await asyncio.open_connection(*where)
            stack.callback(writer.close)
            writer.write(said)
            opened_.append(reader)
            assert await port.get("/livez") == (200, "ok\n")
        for reader in opened_[:3]:
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        assert not opened_[-1].at_eof()


async def test_a_connection_is_over_in_time(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever drips a request, or says nothing."""
    monkeypatch.setattr(server, "ANSWER_TIMEOUT", 0.1)
    async with asyncio.timeout(30), opened(ON_A_FREE_PORT) as port:
        where = address(port.url.removeprefix("http://"))
        for said in (b"", b"GET /metrics HTTP/1.1\r\nX: "):
            reader, writer = await asyncio.open_connection(*where)
            writer.write(said)
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()


async def test_how_often_is_asked_bounds_what_it_costs(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections are accepted at a pace, whoever opens how many of them."""
    monkeypatch.setattr(server, "PACE", 3600.0)
    async with asyncio.timeout(30), opened(ON_A_FREE_PORT) as port:
        assert await port.get("/livez") == (200, "ok\n")
        where = address(port.url.removeprefix("http://"))
        reader, writer = await asyncio.open_connection(*where)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.05)
        writer.close()


async def test_the_figures_are_collected_for_a_share_of_the_time_at_most() -> None:
    """Who asks too soon is told what was told last, and somewhat later what there is by then; those
    who ask at once are told the same."""
    now, asked = 0.0, 0

    def read() -> Sequence[Reading]:
        nonlocal now, asked
        now += 1.0
        asked += 1
        return [(asked, {"stream": "pods"})]

    exporter = exporting.Exporter("test", clock=lambda: now)
    exporter.add(DEPTH, read)
    first, second = await asyncio.gather(exporter.text(), exporter.text())
    now += 1.0 / exporting.COLLECTING - 0.5
    assert await exporter.text() == first == second
    assert asked == 1
    now += 1.0
    assert b'{stream="pods"} 2.0' in await exporter.text()
    exporter.close()


async def test_figures_are_read_in_the_event_loop_and_written_down_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What they are of belongs to the loop, and the text of ten thousand of them takes a second."""
    here = threading.get_ident()
    threads: list[int] = []

    def written(registry: CollectorRegistry) -> bytes:
        threads.append(threading.get_ident())
        return generate_latest(registry)

    def read() -> Sequence[Reading]:
        assert threading.get_ident() == here
        return [(1, {"stream": "pods"})]

    monkeypatch.setattr(exporting, "generate_latest", written)
    exporter = exporting.Exporter("test")
    exporter.add(DEPTH, read)
    exporter.add(APPEND, lambda: [(Histogram(), {})])
    assert b"osmo_operator_append_seconds_count 0.0" in await exporter.text()
    assert len(threads) == 1
    assert here not in threads
    exporter.close()


@pytest.mark.parametrize(
    "text",
    [
        *("9464", "localhost", ":9464", "a:b", "h:99999", "http://h:1", "a..b:1"),
        *(f"{'a' * 64}.b:1", "[", "[:1]:9464"),
    ],
)
def test_an_address_that_is_none_is_refused(text: str) -> None:
    """Before anything is opened, with one that is right."""
    with pytest.raises(UsageError, match=r"127\.0\.0\.1:9464"):
        address(text)


def test_addresses() -> None:
    """Names, and both kinds of numbers."""
    assert address("localhost:0") == ("localhost", 0)
    assert address("[::1]:9464") == ("::1", 9464)


async def test_a_port_in_use_is_told(opened: Opened) -> None:
    """With the address, so that it can be changed."""
    async with opened(ON_A_FREE_PORT) as port:
        taken = port.url.removeprefix("http://")
        with pytest.raises(AddressInUseError, match=taken):
            async with open_operations("other", ServiceConfig(operations=taken), asyncio.Event()):
                pass


async def test_the_progress_file_holds_the_time(tmp_path: Path) -> None:
    """As a number of seconds, again and again, and whole whenever it is read."""
    path = tmp_path / "progress"
    async with open_operations("test", ServiceConfig(progress_file=path), asyncio.Event()):
        await eventually(path.exists)
    assert float(path.read_text()) > 1.7e9


async def test_a_progress_file_that_cannot_be_written_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said in the log."""
    config = ServiceConfig(progress_file=tmp_path / "missing" / "progress")
    async with open_operations("test", config, asyncio.Event()):
        await eventually(lambda: "progress file" in caplog.text)


async def test_who_hangs_leaves_the_progress_file_alone(tmp_path: Path) -> None:
    """That is what its reader looks for."""
    path = tmp_path / "progress"
    config = ServiceConfig(progress_file=path, operations_stall=1e-9)
    looks = 0

    def work() -> Work:
        nonlocal looks
        looks += 1
        return Work(waits=True, done=0)

    async with open_operations("test", config, asyncio.Event()) as operations:
        operations.work("relay", work)
        await eventually(lambda: looks >= 2)
    assert not path.exists()


class Collector(MetricExporter):
    """Takes what is pushed."""

    def __init__(self) -> None:
        super().__init__()
        self.pushed: list[MetricsData] = []
        self.threads: set[threading.Thread] = set()

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any
    ) -> MetricExportResult:
        self.pushed.append(metrics_data)
        self.threads.add(threading.current_thread())
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        pass


def names(data: MetricsData) -> Sequence[str]:
    return sorted(
        metric.name
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )


async def test_figures_are_pushed_where_opentelemetry_is_told_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By its own variables, also without a port, a last time at the end, and never from the event
    loop, which a collector that is slow would hold up."""
    collector = Collector()
    monkeypatch.setattr(sdk, "metric_exporter", lambda: collector)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "20")
    async with open_operations("test", ServiceConfig(), asyncio.Event()) as operations:
        operations.measure(APPENDED, lambda: [(5, {"stream": "pods"})])
        operations.measure(APPEND, lambda: [(Histogram(), {})])
        await eventually(lambda: collector.pushed)
        before = len(collector.pushed)
    assert names(collector.pushed[-1]) == ["osmo_operator_append", "osmo_operator_appended"]
    assert len(collector.pushed) > before
    # Nor may one that hangs keep the process from ending.
    assert all(thread.daemon for thread in collector.threads)


async def test_a_collector_of_figures_that_fails_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said in the log, and tried again."""
    collector = Collector()
    monkeypatch.setattr(collector, "export", lambda _: 1 / 0)
    monkeypatch.setattr(sdk, "metric_exporter", lambda: collector)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "1")
    async with open_operations("test", ServiceConfig(), asyncio.Event()):
        await eventually(lambda: len(caplog.records) >= 2)
    assert {record.getMessage() for record in caplog.records} == {
        "the figures could not be pushed over OTLP"
    }


@pytest.mark.parametrize("text", ["abc", "0", "-5", "nan", "inf", "1.5", "9" * 5000, "86400001"])
async def test_a_wrong_interval_between_pushes_is_told(
    text: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, and figures are pushed as often as without it."""
    collector = Collector()
    monkeypatch.setattr(sdk, "metric_exporter", lambda: collector)
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", text)
    async with open_operations("test", ServiceConfig(), asyncio.Event()):
        # A push that waits for nothing has its turn.
        for _ in range(5):
            await asyncio.sleep(0)
        assert not collector.pushed
    (record,) = caplog.records
    assert record.getMessage().endswith("milliseconds from 1 to 86400000: taking 60000")


@pytest.mark.parametrize("signal", ["METRICS", "TRACES"])
async def test_an_exporter_that_there_is_not_is_told(
    signal: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for what is never pushed."""
    monkeypatch.setenv(f"OTEL_{signal}_EXPORTER", "console,none")
    async with open_operations("test", ServiceConfig(), asyncio.Event()):
        pass
    (record,) = caplog.records
    assert record.getMessage().startswith(f"OTEL_{signal}_EXPORTER names console, without effect")
