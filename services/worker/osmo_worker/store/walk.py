"""Going over all that a backend has in a table, however much: some rows in each transaction."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, bindparam, select, tuple_

from osmo_worker.store.merge import Row

STEP_ROWS = 1000
"""Rows that one transaction looks at, and changes: some ten milliseconds, for which other workers
wait."""


class Walk:
    """Goes over a backend's rows in the order of their key, and finds those that are `wanted`. What
    comes to a place that it has passed is not seen."""

    def __init__(self, table: Table, backend: str, wanted: ColumnElement[bool]) -> None:
        self._key = list(table.primary_key)
        self._wanted = wanted
        self._its_rows = self._left = table.c.backend == backend
        self.ended = False
        """Whether it has come to the last row."""

    def step(self, connection: Connection) -> list[Row]:
        """The keys of those of the next `STEP_ROWS` rows that are wanted, in the order in which
        batches lock rows."""
        key = self._key
        query = select(*key, self._wanted).where(self._left).order_by(*key).limit(STEP_ROWS)
        rows = [tuple(row) for row in connection.execute(query)]
        self.ended = len(rows) < STEP_ROWS
        if not self.ended:
            self._left = and_(self._its_rows, tuple_(*key) > rows[-1][:-1])
        # Whatever the database's order is.
        return sorted(row[:-1] for row in rows if row[-1])


def having_key(table: Table) -> ColumnElement[bool]:
    """That a row has the key that `key_values` makes the parameters of."""
    return and_(*(column == bindparam(_its(column)) for column in table.primary_key))


def key_values(table: Table, key: Row) -> dict[str, Any]:
    """The parameters of `having_key`."""
    return {_its(column): value for column, value in zip(table.primary_key, key, strict=True)}


def _its(column: ColumnElement[Any]) -> str:
    return f"its_{column.key}"
