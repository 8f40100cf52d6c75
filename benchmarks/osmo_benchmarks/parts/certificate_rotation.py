"""Certificates that are replaced under connected clients: who notices, when, and what is lost.

python -m osmo_benchmarks.parts.certificate_rotation [--clients N] [--scheme wss|grpcs ...]

An operator as a process, which lets in by certificates alone, and clients that report all the time,
each with a certificate of its own. First the operator's new certificate is broken, then it is good,
and at last all clients are given new ones. What the queue holds must be what was sent, each once.
"""

import argparse
import asyncio
import json
import re
import socket
import ssl
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from osmo_benchmarks.parts.certificates import Authority
from osmo_benchmarks.parts.common import Stopwatch, program
from osmo_transport import Client, ClientConfig, QueueConfig, connect, open_queue
from osmo_transport.testing import make_message
from osmo_transport.testing.redis_server import RedisServer

PATIENCE = 60.0
PAUSE = 0.05
"""Seconds between two reports of a client."""

SETTLED = 2.0
"""Seconds of reports between two steps."""


async def until(condition: Callable[[], Awaitable[bool]]) -> float:
    """The seconds until it is so."""
    watch = Stopwatch()
    while not await condition():
        if watch.seconds() > PATIENCE:
            raise RuntimeError(f"not so after {PATIENCE} s")
        await asyncio.sleep(0.01)
    return watch.seconds()


class Operator:
    """The one that is measured, seen from outside."""

    def __init__(self, url: str, operations: str, ca_file: Path) -> None:
        self.url = url
        self._operations = operations
        self._context = ssl.create_default_context(cafile=ca_file)
        self._context.set_alpn_protocols(["h2"] if url.startswith("grpcs") else ["http/1.1"])

    async def shows(self) -> bytes:
        """The certificate that a new handshake gets, in DER."""
        return await asyncio.to_thread(self._shaken)

    async def figure(self, name: str, file: Path) -> float:
        """Of that file."""
        text = (await self._get("/metrics")).decode()
        found = re.search(rf'^{name}{{file="{re.escape(str(file))}"}} (\S+)$', text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    async def is_ready(self) -> bool:
        """What it says of itself."""
        return bool(json.loads(await self._get("/readyz"))["ready"])

    def _shaken(self) -> bytes:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        with (
            socket.create_connection((parts.hostname, parts.port or 0), PATIENCE) as plain,
            self._context.wrap_socket(plain, server_hostname=parts.hostname) as secure,
        ):
            return secure.getpeercert(binary_form=True) or b""

    async def _get(self, path: str) -> bytes:
        def get() -> bytes:
            with urllib.request.urlopen(f"{self._operations}{path}", timeout=PATIENCE) as answer:
                content: bytes = answer.read()
            return content

        return await asyncio.to_thread(get)


class Fleet:
    """The clients, which report all the time."""

    def __init__(self, authority: Authority, count: int) -> None:
        self._authority = authority
        self._names = [f"backend-{number}" for number in range(count)]
        self._clients: list[Client] = []
        self.sent = 0

    async def connect(self, url: str, stack: AsyncExitStack) -> None:
        """Each with a certificate of its own."""
        for name in self._names:
            config = ClientConfig(tls=self._authority.write(name))
            opened = connect(url, backend=name, config=config)
            self._clients.append(await stack.enter_async_context(opened))
        for client in self._clients:
            await client.epoch_after(0)

    async def report(self, stop: asyncio.Event) -> None:
        """Until then, and until all is acknowledged."""
        while not stop.is_set():
            for client in self._clients:
                await client.send(make_message(f"report-{self.sent}"))
                self.sent += 1
            await asyncio.sleep(PAUSE)
        for client in self._clients:
            await client.flush()

    def renew(self) -> None:
        """Give each a new certificate."""
        for name in self._names:
            self._authority.write(name)

    async def is_renewed(self) -> bool:
        """Whether each has connected again."""
        return all(client.stats.connects == 2 for client in self._clients)

    @property
    def reconnects(self) -> int:
        """Connections but for the first of each."""
        return sum(client.stats.connects - 1 for client in self._clients)


async def measure(scheme: str, count: int) -> None:
    """All steps over one transport, and a line for each."""
    with TemporaryDirectory() as folder, RedisServer() as redis:
        authority = Authority(Path(folder))
        own = authority.write("operator")
        arguments = ["--listen", f"{scheme}://127.0.0.1:0", "--queue", redis.url]
        arguments += ["--operations", "127.0.0.1:0", "--auth", "mtls"]
        arguments += ["--server-tls-ca-file", str(own.ca_file)]
        arguments += ["--server-tls-cert-file", str(own.cert_file)]
        arguments += ["--server-tls-key-file", str(own.key_file)]
        with program("osmo_operator", *arguments) as process:
            assert process.stdout is not None
            operations, url = (process.stdout.readline().split()[-1] for _ in range(2))
            operator = Operator(url, operations, authority.file)
            fleet, stop = Fleet(authority, count), asyncio.Event()
            async with AsyncExitStack() as stack:
                await fleet.connect(url, stack)
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(fleet.report(stop))
                    assert own.cert_file is not None
                    await rotate_operator(authority, operator, own.cert_file)
                    print(f"  connections lost: {fleet.reconnects}")
                    fleet.renew()
                    renewed = await until(fleet.is_renewed)
                    print(f"  all clients show new certificates after {renewed:.1f} s")
                    await asyncio.sleep(SETTLED)
                    stop.set()
                print(f"  connections made again: {fleet.reconnects}")
        async with await open_queue(redis.url, QueueConfig()) as queue:
            stored = sum((await queue.status()).waiting.values())
    print(f"  {fleet.sent} reports sent, {stored} stored")
    if stored != fleet.sent:
        raise RuntimeError("the ledger does not balance")


async def rotate_operator(authority: Authority, operator: Operator, file: Path) -> None:
    """First a broken certificate, then a good one."""

    async def is_told() -> bool:
        return await operator.figure("osmo_file_unusable", file) == 1.0

    async def is_shown() -> bool:
        return await operator.shows() != before

    await asyncio.sleep(SETTLED)
    before = await operator.shows()
    authority.spoil(file)
    told = await until(is_told)
    count = await operator.figure("osmo_file_reload_failures_total", file)
    print(f"  a broken certificate is told of after {told:.1f} s and counted {count:.0f} times")
    kept, ready = await operator.shows() == before, await operator.is_ready()
    print(f"  handshakes get the one before: {kept}; the operator is ready: {ready}")
    authority.write("operator")
    shown = await until(is_shown)
    print(f"  a new certificate is shown after {shown:.2f} s")
    await asyncio.sleep(SETTLED)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--scheme", nargs="*", default=["wss", "grpcs"], choices=["wss", "grpcs"])
    options = parser.parse_args()
    for each in options.scheme:
        print(f"{each}, {options.clients} clients")
        asyncio.run(measure(each, options.clients))
