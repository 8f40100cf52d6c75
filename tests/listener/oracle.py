"""The same kubeconfig given to kubectl and to our client, beside servers and proxies that note what
arrives."""

import asyncio
import base64
import contextlib
import json
import os
import re
import ssl
import string
import struct
import subprocess
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from osmo_listener.errors import ListenerError
from osmo_listener.kubernetes.config import HttpConfig
from osmo_listener.kubernetes.http import HttpClient
from osmo_listener.kubernetes.kubeconfig import load_kubeconfig
from osmo_transport import TlsConfig
from tests.helpers import stop_listening
from tests.transport.certificates import authority

KUBECTL = Path(os.environ.get("KUBEBUILDER_ASSETS", "/nowhere")) / "kubectl"

SEEN = ("authorization", "host", "proxy-authorization")
"""Headers that are noted, and those whose names begin with `impersonate-`."""

VERSION = json.dumps(
    {"major": "1", "minor": "37", "gitVersion": "v1.37.2", "platform": "linux/amd64"}
).encode()
ANSWER = (
    f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(VERSION)}\r\n\r\n"
).encode() + VERSION

PLUGIN = """#!/bin/sh
printf '%s' "$KUBERNETES_EXEC_INFO" > "$(dirname "$0")/told"
printf '{"apiVersion":"%s","kind":"ExecCredential","status":%s}' "$VERSION" "$STATUS"
exit "${CODE:-0}"
"""

WITHOUT_IDENTIFIERS = (
    *("-addext", "subjectKeyIdentifier=none", "-addext", "authorityKeyIdentifier=none"),
    *("-addext", "keyUsage=digitalSignature,keyEncipherment,keyCertSign"),
)
"""Of an authority as MicroK8s makes them."""

PATIENCE = 50
HANGING = 1
"""Seconds that an answer may take, and that what hangs is waited for."""


@dataclass(frozen=True)
class Row:
    """A kubeconfig. In all its texts, `${https}` and its like stand for what `Scene` has."""

    name: str
    user: Mapping[str, Any] = field(default_factory=dict)
    cluster: Mapping[str, Any] = field(default_factory=dict)
    """Beside `server: ${https}` and the `certificate-authority` of it."""
    environ: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)
    """Instead of the user and cluster: what lies where, as text or to be written as JSON."""
    kubeconfig: str = "config"
    hangs: bool = False
    refused: bool = False
    """Whether kubectl gets no answer: told here, so that no row succeeds by failing twice."""
    differs: str = ""
    """Why ours does otherwise."""


@dataclass(frozen=True)
class Outcome:
    """What came of a row."""

    answered: bool
    seen: list[object]
    """What arrived where, in order, without repetitions."""
    said: str
    """For people, where it failed."""


class Certificates:
    """Made once for all rows."""

    def __init__(self, folder: Path) -> None:
        ours, theirs, bare = (folder / each for each in ("ours", "theirs", "bare"))
        for each in (ours, theirs, bare):
            each.mkdir()
        self.ca, self.other = authority(ours), authority(theirs)
        self.bare_ca = authority(bare, WITHOUT_IDENTIFIERS)
        self.bare = self.bare_ca.signed("bare", issuer="")
        names = "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:api.cluster.test,DNS:other.test"
        self.server = self.ca.signed("server", names)
        self.elsewhere = self.ca.signed("elsewhere", "subjectAltName=DNS:elsewhere.test")
        self.common_name = self.ca.signed("localhost", "basicConstraints=CA:FALSE")
        self.weak = _weak(folder)
        self.client = self.ca.signed("client", "extendedKeyUsage=clientAuth")


