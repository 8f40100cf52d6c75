"""What listeners say is written to the worker's log."""

import logging

import pytest

from osmo_reports.bodies import Logging, LogType, encode_body
from osmo_transport import Ack, Message, Reject, new_message
from osmo_worker import StoreUnavailableError
from osmo_worker.store import StateStore, open_store
from osmo_worker.store.kinds.logs import MAX_TEXT
from tests.worker.harness import BACKEND, STORE, apply, report

LOGGER = "osmo_worker.store.kinds.logs"


def log(text: str, type_: LogType = LogType.INFO, workflow: str = "") -> Message:
    """A `logging` message."""
    return new_message("logging", "log", encode_body(Logging(type_, text, workflow)))


@pytest.fixture
def written(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The records of every level."""
    caplog.set_level(logging.DEBUG, LOGGER)
    return caplog


@pytest.mark.parametrize(
    ("type_", "level"),
    [
        (LogType.DEBUG, logging.DEBUG),
        (LogType.INFO, logging.INFO),
        (LogType.WARNING, logging.WARNING),
        (LogType.EXCEPTION, logging.ERROR),
    ],
)
async def test_a_message_is_logged_with_its_origin(
    store: StateStore, written: pytest.LogCaptureFixture, type_: LogType, level: int
) -> None:
    """At the level of its type, with the backend, and the workflow if there is one."""
    outcomes = await apply(store, log("it is late", type_), log("too late", type_, "flow-1"))
    assert outcomes == [Ack(), Ack()]
    assert [record for record in written.record_tuples if record[0] == LOGGER] == [
        (LOGGER, level, f"{BACKEND}: it is late"),
        (LOGGER, level, f"{BACKEND}, workflow flow-1: too late"),
    ]
    (backend,) = await store.backends()
    assert backend.name == BACKEND


@pytest.mark.parametrize("text", ["a\nFAKE: b", "a\r\nb", "a\x1b[31mb", "a\u2028b", "a\0b"])
async def test_a_message_is_one_line(
    store: StateStore, written: pytest.LogCaptureFixture, text: str
) -> None:
    """Whatever a listener says, it cannot look like another record."""
    await apply(store, log(text, workflow=text))
    (message,) = written.messages
    assert message.isprintable()
    assert repr(text)[1:-1] in message


async def test_a_long_message_is_cut(store: StateStore, written: pytest.LogCaptureFixture) -> None:
    """A log is read by people."""
    await apply(store, log("é" * (MAX_TEXT + 1)))
    assert written.messages == [f"{BACKEND}: {'é' * (MAX_TEXT - 1)}…"]


@pytest.mark.parametrize("operation", ["create", "update"])
async def test_a_notice_of_a_registration_is_no_text(
    store: StateStore, written: pytest.LogCaptureFixture, operation: str
) -> None:
    """Semantics 2.1: its backend is in the table, and nothing is in the log."""
    assert await apply(store, log(f"__BACKEND_OP__:{operation}")) == [Ack()]
    assert written.messages == []
    (backend,) = await store.backends()
    assert (backend.name, backend.last_heartbeat) == (BACKEND, None)


async def test_what_is_not_applied_is_not_logged(
    store: StateStore, written: pytest.LogCaptureFixture
) -> None:
    """A payload that is none becomes a dead letter; what stands beside it is logged once."""
    outcomes = await apply(
        store, log("once"), new_message("logging", "log", b"\xc1"), report("x" * 10)
    )
    assert isinstance(outcomes[1], Reject)
    assert written.messages == [f"{BACKEND}: once"]


async def test_an_outage_logs_nothing(written: pytest.LogCaptureFixture, tmp_path: str) -> None:
    """The batch comes again, and its messages with it."""
    async with open_store(f"sqlite:///{tmp_path}/absent/store.db", STORE) as store:
        with pytest.raises(StoreUnavailableError):
            await apply(store, log("once"))
    assert written.messages == []
