"""The operator's configuration."""

from dataclasses import field
from pathlib import Path

from osmo_deployed import DeployedConfig
from osmo_operator.names import MAX_OF_CREDENTIAL
from osmo_reports.directory import MAX_BACKENDS
from osmo_runtime.queues import QueueLayout
from osmo_transport import BackoffConfig, QueueConfig, ServerConfig
from osmo_transport.bounds import Bytes, Count, Seconds, SecondsOrZero
from osmo_transport.lean import dataclass


@dataclass(frozen=True, kw_only=True)
class OperatorConfig:
    """What one operator process serves, and where it stores."""

    listen: tuple[str, ...] = ("ws://127.0.0.1:8001",)
    """URLs at which listeners connect (ws, wss, grpc, grpcs, memory, or another scheme that is
    installed); repeat for several. Port 0 picks a free one."""
    auth: tuple[str, ...] = ()
    """How listeners say who they are, repeat for several: mtls, token, jwt, kubernetes, or another
    kind that is installed, with its settings, as in token?file=/etc/osmo/tokens.json. Without one,
    whoever reaches the operator may report for every backend."""
    insecure: bool = False
    """Whether strangers may be let in, or tokens travel in the clear, at an address that other
    machines reach: only where something else keeps them away."""
    queue: str = field(default="redis://127.0.0.1:6379", repr=False)
    """URL of the queue (redis, rediss, valkey, valkeys, or another scheme that is installed); what
    is in `memory://` no other process sees."""
    queue_password_file: Path | None = None
    """File with the password of the queue in Redis, which its URL then leaves out; read again for
    each connection, so that a new password needs no restart."""
    layout: QueueLayout = "own"
    """How the queue in Redis is laid out; osmo: for workers already deployed, as `?layout=osmo` in
    its URL."""
    rules_file: Path | None = None
    """File with the condition rules of backends, in TOML, or in JSON if its name ends in .json: a
    table for each, of what `osmo-pipeline rules set` takes. They hold over what is set by command,
    which is refused for these backends; one that is not there any more has the default rules.
    Read again when it changes; give all operators of a queue the same."""
    append_messages: Count = 2_000
    """Messages that one append may carry: enough to fill a round trip to the store, few enough that
    the first of them is acknowledged within some 20 ms."""
    append_bytes: Bytes = 512 * 1024
    """Bytes that one append may carry, a single larger batch aside: little enough that over a slow
    link to the store nobody waits long for others' reports."""
    drain_timeout: SecondsOrZero = 10.0
    """Seconds that a stop may take to store and acknowledge what has arrived; the rest is sent
    again by its listeners."""
    max_backends: Count = MAX_BACKENDS
    """Backends whose names are kept, with the cluster that each belongs to; one more is turned away
    until one is forgotten."""
    max_credential_backends: Count = MAX_OF_CREDENTIAL
    """Of these, names that one credential may take, as a token for `*` could take all; known ones
    are let in beyond."""
    check_interval: Seconds = 2.0
    """Seconds between two checks of whether the queue was wiped, after which listeners send
    everything again; an append notices by itself, this is for quiet times."""
    server: ServerConfig = field(default_factory=ServerConfig)
    """Limits of the listeners' connections."""
    limits: QueueConfig = field(default_factory=QueueConfig)
    """Limits of the queue."""
    deployed: DeployedConfig = field(default_factory=DeployedConfig)
    """Limits of the listeners that were deployed before ours."""
    backoff: BackoffConfig = field(default_factory=lambda: BackoffConfig(maximum=2.0))
    """Delays between tries while the store is away: short, as every listener waits for it."""
