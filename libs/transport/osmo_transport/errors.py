"""Every error that `osmo_transport` raises, by who has to act on it.

TransportError
├── UsageError              the caller: mend the call or the configuration
│   ├── UnknownSchemeError
│   ├── MissingExtraError   install the extra that it names
│   ├── UnsendableError     one message, that no server would take
│   │   └── MessageTooLargeError
│   ├── BodyError           a payload that does not fit its kind
│   ├── RulesError          condition rules that cannot be used
│   └── BackendTakenError   the backend's name belongs to another cluster
├── AddressInUseError       the operator of the machine: choose another port
├── ConnectionLostError     nobody: connect again (the reconnecting client does)
├── PeerError               the other side broke the protocol
├── FencedError             a newer listener has taken this one's place: stop
├── ClosedError             we closed it ourselves
└── QueueError
    ├── QueueUnavailableError   the store is away: try again
    ├── QueueRefusedError       the store is not fit for the job: mend its configuration
    └── QueueLostError          the store forgot what it had acknowledged: start a snapshot
"""

from collections.abc import Sequence


class TransportError(Exception):
    """The root of every error of this library."""


class UsageError(TransportError):
    """The call or the configuration is wrong, and stays wrong until it is changed."""


class UnknownSchemeError(UsageError):
    """No implementation serves this URL's scheme."""


class MissingExtraError(UsageError):
    """An optional dependency is not installed; the text holds the command that installs it."""


class UnsendableError(UsageError):
    """A message that no server would take; nothing else is affected."""


class MessageTooLargeError(UnsendableError):
    """A message over the limit."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"the message takes {size} bytes and the limit is {limit}: send less, or raise"
            " limits.message_bytes on both sides"
        )
        self.size = size
        self.limit = limit


class BodyError(UsageError):
    """A payload that does not fit its kind, or a kind that this version does not know."""


class RulesError(UsageError):
    """Condition rules that cannot all be used; `problems` has a line for each that is wrong."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class BackendTakenError(UsageError):
    """The backend's name belongs to the cluster `owner`, and another one (`claimant`) reports."""

    def __init__(self, backend: str, owner: str, claimant: str) -> None:
        super().__init__(
            f"backend {backend} is already being used by a different cluster (uid: {owner}); this"
            f" one has the uid {claimant}: give it another name, or free the name with"
            f" osmo-pipeline backends forget {backend}"
        )
        self.backend = backend
        self.owner = owner
        self.claimant = claimant


class AddressInUseError(TransportError):
    """Another program listens on this address."""


class ConnectionLostError(TransportError):
    """The connection broke or could not be made; connecting again may help."""


class PeerError(TransportError):
    """The other side sent what the protocol does not allow."""


class FencedError(TransportError):
    """A newer listener of the same backend and stream took over; this one must stop."""


class ClosedError(TransportError):
    """The object was closed by its owner."""


class QueueError(TransportError):
    """The root of the queue's errors."""


class QueueUnavailableError(QueueError):
    """The store does not answer, or refuses writes for now; nothing was acknowledged."""


class QueueRefusedError(QueueError):
    """The store's configuration could lose acknowledged messages; the text says what to change."""


class QueueLostError(QueueError):
    """The store lost what it had acknowledged: every listener has to send a full snapshot."""


def is_retryable(exc: BaseException) -> bool:
    """Whether trying again, unchanged, may succeed.

    A broken protocol counts: a new connection starts from a clean state, and one corrupted frame
    must not end a listener.
    """
    return isinstance(exc, ConnectionLostError | PeerError | QueueUnavailableError | QueueLostError)
