"""Every error that `osmo_worker` raises, by who has to act on it.

WorkerError
├── HandlerNotFoundError      the configuration: `handler` names nothing that can be called
├── HandlerUnavailableError   nobody: what the handler needs is away, it is called again later
│   └── StoreUnavailableError
└── StoreRefusedError         the configuration: this database is not fit, the text says why
"""

from osmo_transport import UsageError


class WorkerError(Exception):
    """The root of every error of this service."""


class HandlerNotFoundError(WorkerError, UsageError):
    """`handler` does not name an async callable or an object with `handle_batch`."""


class HandlerUnavailableError(WorkerError):
    """What the handler needs is away for now.

    A handler raises it to be called again with the same deliveries, as often as it takes: the
    worker keeps them on lease, reads no more, and uses up none of their attempts.
    """


class StoreUnavailableError(HandlerUnavailableError):
    """The database does not answer, or refuses writes for now; nothing or only a
    part of the batch was applied."""


class StoreRefusedError(WorkerError, UsageError):
    """The database cannot be used as it is; stays so until somebody changes it."""
