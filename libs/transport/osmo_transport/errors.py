"""Every error that `osmo_transport` raises, by who has to act on it.

TransportError
├── UsageError              the caller: mend the call or the configuration
│   ├── UnknownSchemeError
│   ├── MissingExtraError   install the extra that it names
│   ├── WrongServerError    the URL leads to a server of another kind
│   ├── CertificateError    one side does not take the other's certificate
│   └── UnsendableError     one message, that no server would take
│       └── MessageTooLargeError
├── AddressInUseError       who runs the machine: choose another port
├── ConnectionLostError     nobody: connect again (the reconnecting client does)
│   └── HandshakeError      likewise, when somebody was there
├── PeerError               the other side broke the protocol
├── UnreadableError         who wrote these bytes: they are no message
├── CredentialRefusedError  who runs the client: present a credential that is good for this
│   └── CredentialExpiredError  likewise, a newer one
├── CredentialUncheckedError    who decides about credentials is away: try again
├── FencedError             a newer client has taken this one's place: stop
├── OccupiedError           another process holds the place: wait until it has gone
├── ClosedError             we closed it ourselves
├── DefectError             us: a defect, whose traceback is in the log
└── QueueError
    ├── QueueUnavailableError   the store is away: try again
    ├── QueueRefusedError       the store is not fit for the job: mend its configuration
    └── QueueLostError          the store forgot what it had acknowledged: start a snapshot
"""

from osmo_transport.naming import setting


class TransportError(Exception):
    """The root of every error of this library."""


class UsageError(TransportError):
    """The call or the configuration is wrong, and stays wrong until it is changed."""


class UnknownSchemeError(UsageError):
    """No implementation serves this URL's scheme."""


class MissingExtraError(UsageError):
    """An optional dependency is not installed; the text holds the command that installs it."""


class WrongServerError(UsageError):
    """Another protocol is spoken at the URL's address; the text names it, and what to look at."""


class CertificateError(UsageError):
    """One side does not take the other's certificate, or asks in vain for one; the text names the
    setting."""


class UnsendableError(UsageError):
    """A message that no server would take; nothing else is affected."""


class MessageTooLargeError(UnsendableError):
    """A message over the limit."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(
            f"the message takes {size} bytes and the limit is {limit}: send less, or raise"
            f" {setting('client.session.limits.message_bytes')} and the server's"
        )
        self.size = size
        self.limit = limit


class AddressInUseError(TransportError):
    """Another program listens on this address."""


class ConnectionLostError(TransportError):
    """The connection broke or could not be made; connecting again may help."""


class HandshakeError(ConnectionLostError):
    """A connection that was made did not come to be one of ours; `Transport.why` may tell who is
    there."""


class PeerError(TransportError):
    """The other side sent what the protocol does not allow."""


class UnreadableError(TransportError):
    """Bytes that are no message; the text says what is wrong with them."""


class CredentialRefusedError(TransportError):
    """What a client presented does not let it report; the text says what to change."""


class CredentialExpiredError(CredentialRefusedError):
    """Its time is over: the same again is no use, a newer one is."""


class CredentialUncheckedError(TransportError):
    """Whoever decides about credentials does not answer."""


class FencedError(TransportError):
    """A newer client of the same backend and source took over; this one must stop."""


class OccupiedError(TransportError):
    """Another process reports as this producer, and this one waits until it has gone."""

    def __init__(self, producer: object, instance: str, address: str, since: float) -> None:
        super().__init__(f"{producer} is reported by {instance} at {address}")
        self.instance = instance
        self.address = address
        self.since = since
        """When the other process was let in, in seconds since the Unix epoch."""


class ClosedError(TransportError):
    """The object was closed by its owner."""


class DefectError(TransportError):
    """Code of this side raised what it must not. Its traceback is in the log, and nobody else is to
    blame."""


class QueueError(TransportError):
    """The root of the queue's errors."""


class QueueUnavailableError(QueueError):
    """The store does not answer, or refuses writes for now; nothing was acknowledged."""


class QueueRefusedError(QueueError):
    """The store's configuration could lose acknowledged messages; the text says what to change."""


class QueueLostError(QueueError):
    """The store lost what it had acknowledged: every client has to report everything again."""


def is_retryable(exc: BaseException) -> bool:
    """Whether trying again, unchanged, may succeed.

    A broken protocol counts: a new connection starts from a clean state, and one corrupted frame
    must not end a client.
    """
    return isinstance(
        exc,
        ConnectionLostError
        | PeerError
        | DefectError
        | OccupiedError
        | CredentialExpiredError
        | CredentialUncheckedError
        | QueueUnavailableError
        | QueueLostError,
    )