class Scene:
    """A folder, servers and proxies of one row; each is started when a text names it."""

    def __init__(self, row: Row, folder: Path, certificates: Certificates) -> None:
        self.row = row
        self.folder = folder
        self.certificates = certificates
        self.seen: list[object] = []
        self._connections: dict[asyncio.StreamWriter, asyncio.Task[Any] | None] = {}
        self._servers: list[asyncio.Server] = []

    async def run(self) -> tuple[Outcome | None, Outcome]:
        """What came of it with kubectl, where there is one, and with ours."""
        async with self._served() as values:
            self._write(values)
            environ = {name: _filled(text, values) for name, text in self.row.environ.items()}
            kubectl = await self._noted(self._kubectl, environ) if KUBECTL.exists() else None
            return kubectl, await self._noted(self._ours, environ)

    async def _noted(
        self, run: Callable[[Mapping[str, str]], Awaitable[str]], environ: Mapping[str, str]
    ) -> Outcome:
        self.seen.clear()
        told = self.folder / "told"
        told.unlink(missing_ok=True)
        said = await run(environ)
        seen = [each for index, each in enumerate(self.seen) if each not in self.seen[:index]]
        if told.exists():
            seen.append(_without_empty(json.loads(told.read_text())))
        return Outcome(not said, seen, said)

    @property
    def _patience(self) -> int:
        return HANGING if self.row.hangs else PATIENCE

    async def _kubectl(self, environ: Mapping[str, str]) -> str:
        process = await asyncio.create_subprocess_exec(
            KUBECTL,
            "version",
            f"--request-timeout={self._patience}s",
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "KUBECACHEDIR": str(self.folder / "cache"),
                "KUBECONFIG": self._kubeconfig(),
                **environ,
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        _, errors = await process.communicate()
        return errors.decode() if process.returncode else ""

    async def _ours(self, environ: Mapping[str, str]) -> str:
        limits = HttpConfig(connect_timeout=self._patience)
        try:
            credentials = load_kubeconfig(Path(self._kubeconfig()), environ=environ)
            client = HttpClient(credentials.endpoint, credentials.tls, limits)
            try:
                response = await client.get("/version", await credentials.headers())
                try:
                    code = await response.head()
                    await response.read()
                finally:
                    response.close()
            finally:
                client.close()
        except ListenerError as exc:
            return str(exc)
        return "" if code == 200 else f"HTTP status {code}"

    def _kubeconfig(self) -> str:
        return ":".join(str(self.folder / each) for each in self.row.kubeconfig.split(":"))

    def _write(self, values: Mapping[str, str]) -> None:
        plugin = self.folder / "plugin"
        plugin.write_text(PLUGIN)
        plugin.chmod(0o755)
        cluster = {"server": "${https}", "certificate-authority": "${ca}"} | dict(self.row.cluster)
        one = {"cluster": {k: v for k, v in cluster.items() if v != ""}, "user": self.row.user}
        for name, content in (self.row.files or {"config": kubeconfig(**one)}).items():
            text = content if isinstance(content, str) else json.dumps(content)
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_text(_filled(text, values))

    @contextlib.asynccontextmanager
    async def _served(self) -> AsyncIterator[dict[str, str]]:
        certificates = self.certificates
        text = json.dumps([self.row.cluster, self.row.user, self.row.files, dict(self.row.environ)])
        values = {
            "folder": str(self.folder),
            "ca": str(certificates.ca.ca_file),
            "ca_data": _data(certificates.ca.ca_file),
            "ca_pem": certificates.ca.ca_file.read_text(),
            "ca_in_lines": "\\r\\n".join(textwrap.wrap(_data(certificates.ca.ca_file), 76)),
            "weak_ca": str(certificates.weak.cert_file),
            "bare_ca": str(certificates.bare_ca.ca_file),
            "other_ca": str(certificates.other.ca_file),
            "server_certificate": str(certificates.server.cert_file),
            "certificate": str(certificates.client.cert_file),
            "certificate_data": _data(certificates.client.cert_file),
            "key": str(certificates.client.key_file),
            "key_data": _data(certificates.client.key_file),
            "issued_pair": _pair(certificates.client),
            "other_key": str(certificates.server.key_file),
            "closed": "127.0.0.1:1",
        }
        kinds: dict[str, tuple[Callable[..., Awaitable[None]], str | None]] = {
            "http": (self._serve, None),
            "https": (self._serve, "server"),
            "elsewhere": (self._serve, "elsewhere"),
            "bare": (self._serve, "bare"),
            "weak": (self._serve, "weak"),
            "common_name": (self._serve, "common_name"),
            "proxy": (self._proxy, None),
            "secure_proxy": (self._proxy, "server"),
            "refusing": (self._refuse, None),
            "silent": (self._say_nothing, None),
            "socks": (self._socks, None),
        }
        try:
            for kind, (serve, certificate) in kinds.items():
                if kind == "https" or f"${{{kind}}}" in text or f"${{{kind}_" in text:
                    port = await self._listen(kind, serve, certificate)
                    scheme = "https" if certificate else "http"
                    values[kind] = f"{scheme}://127.0.0.1:{port}"
                    values[f"{kind}_at"] = f"127.0.0.1:{port}"
                    values[f"{kind}_port"] = str(port)
            self.port = int(values["https_port"])
            yield values
        finally:
            for server in self._servers:
                await stop_listening(server)
            tasks = [task for task in self._connections.values() if task]
            for writer in self._connections:
                # Of one over TLS that has closed CPython 3.11.2 has nothing left to abort.
                with contextlib.suppress(AttributeError):
                    writer.transport.abort()
            await asyncio.gather(*tasks)

    async def _listen(
        self, kind: str, serve: Callable[..., Awaitable[None]], certificate: str | None
    ) -> int:
        names: list[str | None] = []
        context = self._context(certificate, names) if certificate else None

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._connections[writer] = asyncio.current_task()
            peer = writer.get_extra_info("peercert")
            subject = peer["subject"][0][0][1] if peer else None
            tls = ("tls", names[-1] if names else None, subject) if context else ("plain",)
            try:
                await serve((kind, *tls), reader, writer)
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                del self._connections[writer]
                writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def _context(self, certificate: str, names: list[str | None]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        own = getattr(self.certificates, certificate)
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        context.load_cert_chain(own.cert_file, own.key_file)
        context.load_verify_locations(self.certificates.ca.ca_file)
        context.verify_mode = ssl.CERT_OPTIONAL
        context.sni_callback = lambda _, name, __: names.append(name)
        return context

    async def _serve(
        self, at: tuple[Any, ...], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            self.seen.append((at, await _request(reader)))
            writer.write(ANSWER)

    async def _proxy(
        self, at: tuple[Any, ...], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Connects whatever it is asked for to the server of the row."""
        request = await _request(reader)
        self.seen.append((at, request))
        if not request[0].startswith("CONNECT "):
            writer.write(ANSWER)
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await self._joined(reader, writer)

    async def _refuse(
        self, at: tuple[Any, ...], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """The user's name says with what; without one, 407."""
        request = await _request(reader)
        self.seen.append((at, request))
        login = next((value for name, value in request[1] if name == "proxy-authorization"), "")
        user = base64.b64decode(login.removeprefix("Basic ")).decode().partition(":")[0]
        writer.write(f"HTTP/1.1 {user or 407} No\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()

    async def _say_nothing(
        self, at: tuple[Any, ...], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.seen.append((at, await _request(reader)))
        await reader.read()

    async def _socks(
        self, at: tuple[Any, ...], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """SOCKS5, with a password if one is offered."""
        _, count = await reader.readexactly(2)
        methods = await reader.readexactly(count)
        login = ""
        writer.write(b"\x05\x02" if 2 in methods else b"\x05\x00")
        if 2 in methods:
            _, length = await reader.readexactly(2)
            user = await reader.readexactly(length)
            password = await reader.readexactly((await reader.readexactly(1))[0])
            login = f"{user.decode()}:{password.decode()}"
            writer.write(b"\x01\x00" if password != b"wrong" else b"\x01\x01")
        *_, kind = await reader.readexactly(4)
        length = {1: 4, 4: 16}.get(kind) or (await reader.readexactly(1))[0]
        host = await reader.readexactly(length)
        (port,) = struct.unpack("!H", await reader.readexactly(2))
        self.seen.append((at, host, port, login))
        writer.write(b"\x05\x00\x00\x01" + bytes(6))
        await self._joined(reader, writer)

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, before = await asyncio.open_connection("127.0.0.1", self.port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            try:
                while data := await source.read(65536):
                    sink.write(data)
            finally:
                sink.close()

        try:
            await asyncio.gather(pump(reader, before), pump(behind, writer))
        finally:
            before.close()


def kubeconfig(**entries: Any) -> dict[str, Any]:
    """One with the context `x` of a cluster and a user, as far as they are given."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": entries["cluster"]}] if "cluster" in entries else [],
        "users": [{"name": "u", "user": entries["user"]}] if "user" in entries else [],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }


async def _request(reader: asyncio.StreamReader) -> tuple[str, list[tuple[str, str]]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    headers = [line.split(": ", 1) for line in lines]
    noted = [
        (name.lower(), value)
        for name, value in headers
        if name.lower() in SEEN or name.lower().startswith("impersonate-")
    ]
    return re.sub(r"\?timeout=\d+s ", " ", first), sorted(noted)


def _weak(folder: Path) -> TlsConfig:
    """A certificate with a key of 1024 bits."""
    own = TlsConfig(cert_file=folder / "weak.pem", key_file=folder / "weak.key")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=weak"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(own.key_file)]
    subprocess.run([*command, "-out", str(own.cert_file)], check=True, capture_output=True)
    return own


def _filled(text: str, values: Mapping[str, str]) -> str:
    return string.Template(text).safe_substitute(values)


def _data(file: Path | None) -> str:
    assert file is not None
    return base64.b64encode(file.read_bytes()).decode()


def _pair(own: TlsConfig) -> str:
    """What a plugin issues, within a text of JSON."""
    assert own.cert_file is not None
    assert own.key_file is not None
    pair = {
        "clientCertificateData": own.cert_file.read_text(),
        "clientKeyData": own.key_file.read_text(),
    }
    return json.dumps(json.dumps(pair))[1:-1]


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_empty(each) for name, each in value.items() if each is not None}
    return value
