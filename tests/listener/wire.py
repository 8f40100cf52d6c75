"""A server that sends exactly the bytes a test wants, for what no honest server does."""

import asyncio
import contextlib
import json
import re
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from osmo_listener.informer.source import Event
from osmo_listener.kubernetes.config import ListWatchConfig, Resource
from osmo_listener.kubernetes.connecting import Endpoint
from osmo_listener.kubernetes.credentials import Credentials
from osmo_listener.kubernetes.listwatch import ListWatch
from osmo_listener.listeners.objects import Pod
from tests.helpers import stop_listening

PATH = "/api/v1/namespaces/osmo/pods"

Respond = Callable[["Exchange"], Awaitable[None]]


class Exchange:
    """One request, and the connection to answer it on."""

    def __init__(
        self, head: bytes, body: bytes, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        self.target = head.split(b" ")[1].decode()
        self.head = head.decode()
        self.body = body
        self.connection = connection
        """How many connections were made before this one."""
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def cut(self) -> None:
        """End the connection."""
        self._writer.close()

    def reset(self) -> None:
        """Break the connection."""
        self._writer.transport.abort()


class Wire:
    """The running server: where it is, and what it was asked."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.targets: list[str] = []
        self.connections = 0
        self.open = 0

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(host="127.0.0.1", port=self.port)

    def credentials(self) -> Credentials:
        """Plain HTTP, nobody in particular."""
        return Credentials(endpoint=self.endpoint, secure=False)


@contextlib.asynccontextmanager
async def serve(respond: Respond, tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """Answer every request with `respond`."""
    wire = Wire(0)
    handlers: dict[asyncio.StreamWriter, asyncio.Task[object] | None] = {}

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers[writer] = asyncio.current_task()
        number, wire.connections = wire.connections, wire.connections + 1
        wire.open += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"content-length: *(\d+)", head.lower())
                body = await reader.readexactly(int(length[1]) if length else 0)
                exchange = Exchange(head, body, writer, number)
                wire.targets.append(exchange.target)
                await respond(exchange)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            wire.open -= 1
            del handlers[writer]
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        await stop_listening(server)
        remaining = [task for task in handlers.values() if task is not None]
        for writer in handlers:
            writer.transport.abort()
        await asyncio.gather(*remaining, return_exceptions=True)
        await server.wait_closed()


def plain(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    """A whole answer with a length."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def pod(name: str, version: int, phase: str = "Running") -> dict[str, Any]:
    """A pod as the API server writes it."""
    return {
        "metadata": {
            "name": name,
            "namespace": "osmo",
            "uid": f"uid-{name}",
            "resourceVersion": str(version),
        },
        "status": {"phase": phase, "message": "grün ✓ 🚀"},
    }


def event(kind: str, item: object) -> bytes:
    """A line of a watch, with its characters unescaped."""
    return json.dumps({"type": kind, "object": item}, ensure_ascii=False).encode() + b"\n"


def bookmark(version: int, **annotations: str) -> bytes:
    """A bookmark as the API server writes it: with nulls where a pod has lists."""
    metadata = {"resourceVersion": str(version), "annotations": annotations}
    empty = {"kind": "Pod", "metadata": metadata, "spec": {"containers": None}, "status": {}}
    return event("BOOKMARK", empty)


def status(code: int, reason: str, message: str = "", **details: object) -> dict[str, Any]:
    """A `Status` object."""
    text = message or reason
    head = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return head | {"code": code, "reason": reason, "message": text, "details": details}


def pod_list(version: int, pods: list[dict[str, Any]], more: str = "") -> bytes:
    """A page of a list."""
    metadata = {"resourceVersion": str(version), "continue": more}
    return json.dumps({"kind": "PodList", "metadata": metadata, "items": pods}).encode()


def make_certificate(folder: Path, name: str, subject: str) -> tuple[Path, Path]:
    """A self-signed certificate for `subject` (`IP:…` or `DNS:…`) and its key, as PEM files."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext"]
    command += [f"subjectAltName={subject}", "-out", str(certificate), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def list_watch(
    server: Wire,
    config: ListWatchConfig | None = None,
    *,
    label_selector: str = "",
    field_selector: str = "",
) -> ListWatch[Pod]:
    """A source of the pods of namespace `osmo`."""
    resource = Resource(
        path=PATH, type=Pod, label_selector=label_selector, field_selector=field_selector
    )
    return ListWatch(server.credentials(), resource, config, draw=lambda: 0.5)


def query(target: str) -> dict[str, str]:
    """The parameters of a request."""
    return {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}


async def pages(source: ListWatch[Pod]) -> list[tuple[list[str], int | None]]:
    """A list: the names on each page, and its version."""
    return [
        ([pod.metadata.name for pod in page.objects], page.version) async for page in source.list()
    ]


async def events(source: ListWatch[Pod], version: int, into: list[Event[Pod]]) -> None:
    """Collect the events of a watch until it ends."""
    async for batch in source.watch(version):
        into += batch


def refusal(code: int, reason: str, message: str = "", headers: str = "") -> bytes:
    """A whole answer with an error."""
    body = json.dumps(status(code, reason, message)).encode()
    return plain(body, f"{code} {reason}", headers)


async def paged(exchange: Exchange) -> None:
    """Three pages: a small one, and two more."""
    more = query(exchange.target).get("continue", "")
    answers = {
        "": pod_list(9, [pod("a", 1)], "1"),
        "1": pod_list(9, [pod("b", 2), pod("c", 3)], "2"),
        "2": pod_list(9, [pod("d", 4)]),
    }
    await exchange.send(plain(answers[more]))
