"""The configuration of a worker."""

import os
import socket
from dataclasses import field
from pathlib import Path

from osmo_runtime.queues import QueueLayout
from osmo_transport import BackoffConfig, QueueConfig
from osmo_transport.bounds import Count, CountOrZero, Seconds, SecondsOrZero
from osmo_transport.lean import dataclass
from osmo_transport.naming import setting


def default_name() -> str:
    """Unique among the workers of a group, and the same again when a container restarts in place,
    where the host name stays and the process id is 1."""
    return f"{socket.gethostname()}-{os.getpid()}"


@dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """Times of the state store."""

    busy_timeout: Seconds = 5.0
    """Seconds to wait for another program's lock, and for PostgreSQL to accept a connection; then
    the store counts as unavailable and the worker holds."""
    call_timeout: Seconds = 20.0
    """Seconds until a batch that gets no answer counts as failed; longer than `busy_timeout`."""
    migration_timeout: Seconds = 3600.0
    """Seconds that it may take to bring the tables of an older release to this one's, at the first
    call: 200 000 tasks take 7 s of a busy machine."""
    snapshot_attempts: CountOrZero = 3
    """Deliveries of a snapshot's end that may wait for reports still on their way to another
    worker; then it is applied all the same, and what comes late revives its row. Fewer than
    the queue's `max_attempts`."""
    snapshot_delay: SecondsOrZero = 0.5
    """Seconds between these deliveries: longer than a batch takes."""
    start_timeout: SecondsOrZero = 30 * 60.0
    """Seconds that a task may stay INITIALIZING before it counts as failed: longer than pulling a
    large image takes. 0: for ever."""
    event_retention: SecondsOrZero = 20 * 86_400.0
    """Seconds for which an event of a pod is kept after it was stored: as long as users can read
    the conditions of a pod. 0: for ever."""
    task_retention: SecondsOrZero = 90 * 86_400.0
    """Seconds for which a task is kept after its pod is gone: a quarter, in which somebody may ask
    what became of it. 0: for ever. Longer than a report can be in the queue, for it could bring a
    task back that is no longer known to be gone."""
    node_retention: SecondsOrZero = 30 * 86_400.0
    """Seconds for which a node and its usage are kept after it is gone: as long as somebody may
    look for the cause of what its tasks met. 0: for ever. Longer than a report can be in the
    queue."""
    backend_retention: SecondsOrZero = 90 * 86_400.0
    """Seconds without a word of a backend after which all of its rows are removed: longer than a
    cluster is away that comes back. 0: never."""
    epochs_interval: Seconds = 5.0
    """Seconds between two looks whether the queue has lost its memory, and with it the epochs that
    the listeners had: then the worker tells it those that the rows have."""
    housekeeping_interval: Seconds = 30.0
    """Seconds between two looks at what has become due by `start_timeout` and the retentions, and
    at which backends are silent."""
    silent_after: Seconds = 60.0
    """Seconds without a heartbeat after which a backend counts as silent: three are missing, as
    listeners send them by default."""


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """One worker process."""

    queue: str = field(default="redis://127.0.0.1:6379", repr=False)
    """URL of the operators' queue (redis, rediss, valkey, valkeys, or another scheme that is
    installed); what is in `memory://` no other process sees."""
    queue_password_file: Path | None = None
    """File with the password of the queue in Redis, which its URL then leaves out; read again for
    each connection, so that a new password needs no restart."""
    layout: QueueLayout = "own"
    """How the queue in Redis is laid out; osmo: for operators already deployed, as `?layout=osmo`
    in its URL. Its group is then `message_workers`."""
    store: str = field(default="sqlite:///osmo.db", repr=False)
    """URL of the state store: `sqlite:///PATH`, `postgresql://HOST/NAME` or `memory://`. Not looked
    at when `handler` is set."""
    store_password_file: Path | None = None
    """File with the password of the store in PostgreSQL, which its URL then leaves out; read again
    for each connection, so that a new password needs no restart."""
    handler: str | None = None
    """`module:attribute` of the handler: an async callable that takes one delivery, or an object
    with `handle_batch`; none: the state store."""
    group: str = "workers"
    """The consumer group, whose workers share the messages; a queue serves one."""
    name: str = field(default_factory=default_name)
    """This worker's name in the group. A worker that restarts under its name goes on with what it
    had in hand at once; under another name it waits for the leases to end."""
    read_limit: Count = 1000
    """Deliveries taken per read: large, because reading, compacting and storing in bulk is what
    makes a worker fast."""
    max_in_flight: Count = 8000
    """Deliveries in hand, from read to settled: bounds memory (about 8 MB at 1 kB a message) and
    what a crash hands to the other workers. At least `read_limit`."""
    concurrency: Count = 64
    """Calls of a one-delivery handler that run at a time, each for another key."""
    batch_limit: Count = 1000
    """Deliveries per call of a batch handler."""
    batch_concurrency: Count = 2
    """Calls of a batch handler that run at a time: with two, the next batch is ready when the
    store's only thread has written one."""
    handler_timeout: Seconds = 30.0
    """Seconds until a call counts as hung and its deliveries are retried. Longer than the store's
    `call_timeout`, so that a store that hangs holds the worker and uses up no attempts."""
    drain_timeout: SecondsOrZero = 10.0
    """Seconds to finish what is in hand when asked to stop; the rest is given back to the queue."""
    check_interval: Seconds = 5.0
    """Seconds between two looks at whether the queue and the store answer, for those who ask
    whether the worker is ready; an answer that takes longer counts as none. Longer than a batch
    takes, for which a look has to wait."""
    backoff: BackoffConfig = field(default_factory=BackoffConfig)
    """Delays while the queue or the store is away."""
    limits: QueueConfig = field(default_factory=QueueConfig)
    """Limits of the queue."""
    store_limits: StoreConfig = StoreConfig()
    """Times of the state store."""

    def __post_init__(self) -> None:
        if self.max_in_flight < self.read_limit:
            raise ValueError(
                f"max_in_flight ({self.max_in_flight}) must be at least read_limit"
                f" ({self.read_limit})"
            )
        if not self.handler and self.handler_timeout <= self.store_limits.call_timeout:
            raise ValueError(
                f"handler_timeout ({self.handler_timeout}) must be longer than"
                f" {setting('store_limits.call_timeout')} ({self.store_limits.call_timeout})"
            )
        in_queue = self.limits.max_attempts * (self.limits.lease + self.limits.retry_maximum)
        for name in ("task_retention", "node_retention"):
            kept = getattr(self.store_limits, name)
            if not self.handler and 0 < kept <= in_queue:
                raise ValueError(
                    f"{setting(f'store_limits.{name}')} ({kept}) must be 0, or longer than a report"
                    f" can be in the queue ({in_queue}: {setting('limits.max_attempts')} times"
                    " lease and retry_maximum)"
                )
        attempts = self.store_limits.snapshot_attempts
        if not self.handler and attempts >= self.limits.max_attempts:
            raise ValueError(
                f"{setting('store_limits.snapshot_attempts')} ({attempts}) must be"
                f" less than {setting('limits.max_attempts')} ({self.limits.max_attempts})"
            )
