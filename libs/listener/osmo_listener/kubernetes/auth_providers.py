"""The auth providers (OIDC, GCP) that were before credential plugins.

The only module that imports the `kubernetes` package, at a cost of 0.3 s, and so itself imported
only for users that have one.
"""

from osmo_listener.errors import KubeconfigError
from osmo_listener.kubernetes.credentials import Issued, Plugin
from osmo_transport.errors import MissingExtraError

try:
    from kubernetes.client import Configuration
    from kubernetes.config import ConfigException, load_kube_config
except ImportError as exc:
    raise MissingExtraError(
        "a kubeconfig user with an auth provider needs the kubernetes package:"
        " pip install 'osmo-pipeline[kubernetes]'"
    ) from exc


def auth_provider(paths: str, context: str) -> Plugin:
    """Lets the package's own auth providers refresh the token of a kubeconfig, or of several that
    are joined as in KUBECONFIG."""

    def ask() -> Issued:
        configuration = Configuration()
        try:
            load_kube_config(paths, context, configuration)
        except (ConfigException, OSError, ValueError) as exc:
            raise KubeconfigError(
                f"the auth provider of context {context!r} in {paths} failed: {exc}"
            ) from exc
        keys = configuration.api_key
        token = keys.get("BearerToken") or keys.get("authorization")
        if not token:
            raise KubeconfigError(
                f"the auth provider of context {context!r} in {paths} gave no token: log in again,"
                " or use an exec plugin"
            )
        return Issued(authorization=token)

    return ask
