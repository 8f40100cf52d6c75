"""Messages, the reliable link between listeners and the operator, and the queue behind it.

    async with listen("ws://127.0.0.1:0") as server, connect(server.url, backend="b") as client:
        await client.send(new_message("update_pod", "key", b"payload"))
        for incoming in await server.receive():
            incoming.acknowledge()

See `client`, `server` and `queues.abc` for the promises.
"""

from osmo_transport.backoff import BackoffConfig
from osmo_transport.client import Client, ClientConfig, ClientStats, connect
from osmo_transport.delivery import (
    Ack,
    DeadLetter,
    Delivery,
    Outcome,
    Producer,
    ProducerBatch,
    ProducerState,
    Reject,
    Retry,
)
from osmo_transport.directory import Directory, RuleSet
from osmo_transport.errors import (
    AddressInUseError,
    BackendTakenError,
    BodyError,
    ClosedError,
    ConnectionLostError,
    FencedError,
    MessageTooLargeError,
    MissingExtraError,
    PeerError,
    QueueError,
    QueueLostError,
    QueueRefusedError,
    QueueUnavailableError,
    RulesError,
    TransportError,
    UnknownSchemeError,
    UnsendableError,
    UsageError,
    is_retryable,
)
from osmo_transport.factory import open_queue, transport_for
from osmo_transport.frames import Limits, Push
from osmo_transport.message import Kind, Message, Policy, Version, kind_of, new_message
from osmo_transport.outbox import OutboxConfig
from osmo_transport.queues.abc import AppendOutcome, Consumer, Queue, QueueConfig, QueueStatus
from osmo_transport.server import Incoming, Server, ServerConfig, listen
from osmo_transport.session import Greeting, SessionConfig
from osmo_transport.transports.abc import DeployedConfig, TlsConfig, Transport

__all__ = (
    "Ack",
    "AddressInUseError",
    "AppendOutcome",
    "BackendTakenError",
    "BackoffConfig",
    "BodyError",
    "Client",
    "ClientConfig",
    "ClientStats",
    "ClosedError",
    "ConnectionLostError",
    "Consumer",
    "DeadLetter",
    "Delivery",
    "DeployedConfig",
    "Directory",
    "FencedError",
    "Greeting",
    "Incoming",
    "Kind",
    "Limits",
    "Message",
    "MessageTooLargeError",
    "MissingExtraError",
    "OutboxConfig",
    "Outcome",
    "PeerError",
    "Policy",
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
    "Reject",
    "Retry",
    "RuleSet",
    "RulesError",
    "Server",
    "ServerConfig",
    "SessionConfig",
    "TlsConfig",
    "Transport",
    "TransportError",
    "UnknownSchemeError",
    "UnsendableError",
    "UsageError",
    "Version",
    "connect",
    "is_retryable",
    "kind_of",
    "listen",
    "new_message",
    "open_queue",
    "transport_for",
)
