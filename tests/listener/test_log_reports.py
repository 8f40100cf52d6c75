"""The listener's own log as reports: what becomes one, what it says, and how many there are."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from osmo_listener.log_reports import LOGGER, LogReports, LogReportsConfig, report_logs
from osmo_reports.bodies import Logging, LogType, decode_body
from osmo_transport import (
    BackoffConfig,
    Client,
    ClientConfig,
    ClosedError,
    Limits,
    Message,
    OutboxConfig,
    Server,
    SessionConfig,
    connect,
    listen,
)
from tests.helpers import eventually

LOG = logging.getLogger(f"{LOGGER}.part")
ONLY_THERE = "records that only the listener's own log holds"
W, E = LogType.WARNING, LogType.EXCEPTION


class Bench:
    """A handler under test on the listener's logger, and how often it called."""

    def __init__(self, **config: int) -> None:
        self.calls = 0
        self.handler = LogReports(self._ready, LogReportsConfig(**config))

    def _ready(self) -> None:
        self.calls += 1

    def said(self) -> list[tuple[LogType, str]]:
        """What was taken: types and texts."""
        taken = self.handler.take()
        assert all(body.workflow_uuid == "" for body in taken)
        return [(body.type, body.text) for body in taken]


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench with the default bounds."""
    yield from attached(Bench())


@pytest.fixture
def small() -> Iterator[Bench]:
    """A bench with small bounds."""
    yield from attached(Bench(max_pending=2, max_text=100))


def attached(bench: Bench) -> Iterator[Bench]:
    logger = logging.getLogger(LOGGER)
    logger.addHandler(bench.handler)
    yield bench
    logger.removeHandler(bench.handler)


def test_from_warning_on(bench: Bench) -> None:
    """Warnings and errors are reported, in their order; what is less severe is not."""
    LOG.debug("nothing")
    LOG.info("nothing")
    LOG.warning("a %s of %d", "warning", 2)
    LOG.error("an error")
    LOG.critical("a disaster")
    assert bench.said() == [(W, "a warning of 2"), (E, "an error"), (E, "a disaster")]
    assert bench.calls == 3
    assert bench.said() == []


def test_exception(bench: Bench) -> None:
    """Of an exception the last line is reported, without the traceback."""
    try:
        raise ValueError("one\ntwo")
    except ValueError:
        LOG.exception("it failed")
        LOG.warning("in spite of", exc_info=True)
    assert bench.said() == [
        (E, "it failed: ValueError: one\\ntwo"),
        (E, "in spite of: ValueError: one\\ntwo"),
    ]


def test_control_characters(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report is one line of Unicode, whatever was logged."""
    # What pytest captures it may send to another process, as UTF-8.
    monkeypatch.setattr(logging.getLogger(LOGGER), "propagate", False)
    LOG.warning("a\r\nb\x1b[31m\x00\udc80é")
    assert bench.said() == [(W, "a\\r\\nb\\x1b[31m\\x00\\udc80é")]


def test_secrets(bench: Bench) -> None:
    """Secrets in the text are masked, and what is logged beside it is not reported."""
    LOG.warning("at redis://:hunter2@host", extra={"password": "hunter3"})
    try:
        raise ValueError("Bearer abcdefghijkl")
    except ValueError:
        LOG.exception("refused")
    text = str(bench.said())
    assert "redis://:****@host" in text
    assert "hunter" not in text
    assert "abcdef" not in text


def test_long_texts(small: Bench) -> None:
    """A text is cut at the bound, also where escaping makes it longer, and says so."""
    LOG.warning("%s", "x" * 1_000_000)
    LOG.warning("%s", "\n" * 1_000_000)
    (_, plain), (_, escaped) = small.said()
    assert plain == f"{'x' * 27}[… 999964 characters left out …]{'x' * 9}"
    assert escaped.startswith("\\n" * 13)
    assert "left out" in escaped
    assert len(escaped) <= 100


def test_too_many(small: Bench) -> None:
    """What comes while too many wait is dropped, and its number told with the others."""
    for number in range(5):
        LOG.warning("%d", number)
    assert small.said() == [
        (W, "0"),
        (W, "1"),
        (W, f"{ONLY_THERE}: 3"),
    ]
    assert small.handler.dropped == 3
    LOG.warning("later")
    assert small.said() == [(W, "later")]


def test_repetitions(bench: Bench) -> None:
    """What one statement says over and over is left out, as in the log."""
    for number in range(1000):
        LOG.warning("again %d", number)
    assert len(bench.said()) == 10
    assert bench.handler.dropped == 0


