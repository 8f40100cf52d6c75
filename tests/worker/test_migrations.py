"""The tables of older releases: brought to today's with their rows, by whoever comes first."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, Index, create_engine, inspect, text

from osmo_runtime import logs
from osmo_worker import StoreRefusedError, StoreUnavailableError
from osmo_worker.__main__ import DUE, main
from osmo_worker.store import StateStore, migrations, open_store
from osmo_worker.store.schema import SCHEMA_VERSION, metadata
from tests.postgres import emptied
from tests.worker.harness import STORE, apply, report

OLDER = range(1, SCHEMA_VERSION)

ROWS = """
INSERT INTO backends VALUES ('b', '2026-01-01T00:00:00.000Z', '2026-01-02T00:00:00.000Z');
INSERT INTO snapshots VALUES ('b', 'update_pod', 7, 70, 2, '2026-01-02T00:00:00.000Z');
INSERT INTO tasks VALUES ('b', 'flow', 'done', 0, 'FAILED', true, 3, 'why', 'n', 'main', '10.0.0.1',
  'osmo/p', '[]', NULL, '2026-01-02T03:04:05.678Z', '2026-01-03T00:00:00.000Z', 7, 71, 7, 70);
INSERT INTO tasks VALUES ('b', 'flow', 'live', 1, 'RUNNING', false, NULL, '', 'n', '', '', 'osmo/q',
  '[]', '2026-01-01T00:00:00.000Z', '2026-01-02T00:00:00.000Z', NULL, 7, 72, 7, 72);
"""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database that outlives its connections."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    return str(request.getfixturevalue("postgres"))


def _engine(url: str) -> Engine:
    return create_engine(url.replace("postgresql://", "postgresql+psycopg://"))


def _change(url: str, work: Callable[[Connection], Any]) -> Any:
    engine = _engine(url)
    try:
        with engine.begin() as connection:
            return work(connection)
    finally:
        engine.dispose()


def _build(url: str, version: int) -> None:
    """Tables of a version, with rows that the first had already."""

    def build(connection: Connection) -> None:
        migrations.migrate(connection, migrations.EMPTY, 1)
        for statement in ROWS.strip().split(";\n"):
            connection.execute(text(statement.rstrip(";")))
        migrations.migrate(connection, 1, version)

    _change(url, build)


def _version(url: str) -> int:
    return int(_change(url, migrations.version_of))


async def _check_rows(url: str) -> None:
    async with open_store(url, STORE) as store:
        (backend,) = await store.backends()
        assert (backend.name, backend.last_heartbeat) == ("b", None)
        done, live = await store.tasks()
        assert (done.status, done.exit_code, done.message, done.terminal, done.concluded) == (
            *("FAILED", 3, "why"),
            *(True, False),
        )
        assert done.status_since == done.updated_at
        assert done.updated_at.isoformat() == "2026-01-02T03:04:05.678000+00:00"
        assert done.deleted_at is not None
        assert (live.status, live.retry_id, live.terminal, live.deleted_at) == (
            *("RUNNING", 1),
            *(False, None),
        )
        assert (live.epoch, live.resource_version, live.exit_code) == (7, 72, None)
        assert await store.epochs() == {"b": 7}


@pytest.mark.parametrize("version", OLDER)
async def test_the_tables_of_every_older_release_keep_their_rows(url: str, version: int) -> None:
    """And the store goes on with them: tombstones and versions count as before."""
    _build(url, version)
    await _check_rows(url)
    assert _version(url) == SCHEMA_VERSION
    async with open_store(url, STORE) as store:
        await apply(store, report("live", version=(7, 80), status="COMPLETED"))
        assert (await store.counts()) == {"RUNNING": 1, "COMPLETED": 1}


def _shape(connection: Connection) -> dict[str, Any]:
    """All that a database says of its tables, but for the order of their columns."""
    inspector = inspect(connection)
    return {
        name: (
            sorted(repr({**column, "type": str(column["type"])}) for column in columns),
            inspector.get_pk_constraint(name)["constrained_columns"],
            sorted((index["name"], index["column_names"]) for index in inspector.get_indexes(name)),
        )
        for name in inspector.get_table_names()
        for columns in [inspector.get_columns(name)]
    }


def _conditions(connection: Connection) -> set[str]:
    """The partial indexes, and the room in each page, in the database's own words."""
    catalog = (
        "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        if connection.dialect.name == "sqlite"
        else "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' UNION ALL"
        " SELECT concat(relname, reloptions) FROM pg_class"
        " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
    )
    return {" ".join(str(sql).split()) for (sql,) in connection.execute(text(catalog))}


def test_migrations_and_metadata_agree(url: str) -> None:
    """A database that was migrated all the way is like one that was just created."""

    def differences(connection: Connection) -> list[Any]:
        def included(item: Any, *_: object) -> bool:
            only = item._ddl_if if isinstance(item, Index) else None
            return only is None or only.dialect == connection.dialect.name

        # Not the defaults, of which NULL is one and none at all another: `_shape` has them.
        options = {"compare_type": True, "include_object": included}
        found: list[Any] = compare_metadata(
            MigrationContext.configure(connection, opts=options), metadata
        )
        return found

    _change(url, lambda connection: migrations.migrate(connection, 0))
    assert _change(url, differences) == []
    migrated = _change(url, _shape), _change(url, _conditions)
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).unlink()
    else:
        emptied(url)
    _change(url, migrations.create)
    assert migrated == (_change(url, _shape), _change(url, _conditions))


