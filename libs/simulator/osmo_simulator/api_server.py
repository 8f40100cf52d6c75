"""A real etcd and kube-apiserver beside the simulated one, started on free loopback ports.

`KUBEBUILDER_ASSETS` names the folder with the two programs (the convention of envtest). There is no
kubelet and no scheduler: a test creates nodes and pods itself and patches their `/status`.
"""

import base64
import contextlib
import http.client
import itertools
import json
import os
import secrets
import shutil
import ssl
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from osmo_transport.testing.ports import free_port

T = TypeVar("T")

READY_TIMEOUT = 60.0
_COPIES_AT_ONCE = 64
"""Of usual pods a megabyte, where etcd takes 1.5 MiB and 128 of them at most."""
NAMESPACE = "osmo"
MISSING = "no real API server: set KUBEBUILDER_ASSETS to a folder with etcd and kube-apiserver"


def assets() -> Path | None:
    """The folder with etcd and kube-apiserver, or None where this machine has none."""
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if not folder:
        return None
    path = Path(folder).resolve()
    return path if all((path / name).is_file() for name in ("etcd", "kube-apiserver")) else None


def kubectl() -> str | None:
    """The kubectl of the assets folder, else the one on PATH, else None."""
    folder = os.environ.get("KUBEBUILDER_ASSETS", "")
    return shutil.which("kubectl", path=folder) or shutil.which("kubectl")


@dataclass(frozen=True, kw_only=True)
class RealCluster:
    """A running API server; namespace `osmo` exists."""

    url: str
    etcd_url: str
    ca_file: Path
    token: str
    _context: ssl.SSLContext = field(repr=False)

    def kubeconfig(self) -> str:
        """A kubeconfig (in JSON, which YAML is) for this cluster that needs no other file."""
        ca = base64.b64encode(self.ca_file.read_bytes()).decode()
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "clusters": [
                    {
                        "name": "test",
                        "cluster": {"server": self.url, "certificate-authority-data": ca},
                    }
                ],
                "users": [{"name": "test", "user": {"token": self.token}}],
                "contexts": [
                    {
                        "name": "test",
                        "context": {"cluster": "test", "user": "test", "namespace": NAMESPACE},
                    }
                ],
            }
        )

    @contextlib.contextmanager
    def session(self) -> Iterator["Session"]:
        """One keep-alive connection, for many requests in a row."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, context=self._context, timeout=30
        )
        try:
            yield Session(connection, self.token)
        finally:
            connection.close()

    def request(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """One request; the decoded answer. See `Session.request`."""
        with self.session() as session:
            return session.request(method, path, body, **headers)

    def copy_pod(
        self,
        name: str,
        copies: Iterable[Mapping[str, str]],
        namespace: str = NAMESPACE,
    ) -> None:
        """Copy a pod within etcd, many times as fast as the API server creates one.

        Args:
            name: of the pod.
            copies: for each copy what stands in the pod, its name included, and what stands there
                in the copy. Both have the same number of bytes, because the encoding counts them.
            namespace: of the pod and its copies.

        Raises:
            ValueError: two texts are not of the same length.
            ApiError, OSError: etcd refused, or cannot be reached.
        """
        prefix = f"/registry/pods/{namespace}/"
        pod = self.request("GET", f"/api/v1/namespaces/{namespace}/pods/{name}")
        uid = pod["metadata"]["uid"]
        with contextlib.closing(_Etcd(self.etcd_url)) as etcd:
            original = etcd.get(prefix + name)
            for chunk in _chunked(copies, _COPIES_AT_ONCE):
                etcd.put(
                    [
                        (
                            prefix + each[name],
                            _replaced(original, {uid: str(uuid.uuid4()), **each}),
                        )
                        for each in chunk
                    ]
                )

    def clear(self, namespace: str = NAMESPACE) -> None:
        """Delete every pod and event of the namespace, and every node."""
        with self.session() as session:
            for path in (
                f"/api/v1/namespaces/{namespace}/pods?gracePeriodSeconds=0",
                f"/api/v1/namespaces/{namespace}/events",
                "/api/v1/nodes",
            ):
                session.request("DELETE", path)


class _Etcd:
    """The gateway of etcd, for JSON."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)

    def get(self, key: str) -> bytes:
        (found,) = self._call("/v3/kv/range", {"key": _base64(key.encode())})["kvs"]
        return base64.b64decode(found["value"])

    def put(self, pairs: Sequence[tuple[str, bytes]]) -> None:
        """All of them, or none."""
        puts = [
            {"requestPut": {"key": _base64(key.encode()), "value": _base64(value)}}
            for key, value in pairs
        ]
        self._call("/v3/kv/txn", {"success": puts})

    def close(self) -> None:
        self._connection.close()

    def _call(self, path: str, body: object) -> Any:
        self._connection.request("POST", path, json.dumps(body))
        response = self._connection.getresponse()
        answer = json.loads(response.read())
        if response.status >= 400:
            raise ApiError(response.status, answer)
        return answer


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _replaced(data: bytes, texts: Mapping[str, str]) -> bytes:
    for old, new in texts.items():
        if len(old.encode()) != len(new.encode()):
            raise ValueError(f"{old!r} and {new!r} are not of the same length")
        data = data.replace(old.encode(), new.encode())
    return data