@pytest.mark.parametrize(
    ("name", "reported"),
    [
        (LOGGER, True),
        ("osmo_listener.listeners.event", True),
        ("osmo_listener.log_reports", False),
        ("osmo_transport", False),
        ("osmo_transport.client", False),
        ("osmo_transport_of_others", True),
    ],
)
def test_what_may_be_about_the_sending(name: str, reported: bool) -> None:
    """Whatever logger the handler is attached to: what the link says is never sent over it."""
    bench = Bench()
    root = logging.getLogger()
    root.addHandler(bench.handler)
    try:
        logging.getLogger(name).warning("x")
    finally:
        root.removeHandler(bench.handler)
    assert bool(bench.said()) is reported


def test_a_record_that_cannot_be_formatted(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told on stderr, as the standard library does, and hurts nobody."""
    bench.handler.handle(logging.LogRecord("x", logging.WARNING, "x.py", 1, "%d", ("no",), None))
    assert bench.said() == []
    assert "--- Logging error ---" in capsys.readouterr().err


class Operator:
    """An operator that keeps what it gets."""

    def __init__(self, server: Server) -> None:
        self.got: list[Message] = []
        self._server = server

    def texts(self) -> list[str]:
        """What the reports say."""
        return [decode_body(message.kind, message.payload).text for message in self.got]

    async def work(self) -> None:
        while incoming := await self._server.receive():
            for each in incoming:
                self.got += each.messages
                each.acknowledge()


@asynccontextmanager
async def running(*work: Coroutine[Any, Any, object]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each) for each in work]
    await eventually(lambda: logging.getLogger(LOGGER).handlers)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def reporting(message_bytes: int = 10_000) -> AsyncIterator[tuple[Operator, Client]]:
    """The runner at work, and the operator that it reports to."""
    session = SessionConfig(limits=Limits(message_bytes=message_bytes))
    async with (
        listen("memory://") as server,
        connect(server.url, backend="b", config=ClientConfig(session=session)) as client,
    ):
        operator = Operator(server)
        async with running(operator.work(), report_logs(client)):
            yield operator, client
            await client.flush()
    assert {message.kind for message in operator.got} <= {"logging"}
    assert not logging.getLogger(LOGGER).handlers


async def test_records_reach_the_operator() -> None:
    """What is logged arrives in order, also from another thread, until the runner is cancelled."""
    async with reporting() as (operator, _):
        LOG.warning("first")
        thread = threading.Thread(target=LOG.error, args=("second",))
        thread.start()
        thread.join()
        await eventually(lambda: len(operator.got) == 2)
        assert [decode_body(m.kind, m.payload) for m in operator.got] == [
            Logging(W, "first"),
            Logging(E, "second"),
        ]
    LOG.warning("to nobody")
    assert len(operator.got) == 2


async def test_what_the_link_refuses_makes_no_loop() -> None:
    """A report that is too large is counted and told with a later one, and makes no other."""
    async with reporting(message_bytes=250) as (operator, _):
        LOG.warning("%s", "x" * 1000)
        LOG.warning("small")
        await eventually(lambda: operator.texts() == ["small"])
        LOG.warning("later")
        await eventually(lambda: len(operator.got) == 3)
        assert operator.texts() == ["small", "later", f"{ONLY_THERE}: 1"]


async def test_a_lost_connection_makes_no_loop() -> None:
    """While the operator is away what the link complains of is not kept for it."""
    async with reporting() as (operator, client):
        await client.epoch_after(0)
        client.renew_epoch()
        await eventually(lambda: client.stats.connects == 2)
        LOG.warning("after")
        await eventually(lambda: operator.got)
        assert operator.texts() == ["after"]


async def test_a_full_outbox() -> None:
    """While the client takes no more, records wait up to the bound, and nobody waits for them."""
    session = SessionConfig(outbox=OutboxConfig(max_entries=1))
    backoff = BackoffConfig(base=0.0, maximum=0.0)
    config = ClientConfig(session=session, backoff=backoff)
    async with connect("memory://later", backend="b", config=config) as client:
        async with running(report_logs(client, LogReportsConfig(max_pending=2))):
            LOG.warning("sent")
            await eventually(lambda: client.stats.waiting)
            (handler,) = logging.getLogger(LOGGER).handlers
            assert isinstance(handler, LogReports)
            LOG.warning("in hand")
            await eventually(lambda: not handler._pending)
            for number in range(5):
                LOG.warning("%d", number)
            async with listen("memory://later") as server:
                operator = Operator(server)
                async with running(operator.work()):
                    await eventually(lambda: len(operator.got) == 5)
        assert operator.texts() == ["sent", "in hand", "0", "1", f"{ONLY_THERE}: 3"]


async def test_a_client_that_sends_no_more() -> None:
    """The runner ends with the client's own error."""
    async with listen("memory://") as server:
        async with connect(server.url, backend="b") as client:
            pass
        task = asyncio.create_task(report_logs(client))
        await eventually(lambda: logging.getLogger(LOGGER).handlers)
        LOG.warning("x")
        with pytest.raises(ClosedError):
            await task
    assert not logging.getLogger(LOGGER).handlers
