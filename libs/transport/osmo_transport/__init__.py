"""Messages, the reliable link between clients and a server, and the queue behind it.

    async with listen("ws://127.0.0.1:0") as server, connect(server.url, backend="b") as client:
        await client.send(new_message("state", "key", b"payload"))
        async for incoming in server:
            incoming.acknowledge()

See `client`, `server` and `queues.abc` for the promises.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from osmo_transport._token import TokenConfig
from osmo_transport.backoff import Backoff, BackoffConfig
from osmo_transport.client import Client, ClientConfig, ClientStats, connect
from osmo_transport.credentials import AnyOf, Authenticator, Identity, Presented
from osmo_transport.errors import (
    AddressInUseError,
    CertificateError,
    ClosedError,
    ConnectionLostError,
    CredentialExpiredError,
    CredentialRefusedError,
    CredentialUncheckedError,
    DefectError,
    FencedError,
    HandshakeError,
    MessageTooLargeError,
    MissingExtraError,
    OccupiedError,
    PeerError,
    QueueError,
    QueueLostError,
    QueueRefusedError,
    QueueUnavailableError,
    TransportError,
    UnknownSchemeError,
    UnreadableError,
    UnsendableError,
    UsageError,
    WrongServerError,
    is_retryable,
)
from osmo_transport.frames import Limits, Push
from osmo_transport.kinds import (
    DEFAULT_STREAM,
    Kind,
    Policy,
    kind_of,
    register_kind,
    register_stream,
)
from osmo_transport.message import (
    Message,
    Version,
    encode_message,
    new_id,
    new_message,
    read_message,
)
from osmo_transport.queues.abc import (
    AppendOutcome,
    Consumer,
    Queue,
    QueueConfig,
    QueueStatus,
    publish,
)
from osmo_transport.queues.delivery import (
    NEW,
    Ack,
    DeadLetter,
    Delivery,
    Outcome,
    Producer,
    ProducerBatch,
    ProducerState,
    Reject,
    Retry,
    StoredEntry,
    batch_of,
)
from osmo_transport.queues.leases import Claim, Holder, Renewal, Standing
from osmo_transport.registry import open_queue, transport_for
from osmo_transport.session import Greeting, Refusal, SessionConfig
from osmo_transport.session.config import OutboxConfig
from osmo_transport.transports.abc import Companion, TlsConfig, Transport

if TYPE_CHECKING:
    from osmo_transport._quota import QuotaConfig
    from osmo_transport.server import (
        Admit,
        Incoming,
        Renew,
        Server,
        ServerConfig,
        ServerStats,
        listen,
    )
else:
    _OF_SERVERS = {
        "QuotaConfig": "osmo_transport._quota",
        **dict.fromkeys(
            ("Admit", "Incoming", "Renew", "Server", "ServerConfig", "ServerStats", "listen"),
            "osmo_transport.server",
        ),
    }
    """By name, where it is: imported when it is first asked for, as a client needs none of it."""

    def __getattr__(name: str) -> Any:
        if name not in _OF_SERVERS:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(import_module(_OF_SERVERS[name]), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = (
    "DEFAULT_STREAM",
    "NEW",
    "Ack",
    "AddressInUseError",
    "Admit",
    "AnyOf",
    "AppendOutcome",
    "Authenticator",
    "Backoff",
    "BackoffConfig",
    "CertificateError",
    "Claim",
    "Client",
    "ClientConfig",
    "ClientStats",
    "ClosedError",
    "Companion",
    "ConnectionLostError",
    "Consumer",
    "CredentialExpiredError",
    "CredentialRefusedError",
    "CredentialUncheckedError",
    "DeadLetter",
    "DefectError",
    "Delivery",
    "FencedError",
    "Greeting",
    "HandshakeError",
    "Holder",
    "Identity",
    "Incoming",
    "Kind",
    "Limits",
    "Message",
    "MessageTooLargeError",
    "MissingExtraError",
    "OccupiedError",
    "OutboxConfig",
    "Outcome",
    "PeerError",
    "Policy",
    "Presented",
    "Producer",
    "ProducerBatch",
    "ProducerState",
    "Push",
    "Queue",
    "QueueConfig",
    "QueueError",
    "QueueLostError",
    "QueueRefusedError",
    "QueueStatus",
    "QueueUnavailableError",
    "QuotaConfig",
    "Refusal",
    "Reject",
    "Renew",
    "Renewal",
    "Retry",
    "Server",
    "ServerConfig",
    "ServerStats",
    "SessionConfig",
    "Standing",
    "StoredEntry",
    "TlsConfig",
    "TokenConfig",
    "Transport",
    "TransportError",
    "UnknownSchemeError",
    "UnreadableError",
    "UnsendableError",
    "UsageError",
    "Version",
    "WrongServerError",
    "batch_of",
    "connect",
    "encode_message",
    "is_retryable",
    "kind_of",
    "listen",
    "new_id",
    "new_message",
    "open_queue",
    "publish",
    "read_message",
    "register_kind",
    "register_stream",
    "transport_for",
)
