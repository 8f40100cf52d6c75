"""The rows of `backends`: one per backend that has reported anything.

Every batch of reports moves `last_seen`. A heartbeat moves `last_heartbeat`, which never goes back,
and the heartbeat of the newest version, among equals the one that was sent last, gives what the row
says of the listener.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec
from sqlalchemy import Connection, Dialect, Tuple, case, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from osmo_reports.bodies import Registration
from osmo_transport import Message
from osmo_worker.store.joining import Columns, Row, compile_text
from osmo_worker.store.schema import backends
from osmo_worker.store.values import moment_at, without_nul

KIND = "heartbeat"

_REGISTRATION = (
    *("cluster_uid", "namespace", "version", "node_condition_prefix"),
    *("registered_at", "registration_epoch", "registration_resource_version"),
)

Told = Mapping[str, Sequence[Row]]
"""By backend: what each of its heartbeats tells, as the values of the columns `last_heartbeat` and
those of `_REGISTRATION`."""

_NOTHING: Sequence[Row] = [(None,) * (1 + len(_REGISTRATION))]


class Backend(msgspec.Struct, frozen=True, kw_only=True):
    """One row of `backends`. What heartbeats tell is None before the first."""

    name: str
    first_seen: datetime
    """When a worker first applied anything of it."""
    last_seen: datetime
    """When a worker last applied anything of it."""
    last_heartbeat: datetime | None
    """When its latest heartbeat was sent, by the listener's clock."""
    cluster_uid: str | None
    """The uid of the namespace `kube-system`; empty: not known."""
    namespace: str | None
    """The namespace of the workflows."""
    version: str | None
    """Of the listener."""
    node_condition_prefix: str | None
    """Of the labels that this system writes to nodes."""
    registered_at: datetime | None
    """When the heartbeat was sent that told the four before."""


def told_by(message: Message, body: Registration, now: str) -> Row:
    """What a heartbeat tells. Where its time cannot be read it was sent `now`."""
    sent = moment_at(message.timestamp) or now
    return (
        sent,
        without_nul(body.cluster_uid),
        without_nul(body.namespace),
        without_nul(body.version),
        without_nul(body.node_condition_prefix),
        sent,
        *message.version,
    )


class Seen:
    """Writes that backends were heard of."""

    def __init__(self, dialect: Dialect) -> None:
        insert = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
        statement = insert(backends)
        old, new = backends.c, statement.excluded
        # Nothing compares with NULL: there the first heartbeat wins, and none leaves what is there.
        first = old.registered_at.is_(None)
        later = first | (new.last_heartbeat > old.last_heartbeat)
        newer = first | (_registration_order(new) > _registration_order(old))
        seen = statement.on_conflict_do_update(
            index_elements=["name"],
            set_={
                "last_seen": new.last_seen,
                "last_heartbeat": case((later, new.last_heartbeat), else_=old.last_heartbeat),
                **{name: case((newer, new[name]), else_=old[name]) for name in _REGISTRATION},
            },
        )
        self._statement = compile_text(seen, dialect)

    def write(
        self, connection: Connection, names: Iterable[str], now: str, told: Told | None = None
    ) -> None:
        """Write it of `names`, with what their heartbeats told.

        Call it last in a transaction: every worker writes these rows, so their locks should be held
        for a moment only.
        """
        told = told or {}
        rows = [
            (name, now, now, *values)
            for name in sorted(names)
            for values in told.get(name, _NOTHING)
        ]
        connection.exec_driver_sql(self._statement, rows)


def _registration_order(columns: Columns) -> Tuple:
    return tuple_(
        columns.registration_epoch, columns.registration_resource_version, columns.registered_at
    )
