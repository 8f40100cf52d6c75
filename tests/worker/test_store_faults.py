"""The state store when its database is locked, full, read-only, gone, or not ours."""

import asyncio
import sqlite3
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from osmo_transport import Ack, Delivery, Outcome, UnknownSchemeError, UsageError, files
from osmo_worker import (
    HandlerUnavailableError,
    StoreRefusedError,
    StoreUnavailableError,
    Worker,
)
from osmo_worker.store import StateStore, open_store
from osmo_worker.store.schema import SCHEMA_VERSION
from tests.helpers import eventually
from tests.transport.certificates import Authority, authority, encrypted
from tests.worker.harness import (
    CONFIG,
    QUEUE,
    STORE,
    delivery,
    filled_queue,
    report,
    work_off,
    working,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "store.db"


@pytest.fixture
async def file_store(path: Path) -> AsyncIterator[StateStore]:
    """A store in that file, its tables created."""
    async with open_store(f"sqlite:///{path}", STORE) as store:
        await store.check()
        yield store


async def test_a_locked_database_holds_the_worker_until_it_is_free(
    file_store: StateStore, path: Path
) -> None:
    """However long another program holds the lock, no attempt is used up and all is applied."""
    tries = 0

    class Counted:
        async def handle_batch(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
            nonlocal tries
            tries += 1
            return await file_store.handle_batch(deliveries)

    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    async with filled_queue(*(report(str(number)) for number in range(100))) as queue:
        worker = Worker(queue.consumer("workers", "one"), Counted(), CONFIG)
        async with working(worker):
            await eventually(lambda: tries > 2 * QUEUE.max_attempts)
            assert "database is locked" in (worker.metrics.holding or "")
            assert worker.metrics.handled == 0
            other.execute("ROLLBACK")
            other.close()
            await eventually(lambda: worker.metrics.handled == 100)
        assert worker.metrics.retried == 0
        assert await queue.dead_letters(1) == []
    assert await file_store.counts() == {"RUNNING": 100}


async def test_a_full_disk_is_unavailable_and_then_goes_on(path: Path) -> None:
    """Nothing of the batch is applied, and the same batch succeeds when there is room again."""
    async with open_store(f"sqlite:///{path}", STORE) as store:
        await store.check()
        database = store._database

        def limit(pages: int) -> None:
            with database.transaction(write=False) as connection:
                connection.execute(text(f"PRAGMA max_page_count = {pages}"))

        await database.call(limit, 1)
        batch = [delivery(report(str(number), message="x" * 1000)) for number in range(100)]
        with pytest.raises(StoreUnavailableError, match=r"full.*make room"):
            await store.handle_batch(batch)
        assert await store.tasks() == []
        await database.call(limit, 1_000_000)
        assert await store.handle_batch(batch) == [Ack()] * 100


async def test_a_read_only_database_is_unavailable(file_store: StateStore, path: Path) -> None:
    """The error names the database and says what it refuses."""
    await file_store.aclose()
    async with open_store(f"sqlite:///file:{path}?mode=ro&uri=true", STORE) as store:
        with pytest.raises(
            StoreUnavailableError, match=r"readonly.*make the file and its folder writable"
        ):
            await store.handle_batch([delivery(report())])


async def test_a_file_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    """A folder that is not mounted yet is waited for."""
    folder = tmp_path / "later"
    async with open_store(f"sqlite:///{folder}/store.db", STORE) as store:
        with pytest.raises(
            StoreUnavailableError, match=r"later/store.db: unable to open.*folder that exists"
        ):
            await store.check()
        folder.mkdir()
        await store.check()


async def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    """No waiting makes it one; it is left as it is."""
    text = "dear diary\n" * 100
    path.write_text(text)  # noqa: ASYNC240
    async with open_store(f"sqlite:///{path}", STORE) as store:
        with pytest.raises(StoreRefusedError, match=r"not a database .name another file"):
            await store.check()
    assert path.read_text() == text  # noqa: ASYNC240


async def test_tables_that_vanish_are_created_again(file_store: StateStore, path: Path) -> None:
    """The first batch finds out, the same batch succeeds."""
    other = sqlite3.connect(path)
    other.execute("DROP TABLE tasks")
    other.close()
    with pytest.raises(StoreUnavailableError, match="no such table"):
        await file_store.handle_batch([delivery(report())])
    assert await file_store.handle_batch([delivery(report())]) == [Ack()]


async def test_a_call_that_gets_no_answer_is_unavailable(path: Path) -> None:
    """A database that hangs holds the worker; it is not mistaken for a handler that hangs."""
    config = replace(STORE, busy_timeout=0.5, call_timeout=0.01)
    async with open_store(f"sqlite:///{path}", replace(config, call_timeout=5.0)) as store:
        await store.check()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    async with open_store(f"sqlite:///{path}", config) as store:
        with pytest.raises(HandlerUnavailableError, match=r"did not answer within 0\.01 s"):
            await store.handle_batch([delivery(report())])
        other.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def owned_url(request: pytest.FixtureRequest, path: Path) -> str:
    """The URL of an empty store whose tables are the user's own."""
    if request.param == "sqlite":
        return f"sqlite:///{path}"
    url: str = request.getfixturevalue("postgres")
    return url


async def test_a_database_of_another_schema_version_is_refused(owned_url: str) -> None:
    """The error names both versions, and nothing is changed."""
    async with open_store(owned_url, STORE) as store:
        await store.check()

        def spoil() -> None:
            with store._database.transaction() as connection:
                connection.execute(text("UPDATE schema_version SET version = 99"))

        await store._database.call(spoil)
    async with open_store(owned_url, STORE) as store:
        with pytest.raises(StoreRefusedError, match=f"version 99 and .* knows {SCHEMA_VERSION}"):
            await store.check()


async def test_a_database_with_a_foreign_table_is_refused(path: Path) -> None:
    """Somebody else's `tasks` is not written into."""
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE tasks (id INTEGER PRIMARY KEY)")
    other.close()
    async with open_store(f"sqlite:///{path}", STORE) as store:
        with pytest.raises(StoreRefusedError, match="table 'tasks' that is not ours"):
            await store.check()


@pytest.mark.postgres
async def test_a_lost_postgresql_connection_is_made_again(postgres: str) -> None:
    """A batch that meets the loss is unavailable; the next one succeeds."""
    async with open_store(postgres, STORE) as store:
        await store.check()
        with psycopg.connect(postgres, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
        batch = [delivery(report())]
        with pytest.raises(StoreUnavailableError):
            await store.handle_batch(batch)
        assert await store.handle_batch(batch) == [Ack()]


@pytest.mark.postgres
async def test_each_connection_has_the_password_that_is_in_the_file_then(
    postgres: str, tmp_path: Path
) -> None:
    """A new one needs no restart."""
    path = tmp_path / "password"
    async with AsyncExitStack() as stack:
        path.write_text("old\n")
        store = await stack.enter_async_context(
            open_store(f"{postgres}?password_file={path}", STORE)
        )
        database = store._database

        def password() -> str:
            with database.transaction(write=False) as connection:
                driver = connection.connection.driver_connection
                assert isinstance(driver, psycopg.Connection)
                return driver.info.password

        (file,) = (each for each in files.watched() if each.path == path)
        file.refused = True
        database._backing.disconnect()
        assert await database.call(password) == "old"
        assert not file.refused
        path.write_text("new\n")
        database._backing.disconnect()
        assert await database.call(password) == "new"


async def test_a_password_that_postgresql_refuses_is_told_of(tmp_path: Path) -> None:
    """Until one is accepted; it is waited for, as the right one may come into the file."""
    path = tmp_path / "password"
    path.write_text("sesame")
    refusal = b'SFATAL\0C28P01\0Mpassword authentication failed for user "u"\0\0'

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(4))
        await reader.readexactly(size - 4)
        writer.write(b"E" + (len(refusal) + 4).to_bytes(4) + refusal)
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        where = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        url = f"postgresql://u@{where}/db?sslmode=disable&gssencmode=disable&password_file={path}"
        async with open_store(url, STORE) as store:
            (file,) = (each for each in files.watched() if each.path == path)
            assert not file.refused
            with pytest.raises(StoreUnavailableError, match="authentication failed") as refused:
                await store.check()
            assert file.refused
            assert "sesame" not in str(refused.value)


async def test_each_connection_to_postgresql_reads_its_certificates(tmp_path: Path) -> None:
    """New ones need no restart: the driver reads the files that the URL names each time."""
    trusted, stranger = (new_authority(tmp_path / name) for name in ("trusted", "stranger"))
    own = trusted.signed("server")
    assert own.cert_file is not None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(own.cert_file, own.key_file)
    trusting: list[bool] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)  # asks for TLS
        writer.write(b"S")
        try:
            await writer.start_tls(context)
            # The greeting comes from who trusts the certificate.
            trusting.append(bool(await reader.read(1)))
        except (OSError, asyncio.IncompleteReadError):
            trusting.append(False)
        writer.transport.abort()

    path = tmp_path / "ca.pem"
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"postgresql://me@127.0.0.1:{port}/db?sslmode=verify-ca&sslrootcert={path}"
    async with server, open_store(url, STORE) as store:
        for each in (stranger, trusted, stranger):
            put(path, each.ca_file.read_bytes())
            with pytest.raises(StoreUnavailableError):
                await store.check()
            await eventually(lambda: trusting)
            assert trusting.pop() is (each is trusted)


async def test_nobody_is_asked_for_the_passphrase_of_a_key(tmp_path: Path) -> None:
    """For which the driver would wait at the terminal."""
    tls = authority(tmp_path).signed("client")
    assert tls.key_file is not None
    encrypted(tls.key_file)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)  # asks for TLS
        writer.write(b"S")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        where = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        files = f"sslcert={tls.cert_file}&sslkey={tls.key_file}"
        async with open_store(f"postgresql://u@{where}/db?sslmode=require&{files}", STORE) as store:
            with pytest.raises(StoreUnavailableError, match=r"bad decrypt.*a key that is not enc"):
                await store.check()


