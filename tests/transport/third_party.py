"""A distribution of somebody else's, with a transport and a queue, as if it were installed."""

from pathlib import Path

MODULE = '''
"""Memory, under another name."""

from contextlib import contextmanager

from osmo_transport.queues.memory.queue import open_queue as open_memory
from osmo_transport.transports.abc import Endpoint, Transport
from osmo_transport.transports.memory import MemoryTransport


class RenamedEndpoint(Endpoint):
    def __init__(self, inner):
        self.inner = inner

    @property
    def url(self):
        return self.inner.url.replace("memory://", "third://")

    async def aclose(self):
        await self.inner.aclose()


class Renamed(Transport):
    def __init__(self):
        self.inner = MemoryTransport()

    async def dial(self, url, sink, config):
        return await self.inner.dial(url.replace("third://", "memory://"), sink, config)

    async def listen(self, url, accept, config):
        url = url.replace("third://", "memory://")
        return RenamedEndpoint(await self.inner.listen(url, accept, config))


def open_transport():
    return Renamed()


async def open_queue(url, config):
    return await open_memory(url.replace("third://", "memory://"), config)


@contextmanager
def place(name):
    yield f"third://{name}-as-it-wants"
'''

ENTRY_POINTS = """
[osmo_transport.transports]
third = third_party:open_transport
also = third_party:open_transport
ws = third_party:open_transport

[osmo_transport.queues]
third = third_party:open_queue

[osmo_transport.testing]
third = third_party:place
"""


def install(folder: Path, entry_points: str = ENTRY_POINTS) -> None:
    """Let whoever has `folder` in `sys.path` find it."""
    (folder / "third_party.py").write_text(MODULE)
    info = folder / "third_party-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry_points)
