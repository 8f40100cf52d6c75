"""What a service gives to be seen, and the context in which it is."""

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from osmo_runtime.operations.config import ServiceConfig
from osmo_runtime.operations.figures import SPANS_DROPPED, Figure, Read
from osmo_runtime.operations.files import look_at_files, show_files
from osmo_runtime.operations.health import Check, Liveness, Readiness, Work
from osmo_runtime.tasks import beside
from osmo_transport.errors import MissingExtraError

if TYPE_CHECKING:
    from osmo_runtime.operations.exporting import Exporter
    from osmo_runtime.operations.server import Port
    from osmo_runtime.operations.tracing import Tracer

LOOK_INTERVAL = 1.0
"""Seconds between two looks at the progress, and two writes of the progress file."""

PUSH_INTERVAL = 60_000
"""Milliseconds between two pushes over OTLP, unless `OTEL_METRIC_EXPORT_INTERVAL` says otherwise:
the default of OpenTelemetry."""

MAX_PUSH_INTERVAL = 86_400_000
"""The longest that it may say, a day: what is longer is a mistake."""

LAST_PUSH = 2.0
"""Seconds that the last push may take: a collector that is away holds up no stop for long."""

_log = logging.getLogger(__name__)


class Operations:
    """Collects what a service can be asked. It costs nothing until somebody asks."""

    def __init__(
        self,
        stall: float = ServiceConfig.operations_stall,
        stopping: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`stall` is `ServiceConfig.operations_stall`, `stopping` says whether the service drains,
        and `clock` gives seconds."""
        self.readiness = Readiness(stopping)
        self.liveness = Liveness(stall, clock)
        self.figures: list[tuple[Figure, Read]] = []
        self.exporter: Exporter | None = None
        """Where the figures are read, once somebody can ask for them."""
        self.tracer: Tracer | None = None
        """Makes the spans of the service; None: they are not asked for."""

    def check(self, name: str, check: Callable[[], Check]) -> None:
        """The service is ready only while `check` says so, and not before one is given."""
        self.readiness.add(name, check)

    def work(self, name: str, work: Callable[[], Work]) -> None:
        """The service lives only while this work makes progress, where there is any."""
        self.liveness.add(name, work)

    def measure(self, figure: Figure, read: Read) -> None:
        """Tell a figure, which `read` gives when it is asked for."""
        self.figures.append((figure, read))
        if self.exporter is not None:
            self.exporter.add(figure, read)

    def export(self, exporter: "Exporter") -> None:
        """Let `exporter` tell every figure, those that come later too."""
        self.exporter = exporter
        for figure, read in self.figures:
            exporter.add(figure, read)

    def close(self) -> None:
        """Let go of the exporter, if there is one. Idempotent."""
        if self.exporter is not None:
            self.exporter.close()
            self.exporter = None


class _Scraped:
    """The figures for whoever scrapes them. What makes their text is imported, beside the event
    loop, when somebody first does."""

    def __init__(self, operations: Operations, service: str) -> None:
        self._operations = operations
        self._service = service
        self._turn = asyncio.Lock()

    async def read(self) -> tuple[bytes, str]:
        """All of them, and of which type that is."""
        exporter = await self._exporter()
        return await exporter.text(), exporter.content_type

    async def _exporter(self) -> "Exporter":
        async with self._turn:
            if self._operations.exporter is None:
                from anyio import to_thread  # noqa: PLC0415  (as what is imported there)

                make = await to_thread.run_sync(_exporters)
                self._operations.export(make(self._service))
            assert self._operations.exporter is not None
            return self._operations.exporter


def _exporters() -> "type[Exporter]":
    from osmo_runtime.operations.exporting import Exporter  # noqa: PLC0415

    return Exporter


@asynccontextmanager
async def open_operations(
    service: str, config: ServiceConfig, stop: asyncio.Event
) -> AsyncIterator[Operations]:
    """Let the service be seen until the context is left, where `config` says; `stop` tells that it
    drains. Figures are also pushed where `OTEL_METRICS_EXPORTER` is `otlp`, and spans where
    `OTEL_TRACES_EXPORTER` is.

    Raises:
        UsageError: the address or a variable is wrong, or what is needed is not installed.
        AddressInUseError: the port is taken.
    """
    operations = Operations(config.operations_stall, stop.is_set)
    pushes = _pushes("METRICS")
    port: Port | None = None
    async with AsyncExitStack() as stack:
        if pushes:
            # Only who wants to be seen waits for these imports.
            from osmo_runtime.operations import sdk  # noqa: PLC0415
            from osmo_runtime.operations.exporting import Exporter  # noqa: PLC0415

            operations.export(Exporter(service, sdk.metric_exporter()))
        stack.callback(operations.close)
        if config.operations:
            from osmo_runtime.operations.server import open_port  # noqa: PLC0415

            if find_spec("opentelemetry") is None:
                raise MissingExtraError(
                    "figures need opentelemetry: pip install 'osmo-pipeline[operations]'"
                )
            found, look = operations.readiness.found, operations.liveness.look
            figures = _Scraped(operations, service)
            port = await stack.enter_async_context(
                open_port(config.operations, found, look, figures.read)
            )
            sys.stdout.write(f"operations on {port.url}\n")
            sys.stdout.flush()
        if _pushes("TRACES"):
            from osmo_runtime.operations import sdk  # noqa: PLC0415

            if any(name.startswith("OTEL_BSP_") for name in os.environ):
                _log.warning("OTEL_BSP_… has no effect: how spans wait is not to be chosen")
            exports = sdk.span_exporter()
            from osmo_runtime.operations.tracing import open_tracing  # noqa: PLC0415

            operations.tracer, outlet = await stack.enter_async_context(
                open_tracing(service, exports)
            )
            operations.measure(SPANS_DROPPED, lambda: [(outlet.dropped, {})])
        show_files(operations)
        works: list[Coroutine[Any, Any, None]] = [look_at_files()]
        if port is not None:
            works.append(port.run())
        if config.operations or config.progress_file:
            works.append(_look(operations.liveness, config.progress_file))
        if pushes and operations.exporter is not None:
            exporter = operations.exporter
            # What was counted last would be lost, and that is the most interesting.
            stack.push_async_callback(_push_last, exporter)
            works.append(_push(exporter, _push_interval()))
        async with beside(works):
            yield operations


def _pushes(signal: str) -> bool:
    variable = f"OTEL_{signal}_EXPORTER"
    exporters = {name.strip() for name in os.environ.get(variable, "").split(",")}
    if unknown := exporters - {"", "none", "otlp"}:
        names = ", ".join(sorted(unknown))
        _log.warning("%s names %s, without effect: it may be otlp or none", variable, names)
    return "otlp" in exporters


def _push_interval() -> float:
    """Seconds between two pushes, as a variable says that makes sense."""
    text = os.environ.get("OTEL_METRIC_EXPORT_INTERVAL", "").strip() or str(PUSH_INTERVAL)
    try:
        interval = int(text)
    except ValueError:
        interval = 0
    if not 1 <= interval <= MAX_PUSH_INTERVAL:
        _log.warning(
            "OTEL_METRIC_EXPORT_INTERVAL is %r, and must be milliseconds from 1 to %d: taking %d",
            text,
            MAX_PUSH_INTERVAL,
            PUSH_INTERVAL,
        )
        interval = PUSH_INTERVAL
    return interval / 1000


async def _look(liveness: Liveness, progress_file: Path | None) -> NoReturn:
    while True:
        if not liveness.look() and progress_file is not None:
            await _write_time(progress_file)
        await asyncio.sleep(LOOK_INTERVAL)


async def _write_time(path: Path) -> None:
    from anyio import Path as AsyncPath  # noqa: PLC0415  (first once the program runs)

    whole = AsyncPath(path)
    part = whole.with_name(f"{path.name}.part")
    try:
        # In one step: whoever reads meanwhile sees the one time or the other.
        await part.write_text(f"{time.time()}")
        await part.replace(whole)
    except OSError as exc:
        _log.warning("cannot write the progress file: %s", exc)


async def _push(exporter: "Exporter", interval: float) -> NoReturn:
    while True:
        await asyncio.sleep(interval)
        await _push_once(exporter)


async def _push_last(exporter: "Exporter") -> None:
    from anyio import move_on_after  # noqa: PLC0415  (at the end of a program)

    with move_on_after(LAST_PUSH, shield=True):
        await _push_once(exporter)


async def _push_once(exporter: "Exporter") -> None:
    data = exporter.collect()
    if not await _in_thread(lambda: exporter.push(data)):
        _log.warning("the figures could not be pushed over OTLP")


async def _in_thread(call: Callable[[], bool]) -> bool:
    """The answer of a call that blocks. One that hangs, and is waited for no more, does not keep
    the process from ending, as a thread of a pool would."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bool] = loop.create_future()

    def tell(found: bool) -> None:
        if not answer.done():
            answer.set_result(found)

    def run() -> None:
        found = call()
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(tell, found)

    threading.Thread(target=run, name="push", daemon=True).start()
    return await answer