def new_authority(folder: Path) -> Authority:
    folder.mkdir()
    return authority(folder)


def put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


async def test_a_second_password_of_postgresql_is_refused(tmp_path: Path) -> None:
    """As is a file that is not there."""
    path = tmp_path / "password"
    with pytest.raises(UsageError, match=r"the password file .* cannot be used"):
        open_store(f"postgresql://h/db?password_file={path}")
    path.write_text("one")
    with pytest.raises(UsageError, match="choose one"):
        open_store(f"postgresql://u:two@h/db?password_file={path}")


async def test_a_postgresql_that_is_down_is_unavailable_and_its_password_is_secret() -> None:
    """The error names host and database, and no secret."""
    url = "postgresql://me:hunter2@127.0.0.1:1/osmo"
    async with open_store(url, STORE) as store:
        assert store.url == "postgresql://me:***@127.0.0.1:1/osmo"
        with pytest.raises(StoreUnavailableError) as caught:
            await store.check()
    assert "127.0.0.1:1/osmo" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "error", "text"),
    [
        ("mysql://root@127.0.0.1/osmo", UnknownSchemeError, "no store serves 'mysql'"),
        ("osmo.db", UsageError, "cannot be read"),
        ("postgresql://me:hunter2@host:port/db", UsageError, "cannot be read"),
        ("sqlite:///a%00b", UsageError, "cannot be read"),
        ("postgresql://h/d?password_file=a%00b", UsageError, "cannot be read"),
        ("sqlite://", UsageError, "names a file"),
        ("sqlite:///:memory:", UsageError, "names a file"),
    ],
)
def test_a_url_that_names_no_store_is_refused(url: str, error: type[Exception], text: str) -> None:
    """The error says what the URL may be, and repeats no password."""
    with pytest.raises(error, match=text) as caught:
        open_store(url)
    assert "sqlite:///PATH" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "url", "command"),
    [
        ("sqlalchemy", "memory://", "pip install 'osmo-pipeline[store]'"),
        ("psycopg", "postgresql://127.0.0.1/osmo", "pip install 'osmo-pipeline[postgres]'"),
    ],
)
def test_a_missing_extra_is_named(module: str, url: str, command: str) -> None:
    """Without the driver the worker starts, and says how to install it when it is needed."""
    program = f"""
import sys
sys.modules[{module!r}] = None
import osmo_worker
from osmo_transport import MissingExtraError
try:
    from osmo_worker.store import open_store
    open_store({url!r})
except MissingExtraError as exc:
    print(exc)
"""
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert command in answer.stdout


