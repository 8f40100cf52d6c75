"""What has to be done from time to time, for no report asks for it."""

import itertools
import logging
from operator import itemgetter

from osmo_worker.config import StoreConfig
from osmo_worker.store.conclusions import fail_late_starts, late_starts
from osmo_worker.store.values import moment_at
from osmo_worker.store.writing import Writer

logger = logging.getLogger(__name__)

SWEEP_ROWS = 10_000
"""Tasks that one sweep fails, so that it keeps no batch waiting for long; what is left waits for
the next one."""

DAWN = "1970-01-01T00:00:00.000Z"
"""Nothing is older."""


class Sweeper:
    """Fails what did not start in time; for use in the database's thread.

    Any number of workers may sweep one database, and as often as they like.
    """

    def __init__(self, writer: Writer, config: StoreConfig) -> None:
        self._writer = writer
        self._config = config

    def sweep(self) -> None:
        """Do what is due.

        Raises:
            StoreUnavailableError: only a part was done.
        """
        if self._config.start_timeout > 0:
            self._fail_late_starts(self._config.start_timeout)

    def _fail_late_starts(self, timeout: float) -> None:
        before = self._ago(timeout)
        with self._writer.database.transaction(write=False) as connection:
            late = sorted(late_starts(connection, before, SWEEP_ROWS))
        message = f"Pod did not start within {timeout / 60:g} minutes"
        for backend, keys in itertools.groupby(late, itemgetter(0)):
            with self._writer.conclusion(backend, heard=False) as (connection, now):
                failed = fail_late_starts(connection, keys, before, message, now)
            logger.info("%d tasks of %s did not start in time", failed, backend)

    def _ago(self, seconds: float) -> str:
        return moment_at(self._writer.clock() - seconds) or DAWN
