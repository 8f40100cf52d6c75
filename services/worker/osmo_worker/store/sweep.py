"""What has to be done from time to time, for no report asks for it."""

import logging
from collections.abc import Callable

from sqlalchemy import delete, select, tuple_

from osmo_worker.config import StoreConfig
from osmo_worker.store.conclusions import LateStarts
from osmo_worker.store.database import Database
from osmo_worker.store.schema import pod_events
from osmo_worker.store.values import moment_at

logger = logging.getLogger(__name__)

SWEEP_ROWS = 10_000
"""Rows of each sort that one sweep changes, so that it keeps no batch waiting for long; what is
left waits for the next one."""

DAWN = "1970-01-01T00:00:00.000Z"
"""Nothing is older."""


class Sweeper:
    """Fails what did not start in time and removes old events; for use in the database's thread.

    Any number of workers may sweep one database, and as often as they like.
    """

    def __init__(self, database: Database, config: StoreConfig, clock: Callable[[], float]) -> None:
        self._database = database
        self._config = config
        self._clock = clock
        self._late_starts = LateStarts(database, config.start_timeout)

    def sweep(self) -> None:
        """Do what is due.

        Raises:
            StoreUnavailableError: only a part was done.
        """
        if self._config.start_timeout > 0:
            for backend, failed in self._late_starts.fail(self._ago(0)).items():
                logger.info("%d tasks of %s did not start in time", failed, backend)
        self._remove_events(self._config.event_retention)

    def _remove_events(self, retention: float) -> None:
        key = pod_events.primary_key
        old = (
            select(*key)
            .where(pod_events.c.reported_at < self._ago(retention))
            .order_by(pod_events.c.reported_at)
            .limit(SWEEP_ROWS)
        )
        with self._database.transaction(write=False) as connection:
            if connection.execute(old.limit(1)).first() is None:
                return
        with self._database.transaction() as connection:
            removed = connection.execute(delete(pod_events).where(tuple_(*key).in_(old))).rowcount
        logger.info("removed %d events that are older than %g days", removed, retention / 86_400)

    def _ago(self, seconds: float) -> str:
        return moment_at(self._clock() - seconds) or DAWN
