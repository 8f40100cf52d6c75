"""Who we are to an API server, and how to reach it.

`kubeconfig` makes `Credentials` from a file, `load_in_cluster` from a pod's service account.
Nothing that is secret appears in an error, a log line or a `repr`.
"""

import asyncio
import contextlib
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path

from osmo_listener.errors import KubeconfigError
from osmo_listener.kubernetes.connecting import Endpoint
from osmo_listener.kubernetes.proxies import environment_proxy
from osmo_listener.kubernetes.trust import Secret, present, read_file, trusting
from osmo_transport.lean import dataclass

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes mounts a pod's token and the cluster's CA."""

EXPIRY_LEEWAY = 60.0
"""Seconds before its expiry that a plugin's credential is replaced: more than a request takes and
than clocks differ."""


PLUGIN_TIMEOUT = 60.0
"""Seconds that a plugin may take: a login to a cloud takes some, one that waits for a person who is
not there takes for ever."""


@dataclass(frozen=True, kw_only=True)
class Issued:
    """What a credential plugin issued."""

    authorization: str | None = field(default=None, repr=False)
    """Value of the `Authorization` header."""
    certificate: bytes | None = field(default=None, repr=False)
    """Client certificate, PEM."""
    key: bytes | None = field(default=None, repr=False)
    """Its key, PEM."""
    expiry: float | None = None
    """Seconds since the Unix epoch; None: it does not say."""


Plugin = Callable[[], Issued]
"""Asks a credential plugin; blocks, and raises KubeconfigError."""

_NO_HEADER = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass(kw_only=True)
class Credentials:
    """The way to one API server.

    Files (CA, client certificate, token) are read anew for each connection or request, so rotated
    ones are used at once. What a plugin issued is kept until it expires or `forget` is called.
    """

    endpoint: Endpoint
    secure: bool = True
    """HTTPS; False: plain HTTP."""
    verify: bool = True
    """Whether the server's certificate is verified."""
    namespace: str | None = None
    """The namespace that the kubeconfig's context or the service account names."""
    ca: Secret | None = field(default=None, repr=False)
    """PEM; None: the system's certificate authorities."""
    certificate: Secret | None = field(default=None, repr=False)
    """Client certificate, PEM."""
    key: Secret | None = field(default=None, repr=False)
    """Its key, PEM."""
    token_file: Path | None = None
    """Holds a bearer token."""
    authorization: str | None = field(default=None, repr=False)
    """A fixed value of the `Authorization` header."""
    impersonation: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    """The headers that name the user to act as."""
    plugin: Plugin | None = field(default=None, repr=False)
    plugin_timeout: float = PLUGIN_TIMEOUT
    """Seconds that it may take to answer."""
    clock: Callable[[], float] = field(default=time.time, repr=False)
    """Seconds since the Unix epoch."""

    def __post_init__(self) -> None:
        self._issued: Issued | None = None
        self._asking = asyncio.Lock()

    async def headers(self) -> dict[str, str | tuple[str, ...]]:
        """The headers that authenticate a request.

        Raises:
            KubeconfigError: the token file or the plugin does not deliver, or gave what no header
                can hold.
        """
        authorization = self.authorization or (await self._ask()).authorization
        if self.token_file:
            try:
                authorization = f"Bearer {_token(self.token_file)}"
            except KubeconfigError:
                # As kubectl: a fixed token beside the file is what is left.
                if not self.authorization:
                    raise
        headers = dict(self.impersonation)
        if authorization:
            headers["Authorization"] = authorization
        for name, values in headers.items():
            if _NO_HEADER.search("".join(values)):
                raise KubeconfigError(
                    f"the kubeconfig's user gives a value of the header {name} with a line break or"
                    " a control character in it: mend the token, or the name to act as"
                )
        return headers

    async def tls(self) -> ssl.SSLContext | None:
        """The TLS context for a new connection; None: plain HTTP.

        Raises:
            KubeconfigError: a certificate or key cannot be used, or the plugin does not deliver.
        """
        if not self.secure:
            return None
        issued = await self._ask()
        context = trusting(self.ca, verify=self.verify)
        certificate = issued.certificate or self.certificate
        if certificate and (key := issued.key or self.key):
            present(context, certificate, key)
        return context

    def forget(self) -> None:
        """Drop what a plugin issued: the server refused it."""
        self._issued = None

    async def _ask(self) -> Issued:
        if self.plugin is None:
            return _NOTHING
        # One at a time for all who need it: a plugin may open a browser, or lock its cache.
        async with self._asking:
            issued = self._issued
            if issued is None or (issued.expiry and issued.expiry - EXPIRY_LEEWAY < self.clock()):
                try:
                    async with asyncio.timeout(self.plugin_timeout):
                        self._issued = issued = await _in_thread(self.plugin)
                except TimeoutError as exc:
                    raise KubeconfigError(
                        "the credential plugin of the kubeconfig gave no answer in"
                        f" {self.plugin_timeout:g} s"
                    ) from exc
            return issued


_NOTHING = Issued()


def _token(file: Path) -> str:
    token = read_file(file, "token file").decode("utf-8", "replace").strip()
    if not token:
        raise KubeconfigError(f"the token file {file} is empty")
    return token


def load_in_cluster(environ: Mapping[str, str], mount: Path = SERVICE_ACCOUNT) -> Credentials:
    """The credentials of the pod that we run in; its environment also names proxies.

    Raises:
        KubeconfigError: this is no pod, or it has no service account token.
    """
    host = environ.get("KUBERNETES_SERVICE_HOST")
    port = environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not port.isdecimal() or not (mount / "token").exists():
        raise KubeconfigError(
            "no kubeconfig was named, and this is no pod with a service account: name a kubeconfig"
        )
    namespace = mount / "namespace"
    proxy = environment_proxy(environ, host, int(port), secure=True)
    return Credentials(
        endpoint=Endpoint(host=host, port=int(port), proxy=proxy),
        namespace=namespace.read_text().strip() if namespace.exists() else None,
        ca=mount / "ca.crt",
        token_file=mount / "token",
    )


async def _in_thread(plugin: Plugin) -> Issued:
    """Like asyncio.to_thread, but a plugin that hangs does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[Issued] = loop.create_future()

    def settle(issued: Issued | None, failure: BaseException | None) -> None:
        if result.done():
            return
        if failure:
            result.set_exception(failure)
        elif issued:
            result.set_result(issued)

    def run() -> None:
        issued, failure = None, None
        try:
            issued = plugin()
        except Exception as exc:  # noqa: BLE001 - it is raised where the result is awaited
            failure = exc
        with contextlib.suppress(RuntimeError):  # the loop has closed meanwhile
            loop.call_soon_threadsafe(settle, issued, failure)

    threading.Thread(target=run, name="credential-plugin", daemon=True).start()
    return await result
