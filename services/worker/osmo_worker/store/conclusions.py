"""What a worker concludes of a pod that does not report it itself: that it has failed.

Its node was lost (`osmo_worker.store.lost_nodes`), or it did not start in time. A conclusion gives
the row status, exit code and message. It is an end that users were told, so no report takes it back
that is not an end itself; the pod's own end knows more and replaces it.
"""

from sqlalchemy import Connection, Update, select, tuple_, update

from osmo_worker.store.schema import STARTING, tasks

START_TIMEOUT = "FAILED_START_TIMEOUT"
START_TIMEOUT_CODE = 3005


def failing(status: str, exit_code: int, message: str, now: str) -> Update:
    """The statement that gives tasks this end; without a condition."""
    return update(tasks).values(
        status=status,
        terminal=True,
        concluded=True,
        exit_code=exit_code,
        message=message,
        status_since=now,
        updated_at=now,
    )


def backends_with_late_starts(connection: Connection, before: str) -> list[str]:
    """The backends of live tasks that have been INITIALIZING since before a moment."""
    late = select(tasks.c.backend).distinct().where(STARTING, tasks.c.status_since < before)
    return sorted(connection.scalars(late))


def fail_late_starts(
    connection: Connection, backend: str, before: str, message: str, limit: int, now: str
) -> int:
    """Fail up to `limit` of these tasks of one backend; how many.

    The caller holds the exclusive lock of the backend.
    """
    late = (
        select(*tasks.primary_key)
        .where(STARTING, tasks.c.status_since < before, tasks.c.backend == backend)
        .limit(limit)
    )
    statement = failing(START_TIMEOUT, START_TIMEOUT_CODE, message, now)
    return connection.execute(statement.where(tuple_(*tasks.primary_key).in_(late))).rowcount