@pytest.mark.parametrize("moment", ["before", "during", "after"])
@pytest.mark.parametrize("batch", [1, 2, 3])
async def test_a_worker_cancelled_around_a_batch_loses_nothing(
    file_store: StateStore, moment: str, batch: int
) -> None:
    """Its successor is given what was not settled, also when it was applied already."""
    calls = 0
    async with filled_queue(*(report(str(number)) for number in range(30))) as queue:
        config = replace(CONFIG, read_limit=10, batch_limit=10)

        class Interrupted:
            async def handle_batch(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
                nonlocal calls
                calls += 1
                if calls != batch:
                    return await file_store.handle_batch(deliveries)
                if moment == "before":
                    running.cancel()
                applying = asyncio.ensure_future(file_store.handle_batch(deliveries))
                if moment == "during":
                    await asyncio.sleep(0)
                    running.cancel()
                outcomes = await applying
                running.cancel()
                return outcomes

        worker = Worker(queue.consumer("workers", "one"), Interrupted(), config)
        running = asyncio.ensure_future(worker.run(asyncio.Event()))
        with pytest.raises(asyncio.CancelledError):
            await running
        await work_off(queue, file_store)
        assert await queue.dead_letters(1) == []
    assert await file_store.counts() == {"RUNNING": 30}
