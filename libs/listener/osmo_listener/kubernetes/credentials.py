"""Who we are to an API server, and how to reach it.

`kubeconfig` makes `Credentials` from a file, `load_in_cluster` from a pod's service account.
Nothing that is secret appears in an error, a log line or a `repr`.
"""

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from osmo_listener.errors import KubeconfigError
from osmo_listener.kubernetes.http import Endpoint

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

Secret = Path | bytes
"""Held in memory, or in a file that is read at each use, so that a rotated one is seen."""


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
    plugin: Plugin | None = field(default=None, repr=False)
    plugin_timeout: float = PLUGIN_TIMEOUT
    """Seconds that it may take to answer."""
    clock: Callable[[], float] = field(default=time.time, repr=False)
    """Seconds since the Unix epoch."""

    def __post_init__(self) -> None:
        self._issued: Issued | None = None
        self._asking = asyncio.Lock()

    async def headers(self) -> dict[str, str]:
        """The headers that authenticate a request.

        Raises:
            KubeconfigError: the token file or the plugin does not deliver.
        """
        authorization = self.authorization or (await self._ask()).authorization
        if self.token_file:
            try:
                token = read_file(self.token_file, "token file").decode("latin-1").strip()
                authorization = f"Bearer {token}"
            except KubeconfigError:
                # As kubectl: a fixed token beside the file is what is left.
                if not self.authorization:
                    raise
        return {"Authorization": authorization} if authorization else {}

    async def tls(self) -> ssl.SSLContext | None:
        """The TLS context for a new connection; None: plain HTTP.

        Raises:
            KubeconfigError: a certificate or key cannot be used, or the plugin does not deliver.
        """
        if not self.secure:
            return None
        issued = await self._ask()
        context = _trust(self.ca, verify=self.verify)
        if issued.certificate and issued.key:
            _present(context, issued.certificate, issued.key)
        elif self.certificate and self.key:
            _present(context, self.certificate, self.key)
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


def load_in_cluster(environ: Mapping[str, str], mount: Path = SERVICE_ACCOUNT) -> Credentials:
    """The credentials of the pod that we run in.

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
    return Credentials(
        endpoint=Endpoint(host=host, port=int(port)),
        namespace=namespace.read_text().strip() if namespace.exists() else None,
        ca=mount / "ca.crt",
        token_file=mount / "token",
    )


def read_file(path: Path, what: str) -> bytes:
    """The content of a file that a user named as his `what`.

    Raises:
        KubeconfigError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as exc:
        raise KubeconfigError(f"the {what} {path} cannot be read: {exc.strerror}") from exc


def _trust(ca: Secret | None, *, verify: bool) -> ssl.SSLContext:
    try:
        # An empty text would let ssl fall back to the system's certificate authorities.
        context = ssl.create_default_context(cadata=None if ca is None else _pem(ca) or " ")
        # Python 3.13 refuses authorities that kubectl, and Python before, take.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    except (ssl.SSLError, ValueError) as exc:
        raise KubeconfigError(
            "certificate-authority holds no certificate that can be read: it must be PEM"
        ) from exc
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _pem(ca: Secret) -> str:
    pem = ca if isinstance(ca, bytes) else read_file(ca, "certificate-authority")
    # What stands outside of the blocks is for people, in whatever language.
    return pem.decode("ascii", errors="ignore")


def _present(context: ssl.SSLContext, certificate: Secret, key: Secret) -> None:
    from tempfile import NamedTemporaryFile  # noqa: PLC0415

    with contextlib.ExitStack() as stack:

        def as_file(secret: Secret) -> str:
            if isinstance(secret, Path):
                return str(secret)
            file = stack.enter_context(NamedTemporaryFile())
            file.write(secret)
            file.flush()
            return file.name

        try:
            context.load_cert_chain(as_file(certificate), as_file(key))
        except (OSError, ValueError) as exc:
            raise KubeconfigError(
                "client-certificate and client-key cannot be used: they must be readable PEM, and"
                f" belong together ({exc.__class__.__name__})"
            ) from exc


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