def _chunked(items: Iterable[T], size: int) -> Iterator[list[T]]:
    rest = iter(items)
    while chunk := list(itertools.islice(rest, size)):
        yield chunk


class ApiError(Exception):
    """The API server refused; `code` is the HTTP status and `status` the Status object."""

    def __init__(self, code: int, status: Any) -> None:
        super().__init__(f"{code}: {status}")
        self.code = code
        self.status = status


class Session:
    """Requests over one connection; not for use by two threads at once."""

    def __init__(self, connection: http.client.HTTPConnection, token: str) -> None:
        self._connection = connection
        self._token = token

    def request(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """Send `body` as JSON and return the decoded answer.

        PATCH is a strategic merge patch unless `content_type` says otherwise.

        Raises:
            ApiError: the answer's status is 400 or higher.
        """
        patch = method == "PATCH"
        default = "application/strategic-merge-patch+json" if patch else "application/json"
        sent = {
            "Authorization": f"Bearer {self._token}",
            "Content-Type": headers.pop("content_type", default),
            **headers,
        }
        self._connection.request(method, path, None if body is None else json.dumps(body), sent)
        response = self._connection.getresponse()
        text = response.read()
        decoded = json.loads(text) if text.startswith(b"{") else text.decode()
        if response.status >= 400:
            raise ApiError(response.status, decoded)
        return decoded


@contextlib.contextmanager
def start() -> Iterator[RealCluster]:
    """Start etcd and the API server, yield when ready, and stop both.

    Raises:
        RuntimeError: there are no assets, or a program did not become ready (the text has its log).
    """
    with backed_up() as cluster:
        yield cluster.cluster


@contextlib.contextmanager
def backed_up() -> Iterator["BackedUp"]:
    """As `start`, for a cluster that can be saved and restored."""
    folder = assets()
    if folder is None:
        raise RuntimeError(MISSING)
    with tempfile.TemporaryDirectory(prefix="osmo-kube-") as work:
        cluster = BackedUp(folder, Path(work))
        try:
            cluster.start()
            cluster.cluster.request("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
            yield cluster
        finally:
            cluster.stop()


class BackedUp:
    """An API server and its etcd, which can be taken back to what they were."""

    def __init__(self, folder: Path, work: Path) -> None:
        """`folder` has the programs, `work` is for their files."""
        self._folder = folder
        self._work = work
        self._etcd_url, self._peer_url = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self._token = secrets.token_hex()
        self._arguments = _api_arguments(work, self._etcd_url, self._token)
        self.server = self.another()
        """The first one."""
        self._etcd = contextlib.ExitStack()

    @property
    def cluster(self) -> RealCluster:
        """While they run; the same address and credentials after each start."""
        return self.server.cluster

    def another(self) -> "ApiServer":
        """One more API server of the same cluster, with the same certificate and credentials; it
        does not run yet."""
        program = self._folder / "kube-apiserver"
        return ApiServer(program, self._arguments, self._work, self._etcd_url, self._token)

    def start(self) -> None:
        """Run both, and wait until they are ready.

        Raises:
            RuntimeError: one of them is not; the text has its log.
        """
        self._start_etcd()
        self.server.start()

    def stop(self) -> None:
        """End both."""
        self.server.stop()
        self._etcd.close()

    def save(self) -> None:
        """Keep what etcd holds. Both must be stopped."""
        shutil.rmtree(self._backup, ignore_errors=True)
        shutil.copytree(self._data, self._backup)

    def restore(self) -> None:
        """Put back what was saved. Both must be stopped."""
        shutil.rmtree(self._data)
        shutil.copytree(self._backup, self._data)

    def restore_beneath(self) -> None:
        """Put back what was saved while the API server runs."""
        self._etcd.close()
        self.restore()
        self._start_etcd()

    def _start_etcd(self) -> None:
        etcd = [
            *("--data-dir", str(self._data), "--unsafe-no-fsync", "--log-level", "error"),
            *("--listen-client-urls", self._etcd_url, "--advertise-client-urls", self._etcd_url),
            *("--listen-peer-urls", self._peer_url),
            *("--initial-advertise-peer-urls", self._peer_url),
            *("--initial-cluster", f"default={self._peer_url}"),
        ]
        self._etcd.enter_context(_program(self._folder / "etcd", etcd, self._work / "etcd.log"))

    @property
    def _data(self) -> Path:
        return self._work / "etcd"

    @property
    def _backup(self) -> Path:
        return self._work / "backup"


class ApiServer:
    """An API server, which can be stopped and started again; always at the same address."""

    cluster: RealCluster
    """The cluster as this server shows it, while it runs."""

    def __init__(
        self, program: Path, arguments: Sequence[str], work: Path, etcd_url: str, token: str
    ) -> None:
        """`arguments` are those that every server of the cluster has."""
        self._program = program
        self._arguments = arguments
        self._work = work
        self._etcd_url = etcd_url
        self._token = token
        self.port = free_port()
        """Where it listens on 127.0.0.1."""
        self._log = work / f"kube-apiserver-{self.port}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._running = contextlib.ExitStack()

    def start(self) -> None:
        """Run it, and wait until it is ready.

        Raises:
            RuntimeError: it is not; the text has its log.
        """
        arguments = [*self._arguments, "--secure-port", str(self.port)]
        program = _program(self._program, arguments, self._log)
        self._process = self._running.enter_context(program)
        url = f"https://127.0.0.1:{self.port}"
        self.cluster = self._wait_ready(self._process, url)

    def stop(self) -> None:
        """End it at once."""
        self._running.close()

    def drain(self, grace: float) -> None:
        """End it as in a rolling restart: it is asked to, takes no more requests, and goes on with
        the watches that it has; after `grace` seconds it is killed."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace)
        self.stop()

    def _wait_ready(self, process: subprocess.Popen[bytes], url: str) -> RealCluster:
        ca_file = self._work / "certs" / "apiserver.crt"
        deadline = time.monotonic() + READY_TIMEOUT
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(OSError, ApiError, http.client.HTTPException):
                cluster = RealCluster(
                    url=url,
                    etcd_url=self._etcd_url,
                    ca_file=ca_file,
                    token=self._token,
                    _context=ssl.create_default_context(cafile=ca_file),
                )
                cluster.request("GET", "/readyz")
                cluster.request("GET", "/api/v1/namespaces/kube-system")
                return cluster
            time.sleep(0.02)
        log = self._log.read_text(errors="replace")
        raise RuntimeError(f"kube-apiserver did not become ready:\n{log[-4000:]}")


def _api_arguments(work: Path, etcd_url: str, token: str) -> list[str]:
    key = work / "sa.key"
    command = ["openssl", "genrsa", "-out", str(key), "2048"]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 (our own arguments)
    tokens = work / "tokens.csv"
    tokens.write_text(f"{token},admin,admin,system:masters\n")
    return [
        *("--etcd-servers", etcd_url, "--cert-dir", f"{work}/certs"),
        *("--bind-address", "127.0.0.1"),
        *("--endpoint-reconciler-type", "none", "--service-cluster-ip-range", "10.0.0.0/24"),
        *("--service-account-key-file", str(key), "--service-account-signing-key-file", str(key)),
        *("--service-account-issuer", "https://kubernetes.default.svc"),
        *("--token-auth-file", str(tokens), "--authorization-mode", "RBAC"),
        "--disable-admission-plugins",
        "ServiceAccount,TaintNodesByCondition,Priority,LimitRanger,ResourceQuota,NodeRestriction",
    ]


@contextlib.contextmanager
def _program(path: Path, arguments: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 (our own arguments)
            [path, *arguments], stdout=output, stderr=output, cwd=log.parent
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
