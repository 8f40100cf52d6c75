"""The database that changes behind the connection: another server, a dead link, a pooler, a file
that is removed, settings and rights that are not ours."""

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from osmo_transport import Ack, UsageError
from osmo_worker import StoreRefusedError, StoreUnavailableError
from osmo_worker.store import StateStore, database, open_store
from osmo_worker.store.migrating import migrate_store
from tests.helpers import eventually
from tests.worker import roles
from tests.worker.harness import STORE, apply, delivery, report, until
from tests.worker.links import Pooler, linked

pytestmark = pytest.mark.postgres

TEXT = "日本語 Ωß"


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """Where a database in a file is."""
    return tmp_path / "store.db"


@pytest.fixture
async def file_store(path: Path) -> AsyncIterator[StateStore]:
    """A store in that file, with one task."""
    async with open_store(f"sqlite:///{path}", STORE) as store:
        await apply(store, report("before"))
        yield store


@contextmanager
def admin(url: str, *undo: str) -> Iterator[psycopg.Connection]:
    """A connection of somebody who may do everything; what is to be done at the end."""
    with psycopg.connect(url, autocommit=True) as connection:
        try:
            yield connection
        finally:
            for statement in undo:
                connection.execute(statement.encode())


def _remove_all(path: Path) -> None:
    for each in path.parent.iterdir():
        each.unlink()


@contextmanager
def impatient(store: StateStore) -> Iterator[None]:
    """Let the store give up on a call after a moment."""
    patient, store._database._config = store._database._config, replace(STORE, call_timeout=0.05)
    try:
        yield
    finally:
        store._database._config = patient


async def _names(store: StateStore) -> list[str]:
    return [task.task_uuid for task in await store.tasks()]


async def _apply_for_ever(store: StateStore) -> None:
    """A server takes a moment to tell its sessions of a setting."""
    while True:
        await apply(store, report("meanwhile"))


async def test_a_server_that_became_read_only_is_left(postgres: str) -> None:
    """After a fail-over the address leads to the new primary, and the connection to the old one."""
    with admin(
        postgres,
        "ALTER SYSTEM RESET default_transaction_read_only",
        "ALTER DATABASE postgres RESET default_transaction_read_only",
        "SELECT pg_reload_conf()",
    ) as other:
        async with open_store(postgres, STORE) as store:
            await apply(store, report("before"))
            other.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            other.execute("SELECT pg_reload_conf()")
            with pytest.raises(StoreUnavailableError, match=r"read-only transaction.*standby"):
                await _apply_for_ever(store)
            # Whoever comes from now on may write; the session of before still may not.
            other.execute("SET default_transaction_read_only = off")
            other.execute("ALTER DATABASE postgres SET default_transaction_read_only = off")
            assert await apply(store, report("after")) == [Ack()]
            assert {"after", "before"} <= set(await _names(store))


async def test_a_link_that_carries_nothing_is_left(postgres: str) -> None:
    """The call that it does not answer is unavailable in time, and the next one takes another."""
    with linked(postgres) as link:
        async with open_store(link.url, STORE) as store:
            await apply(store, report("before"))
            link.swallow()
            with (
                impatient(store),
                pytest.raises(StoreUnavailableError, match=r"did not answer within 0\.05 s"),
            ):
                await apply(store, report("after"))
            assert await apply(store, report("after")) == [Ack()]
            assert link.accepted == 2
            assert await _names(store) == ["after", "before"]