async def test_workers_that_start_together_migrate_once(url: str) -> None:
    """One does it, the others wait for it."""
    _build(url, 1)
    async with asyncio.TaskGroup() as tasks:
        for _ in range(3):
            tasks.create_task(_checked(open_store(url, STORE)))
    await _check_rows(url)


async def _checked(store: StateStore) -> None:
    async with store:
        while True:
            try:
                return await store.check()
            except StoreUnavailableError as exc:
                if "lock" not in str(exc):
                    raise


KILLED = """
import os, signal, sys
from sqlalchemy import Engine, event
from osmo_worker.__main__ import main

_, url, fatal = sys.argv

@event.listens_for(Engine, "before_cursor_execute")
def kill(connection, cursor, statement, *_):
    if " ".join(statement.split()).startswith(fatal):
        os.kill(os.getpid(), signal.SIGKILL)

sys.argv[1:] = ["migrate", "--store", url]
sys.exit(main())
"""


@pytest.mark.parametrize(
    "statement",
    ["UPDATE tasks", "DROP TABLE tasks", "UPDATE schema_version"],
)
async def test_a_migration_that_is_killed_has_changed_nothing(url: str, statement: str) -> None:
    """Wherever it was: the next one begins anew, and ends."""
    if url.startswith("postgresql"):
        statement = statement.replace("DROP TABLE tasks", "ALTER TABLE tasks ADD COLUMN terminal")
    _build(url, 1)
    before = _change(url, _shape)
    program = [sys.executable, "-c", KILLED, url, statement]
    ended = await asyncio.to_thread(subprocess.run, program, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert _version(url) == 1
    assert _change(url, _shape) == before
    await _check_rows(url)


def _run(monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["osmo-worker", "migrate", *options])
    return main()


def test_the_command_migrates(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says from which version to which, and `--check` whether there is something to do."""
    _build(url, 1)
    codes = [
        _run(monkeypatch, "--store", url, *options)
        for options in (("--check",), (), (), ("--check",))
    ]
    assert codes == [DUE, 0, 0, 0]
    now = f"version {SCHEMA_VERSION}"
    done = f"{url}: {now} -> {now}"
    assert capsys.readouterr().out.splitlines() == [
        *(f"{url}: version 1 -> {now}", f"{url}: version 1 -> {now}"),
        *(done, done),
    ]


def test_the_command_tells_of_an_empty_database(
    url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has no tables yet, and gets them."""
    _change(url, lambda connection: connection.execute(text("SELECT 1")))
    assert [_run(monkeypatch, "--store", url, "--check"), _run(monkeypatch, "--store", url)] == [
        *(DUE, 0)
    ]
    said = f"{url}: no tables -> version {SCHEMA_VERSION}"
    assert capsys.readouterr().out.splitlines() == [said, said]
    assert _version(url) == SCHEMA_VERSION


def test_the_check_makes_no_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the file is not there, it says so; who migrates, makes it."""
    path = tmp_path / "store.db"
    options = "--store", f"sqlite:///{path}"
    assert _run(monkeypatch, *options, "--check") == DUE
    assert not path.exists()
    assert _run(monkeypatch, *options) == 0
    assert path.exists()
    said = f"sqlite:///{path}: no database -> version {SCHEMA_VERSION}"
    assert capsys.readouterr().out.splitlines() == [said, said]


def test_the_check_reads_uris_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They say themselves whether a file is made that is not there."""
    store = f"sqlite:///file:{tmp_path}/store.db?mode=rw&uri=true"
    assert _run(monkeypatch, "--store", store, "--check") == 1
    _build(f"sqlite:///{tmp_path}/store.db", SCHEMA_VERSION)
    assert _run(monkeypatch, "--store", store, "--check") == 0


def test_the_check_tells_of_a_folder_that_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """There no worker could make a file."""
    assert _run(monkeypatch, "--store", "sqlite:////absent/x.db", "--check") == 1


@pytest.mark.parametrize(
    ("store", "code"), [("sqlite:////absent/x.db", 1), ("mysql://x", 2), ("osmo.db", 2)]
)
def test_the_command_tells_what_it_could_not_do(
    monkeypatch: pytest.MonkeyPatch, store: str, code: int
) -> None:
    """By its exit code, as every program."""
    assert _run(monkeypatch, "--store", store) == code


async def test_a_newer_database_is_refused(url: str) -> None:
    """By whatever release it was written: it is left as it is."""
    _build(url, SCHEMA_VERSION)
    newer = text("UPDATE schema_version SET version = version + 1")
    _change(url, lambda connection: connection.execute(newer))
    before = _change(url, _shape)
    async with open_store(url, STORE) as store:
        with pytest.raises(
            StoreRefusedError,
            match=f"version {SCHEMA_VERSION + 1} and this worker knows {SCHEMA_VERSION}: use the",
        ):
            await store.check()
    assert _change(url, _shape) == before


def test_alembic_is_imported_when_it_is_needed(tmp_path: Path) -> None:
    """Neither to open a store nor to create its tables."""
    program = f"""
import asyncio, sys
from osmo_worker.store import open_store
async def run():
    async with open_store("sqlite:///{tmp_path}/x.db") as store:
        await store.check()
asyncio.run(run())
print("alembic" in sys.modules)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert said.stdout == b"False\n"
