"""Which cluster, where nobody says more than a kubeconfig, or nothing at all."""

import os
from pathlib import Path

from osmo_listener.errors import KubeconfigError
from osmo_listener.kubernetes.credentials import SERVICE_ACCOUNT, Credentials, load_in_cluster
from osmo_listener.kubernetes.kubeconfig import load_kubeconfig


def find_credentials(kubeconfig: Path | None = None, context: str | None = None) -> Credentials:
    """The way to the API server.

    Args:
        kubeconfig: the file; None: the service account of the pod this runs in, else
            ~/.kube/config.
        context: in the kubeconfig; None: its current one.

    Raises:
        KubeconfigError: there is none; the text says what to do.
    """
    if kubeconfig is not None:
        return load_kubeconfig(kubeconfig.expanduser(), context, os.environ)
    if SERVICE_ACCOUNT.exists():
        return load_in_cluster(os.environ)
    default = Path("~/.kube/config").expanduser()
    if default.exists():
        return load_kubeconfig(default, context, os.environ)
    raise KubeconfigError(
        f"no cluster: not running in a pod, and {default} does not exist; name a kubeconfig"
    )