async def test_what_a_dead_link_has_locked_is_free_again(postgres: str) -> None:
    """The server ends a session that it no longer hears of in the middle of a transaction."""
    with linked(postgres) as link:
        config = replace(STORE, call_timeout=0.5, busy_timeout=0.1)
        async with open_store(link.url, config) as store:
            store._database._config = STORE  # the server alone is in a hurry
            await store.check()

            hanging: list[bool] = []

            def hang() -> None:
                with store._database.transaction() as connection:
                    connection.exec_driver_sql("LOCK TABLE tasks")
                    link.swallow()
                    hanging.append(True)
                    connection.exec_driver_sql("SELECT 1")

            # Only when it has locked something.
            calling = asyncio.create_task(store._database.call(hang))
            await eventually(lambda: hanging or calling.done())
            store._database._backing.cut()
            with pytest.raises(StoreUnavailableError):
                await calling
            assert hanging

            async def applied() -> bool:
                try:
                    return await apply(store, report("task", version=(1, 2))) == [Ack()]
                except StoreUnavailableError:
                    return False

            await until(applied, 30.0)


async def test_a_dead_link_does_not_keep_a_store_open(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing cuts what does not end by itself."""
    monkeypatch.setattr(database, "CLOSE_TIMEOUT", 0.05)
    with linked(postgres) as link:
        async with open_store(link.url, replace(STORE, call_timeout=60.0)) as store:
            await store.check()
            link.swallow()
            calling = asyncio.create_task(apply(store, report()))
            await asyncio.sleep(0)
            begun = time.monotonic()
        assert time.monotonic() - begun < 5
        with pytest.raises(StoreUnavailableError):
            await calling


def test_a_thread_that_hangs_does_not_keep_a_program_from_ending(tmp_path: Path) -> None:
    """Whatever it hangs in, once the store was given the time to close."""
    program = f"""
import asyncio, threading
from osmo_worker.store import database, open_store
database.CLOSE_TIMEOUT = 0.01
async def run():
    async with open_store("sqlite:///{tmp_path}/x.db") as store:
        hanging = asyncio.ensure_future(store._database.call(threading.Event().wait))
        await asyncio.sleep(0)
        hanging.cancel()
asyncio.run(run())
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


async def test_cutting_a_connection_that_is_closed_does_nothing(
    file_store: StateStore, postgres: str
) -> None:
    """Whoever gives up on a call may be late."""
    async with open_store(postgres, STORE) as store:
        await store.check()
        for each in (store, file_store):
            await each._database.call(each._database._backing.disconnect)
            each._database._backing.cut()
            await apply(each, report("after"))


@pytest.mark.parametrize("threshold", ["", "?prepare_threshold=0", "?prepare_threshold=None"])
async def test_a_pooler_needs_no_setting(postgres: str, threshold: str) -> None:
    """Neither does it keep a session between transactions, nor take options at the start."""
    with linked(postgres, Pooler) as link:
        async with open_store(link.url + threshold, STORE) as store:
            for number in range(20):
                reports = [report(f"{number}-{task}", version=(1, 1)) for task in range(3)]
                assert await apply(store, *reports) == [Ack()] * 3
            assert await store.counts() == {"RUNNING": 60}


async def test_statements_are_prepared_where_there_is_no_pooler(postgres: str) -> None:
    """For the speed; and not for more than one session."""
    counted = "SELECT count(*) FROM pg_prepared_statements"
    async with open_store(postgres, STORE) as store:
        for number in range(10):
            await apply(store, report(version=(1, number + 1)))

        def count() -> int:
            with store._database.transaction(write=False) as connection:
                return int(connection.exec_driver_sql(counted).scalar_one())

        assert await store._database.call(count) > 0


@pytest.mark.parametrize("value", ["many", "1.5"])
def test_an_option_that_cannot_be_is_told(value: str) -> None:
    """When the store is opened."""
    with pytest.raises(UsageError, match="prepare_threshold"):
        open_store(f"postgresql://127.0.0.1/x?prepare_threshold={value}")


@pytest.mark.parametrize("option", ["nonsense=1", "connect_timeout=abc"])
async def test_an_option_that_the_driver_refuses_is_told(postgres: str, option: str) -> None:
    """No waiting mends it."""
    async with open_store(f"{postgres}?{option}", STORE) as store:
        with pytest.raises(StoreRefusedError, match=option.partition("=")[0]):
            await store.check()


@pytest.mark.parametrize("encoding", ["UTF8", "SQL_ASCII", "LATIN1"])
async def test_the_encoding_of_the_database(postgres: str, encoding: str) -> None:
    """It holds every text, or is refused: no report may fail for its language."""
    name = f"of_{encoding.lower()}"
    with admin(postgres, f"DROP DATABASE {name} WITH (FORCE)") as other:
        other.execute(
            f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0"
            " LC_COLLATE 'C' LC_CTYPE 'C'".encode()
        )
        async with open_store(postgres.replace("/postgres", f"/{name}"), STORE) as store:
            if encoding == "LATIN1":
                with pytest.raises(StoreRefusedError, match=r"LATIN1.*ENCODING 'UTF8'"):
                    await store.check()
            else:
                await apply(store, report(message=TEXT))
                (task,) = await store.tasks()
                assert task.message == TEXT


@pytest.mark.parametrize(
    "setting", ["timezone = 'America/New_York'", "timezone = 'Asia/Tokyo'", "datestyle = 'German'"]
)
async def test_the_clock_and_the_calendar_of_the_database(postgres: str, setting: str) -> None:
    """Moments are in UTC, also the first ones of the calendar, whatever its sessions begin with."""
    with admin(postgres, f"ALTER DATABASE postgres RESET {setting.partition(' ')[0]}") as other:
        other.execute(f"ALTER DATABASE postgres SET {setting}".encode())
        async with open_store(postgres, STORE) as store:
            for task, created in (("a", "2026-01-02T03:04:05Z"), ("b", "0001-01-01T00:00:00Z")):
                await apply(store, report(task, created_at=created))
            assert [task.created_at for task in await store.tasks()] == [
                datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
                datetime(1, 1, 1, tzinfo=UTC),
            ]


@contextmanager
def _limited(url: str) -> Iterator[tuple[str, psycopg.Connection]]:
    """The URL of a role without rights, and a connection of who may give them."""
    undo = ("DROP OWNED BY limited", "DROP ROLE limited")
    with admin(url, *undo) as other:
        other.execute("CREATE ROLE limited LOGIN")
        yield url.replace("osmo@", "limited@"), other


@pytest.fixture
def guide(guide_database: str) -> Iterator[psycopg.Connection]:
    """A connection of the owner of the production guide's tables, which are empty."""
    roles.empty(guide_database)
    with psycopg.connect(roles.of(roles.OWNER, guide_database), autocommit=True) as connection:
        yield connection


async def test_the_roles_of_the_production_guide(
    guide: psycopg.Connection, guide_database: str
) -> None:
    """A worker holds one connection, and whoever reads sees what it writes, and writes nothing."""
    worker, reader = (roles.of(role, guide_database) for role in (roles.WORKER, roles.READER))
    async with open_store(worker, STORE) as store, open_store(reader, STORE) as seen:
        await apply(store, report())
        assert await seen.counts() == {"RUNNING": 1}
        assert len(await seen.backends()) == 1
        assert await seen.tally_tasks().complete()
        with pytest.raises(StoreRefusedError, match="permission denied"):
            await apply(seen, report("other"))
        count = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{roles.WORKER}'"
        assert guide.execute(count.encode()).fetchone() == (1,)


async def test_the_tables_are_changed_by_their_owner_alone(
    guide: psycopg.Connection, guide_database: str
) -> None:
    """A worker that finds them not as it needs them ends, and says who changes them; tables that
    the owner makes are the worker's to use at once."""
    worker = roles.of(roles.WORKER, guide_database)
    guide.execute("DROP TABLE pod_events")
    async with open_store(worker, STORE) as store:
        with pytest.raises(StoreRefusedError, match=r"permission denied .*`osmo-worker migrate`"):
            await store.check()
        await migrate_store(roles.of(roles.OWNER, guide_database), STORE)
        await apply(store, report())
        assert await store.pod_events("flow/pod") == []


async def test_a_missing_right_to_create_tables_is_told(postgres: str) -> None:
    """No waiting mends it; who was given the right goes on."""
    with _limited(postgres) as (url, other):
        async with open_store(url, STORE) as store:
            with pytest.raises(StoreRefusedError, match=r"no schema .*let it CREATE there"):
                await store.check()
            other.execute("GRANT USAGE ON SCHEMA public TO limited")
            with pytest.raises(
                StoreRefusedError, match=r"permission denied.*needs CREATE on the schema"
            ):
                await store.check()
            other.execute("GRANT CREATE ON SCHEMA public TO limited")
            await apply(store, report())
            assert await store.counts() == {"RUNNING": 1}


@pytest.mark.parametrize("right", ["INSERT", "UPDATE"])
async def test_a_missing_right_to_write_is_told(postgres: str, right: str) -> None:
    """Also when it was taken away from a worker that had it."""
    with _limited(postgres) as (url, other):
        async with open_store(postgres, STORE) as store:
            await store.check()
        other.execute("GRANT USAGE ON SCHEMA public TO limited")
        other.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO limited")
        async with open_store(url, STORE) as store:
            await apply(store, report("before"))
            other.execute(f"REVOKE {right} ON tasks FROM limited".encode())
            with pytest.raises(StoreRefusedError, match=r"denied for table tasks.*GRANT"):
                await apply(store, report("after"))
            other.execute("GRANT ALL ON tasks TO limited")
            await apply(store, report("after"))


@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
async def test_a_file_that_is_no_longer_there_is_left(
    file_store: StateStore, path: Path, replaced: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """What is acknowledged from then on is in the file that is there, and it is told."""
    _remove_all(path)
    if replaced:
        async with open_store(f"sqlite:///{path}", STORE) as other:
            await apply(other, report("other"))
    assert await apply(file_store, report("after")) == [Ack()]
    async with open_store(f"sqlite:///{path}", STORE) as other:
        assert await _names(other) == (["after", "other"] if replaced else ["after"])
    (told,) = caplog.messages
    assert f"{path} was {'replaced' if replaced else 'removed'}: opened anew" in told


async def test_a_log_that_is_no_longer_there_is_left(file_store: StateStore, path: Path) -> None:
    """Of the write-ahead log alone it is the same."""
    path.with_name(f"{path.name}-wal").unlink()
    assert await apply(file_store, report("after")) == [Ack()]
    async with open_store(f"sqlite:///{path}", STORE) as other:
        assert "after" in await _names(other)


async def test_what_is_written_while_the_file_is_removed_is_not_acknowledged(
    file_store: StateStore, path: Path
) -> None:
    """It is written again, into the one that is there."""

    def write() -> None:
        with file_store._database.transaction() as connection:
            connection.exec_driver_sql("DELETE FROM tasks")
            _remove_all(path)

    with pytest.raises(StoreUnavailableError, match="removed while it was written"):
        await file_store._database.call(write)
    assert await apply(file_store, report("after")) == [Ack()]
    assert await _names(file_store) == ["after"]


async def test_a_folder_that_is_gone_is_waited_for(
    file_store: StateStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A volume that was unmounted comes back."""
    away = path.parent.rename(path.parent.with_name("away"))
    caplog.set_level(logging.WARNING)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError, match=r"unable to open.*folder that exists"):
            await apply(file_store, report("after"))
    away.rename(path.parent)
    assert await apply(file_store, report("after")) == [Ack()]
    assert await _names(file_store) == ["after", "before"]
    assert len(caplog.messages) == 1


async def test_a_statement_that_takes_too_long_is_interrupted(file_store: StateStore) -> None:
    """The thread is free for the next call."""
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"

    def hang() -> None:
        with file_store._database.transaction(write=False) as connection:
            connection.exec_driver_sql(endless)

    with impatient(file_store), pytest.raises(StoreUnavailableError, match="did not answer"):
        await file_store._database.call(hang)
    assert await file_store.handle_batch([delivery(report("after"))]) == [Ack()]
