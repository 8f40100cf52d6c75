"""From a URL to an implementation, and what is said when there is none."""

import subprocess
import sys
from pathlib import Path

import pytest

from osmo_transport import (
    AddressInUseError,
    MissingExtraError,
    UnknownSchemeError,
    UsageError,
    listen,
    open_queue,
    transport_for,
)
from osmo_transport.testing import make_message


def run_python(code: str, path: Path | None = None) -> str:
    """The output of some code in a process of its own."""
    prelude = f"import sys; sys.path.insert(0, {str(path)!r})\n" if path else ""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", prelude + code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_unknown_scheme_is_refused_with_what_is_known() -> None:
    """The text names the schemes that there are."""
    with pytest.raises(UnknownSchemeError, match=r"'carrier'.*ws://.*grpcs://"):
        transport_for("carrier://pigeon")
    with pytest.raises(UnknownSchemeError, match=r"127\.0\.0\.1:8001"):
        transport_for("127.0.0.1:8001")


async def test_an_unknown_queue_is_refused_with_what_is_known() -> None:
    """The text names the schemes that there are."""
    with pytest.raises(UnknownSchemeError, match=r"memory://.*redis://"):
        await open_queue("kafka://localhost")


@pytest.mark.parametrize("url", ["ws://[::1", "grpc://[::1"])
async def test_what_is_no_url_is_refused(url: str) -> None:
    """Before anything is imported for it."""
    with pytest.raises(UsageError, match="not a valid URL"):
        transport_for(url)
    with pytest.raises(UsageError, match="not a valid URL"):
        await open_queue(url)


@pytest.mark.parametrize(
    "url",
    [
        "ws://127.0.0.1",
        "ws://127.0.0.1:99999",
        "ws://:8001",
        "grpc://127.0.0.1",
        "grpc://127.0.0.1:x",
        "wss://127.0.0.1:0",
        "grpcs://127.0.0.1:0",
        "ws://no.such.host.invalid:0",
        "grpc://no.such.host.invalid:0",
    ],
)
async def test_an_address_that_cannot_be_listened_at(url: str) -> None:
    """No port, no host, no certificate: the text says what the URL or the configuration needs."""
    with pytest.raises(UsageError):
        async with listen(url):
            pass


@pytest.mark.parametrize("scheme", ["ws", "grpc"])
async def test_a_port_in_use_closes_what_was_opened_before(scheme: str) -> None:
    """Of several URLs none stays open when one cannot be."""
    async with listen(f"{scheme}://127.0.0.1:0") as server:
        with pytest.raises(AddressInUseError, match="choose another"):
            async with listen("memory://once", server.url):
                pass
        async with listen("memory://once"):
            pass


@pytest.mark.parametrize(
    ("module", "url", "extra"),
    [
        ("picows", "ws://127.0.0.1:0", "websocket"),
        ("picows", "wss://127.0.0.1:0", "websocket"),
        ("grpc", "grpc://127.0.0.1:0", "grpc"),
        ("google.protobuf", "grpcs://127.0.0.1:0", "grpc"),
    ],
)
def test_a_missing_extra_is_named(module: str, url: str, extra: str) -> None:
    """With the command that installs it."""
    said = run_python(
        f"import sys\nsys.modules[{module!r}] = None\n"
        "from osmo_transport import MissingExtraError, transport_for\n"
        f"try: transport_for({url!r})\n"
        "except MissingExtraError as exc: print(exc)"
    )
    assert f"pip install 'osmo-pipeline[{extra}]'" in said
    assert module in said


def test_a_missing_extra_of_a_queue_is_named() -> None:
    """With the command that installs it."""
    said = run_python(
        "import asyncio, sys\nsys.modules['redis'] = None\n"
        "from osmo_transport import MissingExtraError, open_queue\n"
        "try: asyncio.run(open_queue('redis://127.0.0.1:1'))\n"
        "except MissingExtraError as exc: print(exc)"
    )
    assert "pip install 'osmo-pipeline[redis]'" in said
    assert issubclass(MissingExtraError, UsageError)


def test_nothing_optional_is_imported_before_it_is_asked_for() -> None:
    """`import osmo_transport` and a link in memory need none of the extras."""
    said = run_python(
        "import asyncio, sys\n"
        "from osmo_transport.testing import make_message, pair\n"
        "async def main():\n"
        "    async with pair() as (client, server):\n"
        "        await client.send(make_message())\n"
        "        (await server.receive())[0].acknowledge()\n"
        "        await client.flush()\n"
        "asyncio.run(main())\n"
        "print({'picows', 'grpc', 'google.protobuf', 'redis', 'pytest'} & set(sys.modules))"
    )
    assert said == "set()\n"


THIRD_PARTY = '''
"""A transport under another name: memory, with a scheme of its own."""

from osmo_transport.transports.abc import Endpoint, Transport
from osmo_transport.transports.memory import MemoryTransport
from osmo_transport.queues import memory


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
    return await memory.open_queue(url.replace("third://", "memory://"), config)
'''


@pytest.fixture
def third_party(tmp_path: Path) -> Path:
    """A folder that holds an installed distribution of somebody else's."""
    (tmp_path / "third_party.py").write_text(THIRD_PARTY)
    info = tmp_path / "third_party-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[osmo_transport.transports]\nthird = third_party:open_transport\n"
        "[osmo_transport.queues]\nthird = third_party:open_queue\n"
    )
    return tmp_path


def test_a_third_party_adds_a_transport_and_a_queue(third_party: Path) -> None:
    """By entry points alone; both then work by their URLs, and are named among the known."""
    said = run_python(
        "import asyncio\n"
        "from osmo_transport import connect, listen, open_queue, transport_for\n"
        "from osmo_transport.testing import make_message\n"
        "async def main():\n"
        "    async with listen('third://here') as server:\n"
        "        async with connect(server.url, backend='b') as client:\n"
        "            await client.send(make_message('it works'))\n"
        "            (incoming,) = await server.receive()\n"
        "            print(server.url, incoming.batch.messages[0].key)\n"
        "            incoming.acknowledge()\n"
        "    async with await open_queue('third://there') as queue:\n"
        "        print((await queue.status()).dead)\n"
        "    try: transport_for('none://')\n"
        "    except Exception as exc: print(exc)\n"
        "asyncio.run(main())\n",
        third_party,
    )
    assert "third://here it works\n0\n" in said
    assert "grpcs://, third://" in said


def test_a_message_for_tests_has_defaults_for_everything() -> None:
    """Only what matters to a test has to be said."""
    message = make_message("k", final=True)
    assert (message.key, message.kind, message.final) == ("k", "update_pod", True)
    assert make_message().id != make_message().id
