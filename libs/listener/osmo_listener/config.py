"""The configuration of the listener service."""

from dataclasses import field
from pathlib import Path
from typing import Annotated

import msgspec

from osmo_listener.informer import InformerConfig
from osmo_listener.kubernetes.config import HttpConfig, ListWatchConfig
from osmo_listener.labeller import LabellerConfig
from osmo_listener.listeners.registry import ListenersConfig
from osmo_listener.log_reports import LogReportsConfig
from osmo_transport import ClientConfig
from osmo_transport.bounds import Seconds
from osmo_transport.lean import dataclass

BackendName = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z")
]
"""What Kubernetes takes as the value of a label: so it can stand in labels, file names, URLs and
metrics as it is."""


@dataclass(frozen=True, kw_only=True)
class ListenerConfig:
    """One listener process of one backend."""

    backend: BackendName = "default"
    """Name of the cluster, the same in every restart: with it users find its tasks. Letters,
    digits, `-`, `_` and `.`, at most 63, a letter or digit at both ends."""
    connect: str = "ws://127.0.0.1:8001"
    """URL of the operator (ws, wss, grpc, grpcs, memory, or another scheme that is installed)."""
    kubeconfig: Path | None = None
    """Kubeconfig file, or several joined by colons; none: the service account of the pod it runs
    in, else ~/.kube/config."""
    context: str | None = None
    """Context in the kubeconfig; none: its current one."""
    namespace: str = "osmo"
    """Namespace of the workflows' pods."""
    source: str = "listener"
    """Name of this listener within the backend. Of several processes of one backend and source one
    reports, and the others stand by. Two sources of one backend must not report the same kind: the
    snapshot of one would mark as deleted what only the other sees."""
    listeners: tuple[str, ...] = ("workflow", "node", "usage", "event")
    """What to report (workflow, node, usage, event, or what else is installed); repeat for several.
    Those of one process share what they can."""
    cluster_uid: str | None = None
    """Uid by which the operator knows the cluster; none: that of the namespace kube-system."""
    heartbeat_interval: Seconds = 20.0
    """Seconds between two signs of life that users see as `last_heartbeat`."""
    report_logs: bool = True
    """Whether this program's warnings and errors are also reported, for the workers' logs."""
    rules: ListenersConfig = field(default_factory=ListenersConfig)
    """How each listener decides."""
    labeller: LabellerConfig = field(default_factory=LabellerConfig)
    """How the label of a node is written, where `rules.node.label` asks for it."""
    log_reports: LogReportsConfig = field(default_factory=LogReportsConfig)
    """Bounds of what is reported of this program's log."""
    client: ClientConfig = field(default_factory=ClientConfig)
    """Limits of the connection to the operator."""
    informer: InformerConfig = field(default_factory=InformerConfig)
    """How the cluster is followed."""
    list_watch: ListWatchConfig = field(default_factory=ListWatchConfig)
    """How objects are listed and watched."""
    http: HttpConfig = field(default_factory=HttpConfig)
    """Limits of the connection to the API server."""
