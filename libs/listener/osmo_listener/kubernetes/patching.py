"""Changes parts of objects over HTTP."""

import msgspec

from osmo_listener.kubernetes.answers import USER_AGENT, check
from osmo_listener.kubernetes.config import HttpConfig
from osmo_listener.kubernetes.credentials import Credentials
from osmo_listener.kubernetes.http import HttpClient

_HEADERS = {
    # Without the rest of the object: a node's status lists every image that it holds.
    "Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=1,application/json",
    "Content-Type": "application/merge-patch+json",
    "User-Agent": USER_AGENT,
}
_ADVICE = {
    401: "the API server does not accept the credentials ({}): renew the token or the certificate"
    " of the kubeconfig's user",
    403: "{}; grant this user patch on them",
}


class Patcher:
    """Patches over HTTP; several may be on their way at once.

    Args:
        credentials: where the server is and who we are.
        http: limits of the HTTP client.
    """

    def __init__(self, credentials: Credentials, http: HttpConfig | None = None) -> None:
        self._credentials = credentials
        self._client = HttpClient(credentials.endpoint, credentials.tls, http)

    async def merge_patch(self, path: str, patch: object) -> None:
        """Merge `patch` (RFC 7386, what JSON can say) into the object at `path`.

        An error other than a `StatusError` leaves open whether it was done.

        Raises:
            KubernetesError, KubeconfigError: it was refused, or not answered.
        """
        headers = _HEADERS | await self._credentials.headers()
        body = msgspec.json.encode(patch)
        response = await self._client.request("PATCH", path, headers, body)
        try:
            await check(response, _ADVICE)
            await response.read()
        finally:
            response.close()

    def forget_credentials(self) -> None:
        """Drop cached credentials: the server refused them."""
        self._credentials.forget()
        self._client.close()

    def close(self) -> None:
        """Drop idle connections."""
        self._client.close()
