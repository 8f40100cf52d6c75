"""Credential plugins of a kubeconfig: `exec` commands and the older auth providers.

The only module that imports the `kubernetes` package, at a cost of 0.3 s, and so itself imported
only for users that have a plugin.
"""

from pathlib import Path
from typing import Any

from osmo_listener.errors import KubeconfigError
from osmo_listener.kubernetes.credentials import Issued, Plugin
from osmo_listener.kubernetes.nulls import without_nulls
from osmo_transport.errors import MissingExtraError

try:
    from kubernetes.client import Configuration
    from kubernetes.config import ConfigException, load_kube_config
    from kubernetes.config.dateutil import parse_rfc3339
    from kubernetes.config.exec_provider import ExecProvider
    from kubernetes.config.kube_config import ConfigNode
except ImportError as exc:
    raise MissingExtraError(
        "a kubeconfig user with a credential plugin needs the kubernetes package:"
        " pip install 'osmo-pipeline[kubernetes]'"
    ) from exc


def exec_plugin(config: dict[str, Any], cluster: dict[str, Any], base: Path) -> Plugin:
    """Runs the command of a user's `exec` section; `base` is where the kubeconfig lies."""

    def ask() -> Issued:
        command = config.get("command", "?")
        try:
            nodes = ConfigNode("exec", config), str(base), ConfigNode("cluster", cluster)
            status = without_nulls(ExecProvider(*nodes).run()) or {}
            return _issued(status)
        except (ConfigException, OSError) as exc:
            why = str(exc)
        except AttributeError:
            # On a terminal the package looks for what the plugin wrote there itself.
            why = "it ended with an error, and said why on the terminal"
        except (TypeError, ValueError, LookupError, OverflowError) as exc:
            why = f"its answer cannot be used: {exc}"
        raise KubeconfigError(f"the credential plugin {command!r} of the kubeconfig failed: {why}")

    return ask


def _issued(status: dict[str, Any]) -> Issued:
    """Raises ConfigException, TypeError and ValueError."""
    token, expiry = status.get("token"), status.get("expirationTimestamp")
    certificate, key = status.get("clientCertificateData", ""), status.get("clientKeyData", "")
    if not (token or certificate):
        raise ConfigException("it gave neither a token nor a certificate")
    return Issued(
        authorization=f"Bearer {token}" if token else None,
        certificate=certificate.encode() or None,
        key=key.encode() or None,
        expiry=parse_rfc3339(expiry).timestamp() if expiry else None,
    )


def auth_provider(path: Path, context: str) -> Plugin:
    """Lets the package's own auth providers (OIDC, GCP) refresh the kubeconfig's token."""

    def ask() -> Issued:
        configuration = Configuration()
        try:
            load_kube_config(str(path), context, configuration)
        except (ConfigException, OSError, ValueError) as exc:
            raise KubeconfigError(
                f"the auth provider of context {context!r} in {path} failed: {exc}"
            ) from exc
        keys = configuration.api_key
        token = keys.get("BearerToken") or keys.get("authorization")
        if not token:
            raise KubeconfigError(
                f"the auth provider of context {context!r} in {path} gave no token: log in again,"
                " or use an exec plugin"
            )
        return Issued(authorization=token)

    return ask
