"""What a worker concludes of a pod that does not report it itself: that it has failed.

Its node was lost (`osmo_worker.store.lost_nodes`), or it did not start in time. A conclusion gives
the row status, exit code and message. It is an end that users were told, so no report takes it back
that is not an end itself; the pod's own end knows more and replaces it.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Update, and_, bindparam, select, update

from osmo_worker.store.joining import Row
from osmo_worker.store.schema import STARTING, tasks

START_TIMEOUT = "FAILED_START_TIMEOUT"
START_TIMEOUT_CODE = 3005


HAS_KEY = and_(*(column == bindparam(f"its_{column.name}") for column in tasks.primary_key))
"""The condition that a task has the key of `key_parameters`."""


def key_parameters(key: Row) -> dict[str, Any]:
    """The values of `HAS_KEY`."""
    names = [f"its_{column.name}" for column in tasks.primary_key]
    return dict(zip(names, key, strict=True))


def failing(status: str, exit_code: int, message: str, now: str) -> Update:
    """The statement that gives tasks this end; without a condition."""
    return update(tasks).values(
        status=status,
        concluded=True,
        exit_code=exit_code,
        message=message,
        status_since=now,
        updated_at=now,
    )


def late_starts(connection: Connection, before: str, limit: int) -> list[Row]:
    """The keys of up to `limit` live tasks that have been INITIALIZING since before a moment."""
    late = select(*tasks.primary_key).where(STARTING, tasks.c.status_since < before).limit(limit)
    return [tuple(key) for key in connection.execute(late)]


def fail_late_starts(
    connection: Connection, keys: Iterable[Row], before: str, message: str, now: str
) -> int:
    """Fail those of these tasks that still are; how many.

    The caller holds the exclusive lock of their backend.
    """
    statement = failing(START_TIMEOUT, START_TIMEOUT_CODE, message, now)
    late = statement.where(HAS_KEY, STARTING, tasks.c.status_since < before)
    return connection.execute(late, [key_parameters(key) for key in sorted(keys)]).rowcount
