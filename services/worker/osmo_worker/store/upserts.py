"""Writing many rows in few statements.

SQLite's driver gives the interpreter's lock away with each statement and waits for it afterwards,
which the event loop may hold for milliseconds. So the rows go by the hundreds where SQLite is, and
those that are left by ever fewer. PostgreSQL's driver sends the rows of one statement together.
"""

import sqlite3
from collections.abc import Callable, Iterator
from itertools import chain
from operator import itemgetter

from sqlalchemy import Connection, Dialect, Table
from sqlalchemy.dialects import postgresql, sqlite

from osmo_worker.store.joining import Columns, Join, Row

ROWS = 500
"""In one statement, at most: half of a full batch. While the event loop is at work, that takes four
fifths of the time of a statement per row; more rows gain nothing."""
VARIABLES = 32_766 if sqlite3.sqlite_version_info >= (3, 32) else 999
"""In one statement: what SQLite takes (https://sqlite.org/limits.html)."""


class Upsert:
    """Inserts rows, and joins those whose key the table has with what it holds.

    A row gives the columns that have no default, in their order, the key first. The statements are
    kept in the driver's own language: it takes rows as tuples at a fraction of what a statement
    object costs per row.

    Args:
        table: with a key of two columns or more.
        join: how a row joins the one that the table holds: takes the columns of the latter, then
            those of the former.
        dialect: of the database.
    """

    def __init__(
        self, table: Table, join: Callable[[Columns, Columns], Join], dialect: Dialect
    ) -> None:
        on_sqlite = dialect.name == "sqlite"
        insert = sqlite.insert(table) if on_sqlite else postgresql.insert(table)
        changes, when = join(table.c, insert.excluded)
        key = [column.name for column in table.primary_key]
        upsert = insert.on_conflict_do_update(index_elements=key, set_=changes, where=when)
        given = [column.name for column in table.c if column.server_default is None]
        self._order = itemgetter(*range(len(key)))
        self._one = str(upsert.compile(dialect=dialect, column_keys=given))
        # Compiled by SQLAlchemy, those of many rows would take the start of a worker a second.
        values = f"({', '.join('?' * len(given))})"
        self._many = [
            (size, self._one.replace(values, ", ".join([values] * size), 1))
            for size in (_halved(min(ROWS, VARIABLES // len(given))) if on_sqlite else ())
        ]
        """Statements of several rows, the largest first."""

    def write(self, connection: Connection, rows: list[Row]) -> int:
        """Write rows, and sort them; how many changed nothing."""
        # Two workers that lock rows in the same order cannot wait for each other.
        rows.sort(key=self._order)
        changed = position = 0
        for size, statement in self._many:
            while len(rows) - position >= size:
                values = tuple(chain.from_iterable(rows[position : position + size]))
                changed += connection.exec_driver_sql(statement, values).rowcount
                position += size
        if position < len(rows):
            changed += connection.exec_driver_sql(self._one, rows[position:]).rowcount
        return len(rows) - changed


def _halved(size: int) -> Iterator[int]:
    while size > 1:
        yield size
        size //= 2
