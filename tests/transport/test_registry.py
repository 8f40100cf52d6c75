"""From a URL to an implementation, and what is said when there is none."""

import json
import subprocess
import sys
from collections.abc import Mapping
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
from osmo_transport.testing.kinds import STATE
from osmo_transport.transports.websocket import over_picows, over_websockets
from tests.transport.engines import engine_of, picows_is_bounded
from tests.transport.third_party import install


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
    with pytest.raises(UnknownSchemeError, match=r"'carrier'.*grpcs://.*ws://"):
        transport_for("carrier://pigeon")
    with pytest.raises(UnknownSchemeError, match=r"'127\.0\.0\.1:8001' has no scheme: .* ws://"):
        transport_for("127.0.0.1:8001")


async def test_an_unknown_queue_is_refused_with_what_is_known() -> None:
    """The text names the schemes that there are."""
    with pytest.raises(UnknownSchemeError, match=r"queues .*'kafka'.* memory://.*redis://"):
        await open_queue("kafka://localhost")
    with pytest.raises(UnknownSchemeError, match=r"'memory' has no scheme: .* memory://"):
        await open_queue("memory")


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
    ("missing", "url", "extra"),
    [
        (["picows", "websockets"], "ws://127.0.0.1:0", "websocket"),
        (["picows", "websockets"], "wss://127.0.0.1:0", "websocket"),
        (["aiohappyeyeballs"], "ws://127.0.0.1:0", "websocket"),
        (["grpc"], "grpc://127.0.0.1:0", "grpc"),
        (["google.protobuf"], "grpcs://127.0.0.1:0", "grpc"),
    ],
)
def test_a_missing_extra_is_named(missing: list[str], url: str, extra: str) -> None:
    """With the command that installs it."""
    said = run_python(
        f"import sys\nsys.modules.update(dict.fromkeys({missing!r}))\n"
        "from osmo_transport import MissingExtraError, transport_for\n"
        f"try: transport_for({url!r})\n"
        "except MissingExtraError as exc: print(exc)"
    )
    assert f"pip install 'osmo-pipeline[{extra}]'" in said
    assert missing[-1].partition(".")[0] in said


@pytest.mark.parametrize(
    ("missing", "engine"),
    [
        ("picows", "over_websockets"),
        pytest.param("picows.common", "over_websockets", marks=picows_is_bounded),
        pytest.param("websockets", "over_picows", marks=picows_is_bounded),
        pytest.param("none", "over_picows", marks=picows_is_bounded),
    ],
)
def test_one_engine_of_websockets_is_enough(missing: str, engine: str) -> None:
    """The faster one is taken where both are installed; a link over it works."""
    said = run_python(
        f"import asyncio, sys\nsys.modules[{missing!r}] = None\n"
        "from osmo_transport import connect, listen\n"
        "from osmo_transport.testing import make_message\n"
        "async def main():\n"
        "    async with listen('ws://127.0.0.1:0') as server:\n"
        "        async with connect(server.url, backend='b') as client:\n"
        "            await client.send(make_message('it works'))\n"
        "            (incoming,) = await server.receive()\n"
        "            print(incoming.messages[0].key)\n"
        "            incoming.acknowledge()\n"
        "asyncio.run(main())\n"
        "print([name for name in sys.modules if '.websocket.over_' in name])"
    )
    assert said == f"it works\n['osmo_transport.transports.websocket.{engine}']\n"


@picows_is_bounded
@pytest.mark.parametrize("made", ["WSProtocol", "_Accepted"])
def test_a_picows_that_is_made_otherwise_is_not_used(
    made: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A newer release may be; that is told, and everything works without it."""
    assert over_picows.fits()
    monkeypatch.setattr(over_picows, made, lambda one, two: None)
    assert engine_of(transport_for("ws://")) is over_websockets
    assert "this version of picows is not known here" in caplog.text


@picows_is_bounded
def test_a_picows_that_reads_otherwise_is_not_used() -> None:
    """As if it had no buffer of its own, of which we take a part."""
    said = run_python(
        "import sys\nfrom picows import picows\n"
        "used = dict.fromkeys(('listener', 'wait_until_handshake_complete'))\n"
        "picows.WSProtocol = type('WSProtocol', (), used)\n"
        "from osmo_transport import transport_for\n"
        "transport_for('ws://')\n"
        "print('osmo_transport.transports.websocket.over_websockets' in sys.modules)"
    )
    assert said == "True\n"


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
        "optional = {'aiohappyeyeballs', 'picows', 'websockets', 'grpc', 'google.protobuf'}\n"
        "print((optional | {'redis', 'pytest'}) & set(sys.modules))",
    )
    assert said == "set()\n"


@pytest.fixture
def third_party(tmp_path: Path) -> Path:
    """A folder that holds an installed distribution of somebody else's."""
    install(tmp_path)
    return tmp_path


def test_what_is_imported_late_is_listed_at_once() -> None:
    """As shells complete it."""
    said = run_python(
        "import osmo_transport\nprint({*osmo_transport.__all__} - {*dir(osmo_transport)})"
    )
    assert said == "set()\n"


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
        "            print(server.url, incoming.messages[0].key)\n"
        "            incoming.acknowledge()\n"
        "    async with await open_queue('third://there') as queue:\n"
        "        print((await queue.status()).dead)\n"
        "    try: transport_for('none://')\n"
        "    except Exception as exc: print(exc)\n"
        "asyncio.run(main())\n",
        third_party,
    )
    assert "third://here it works\n0\n" in said
    assert "third://, also://" in said


def test_a_third_party_does_not_take_the_place_of_ours(third_party: Path) -> None:
    """Whatever scheme it names: ours are found first."""
    said = run_python(
        "from osmo_transport import transport_for\n"
        "print(type(transport_for('ws://')).__name__, type(transport_for('third://')).__name__)\n",
        third_party,
    )
    assert said == "WebSocketTransport Renamed\n"


def test_an_implementation_of_several_schemes_is_one(third_party: Path) -> None:
    """For whoever goes through all of them, as the pytest plugin does: by its first scheme."""
    said = run_python(
        "import json\n"
        "from osmo_transport.registry import TRANSPORTS, implementations, schemes\n"
        "print(json.dumps([schemes(TRANSPORTS), implementations(TRANSPORTS)]))\n",
        third_party,
    )
    schemes, implementations = json.loads(said)
    assert schemes[-2:] == ["third", "also"]
    assert set(schemes[:-2]) == {"memory", "ws", "wss", "grpc", "grpcs"}
    assert implementations[-1] == "third"
    assert set(implementations[:-1]) == {"memory", "ws", "grpc"}


@pytest.mark.parametrize("missing", ["pigeons", "osmo_transport.pigeons"])
def test_what_a_third_party_misses_is_its_own_matter(tmp_path: Path, missing: str) -> None:
    """No extra of ours brings it: the error names what is missing, and the scheme."""
    install(tmp_path, "[osmo_transport.transports]\nbroken = broken:open_transport\n")
    (tmp_path / "broken.py").write_text(f"import {missing}\n")
    said = run_python(
        "from osmo_transport import UsageError, transport_for\n"
        "try: transport_for('broken://')\n"
        "except UsageError as exc: print(exc)\n",
        tmp_path,
    )
    assert f"broken:// cannot be loaded: No module named '{missing}'" in said


def test_an_entry_point_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    """A third party's typing mistake is told with the scheme and what the entry point says."""
    install(tmp_path, "[osmo_transport.transports]\nlost = third_party:open_transprot\n")
    said = run_python(
        "from osmo_transport import UsageError, transport_for\n"
        "try: transport_for('lost://')\n"
        "except UsageError as exc: print(exc)\n",
        tmp_path,
    )
    leads = "third_party:open_transprot of third-party leads nowhere"
    assert said.startswith(f"lost:// cannot be loaded: {leads}")


BROKEN = """
class Text:
    pass

def open_raising(*_):
    raise ValueError("no pigeons here")

def open_text(*_):
    return Text()

async def open_late(*_):
    return Text()

async def open_late_raising(*_):
    raise ValueError("no pigeons here")

def open_refusing(*_):
    from osmo_transport import UsageError
    raise UsageError("the URL names no pigeon")

number = 5
"""


FAULTS = {
    "broken:number": "raised TypeError: 'int' object is not callable",
    "broken:open_raising": "raised ValueError: no pigeons here",
    "unreadable:open_it": "raised SyntaxError: ",
    "strange:open_it": "raised RuntimeError: not today",
}
LATE_FAULTS = {
    "broken:open_text": "raised TypeError: ",
    "broken:open_late": "returned Text, which is no Queue",
    "broken:open_late_raising": "raised ValueError: no pigeons here",
}
"""A queue is opened by a coroutine."""
OPENED = {
    "transports": "transport_for(url)",
    "queues": "asyncio.run(open_queue(url))",
    "credentials": "open_authenticator((url.removesuffix('://'),))",
}


@pytest.mark.parametrize(
    ("group", "faults"),
    [
        ("transports", {**FAULTS, "broken:open_text": "returned Text, which is no Transport"}),
        ("queues", {**FAULTS, **LATE_FAULTS}),
        ("credentials", {**FAULTS, "broken:open_text": "returned Text, which is no Authenticator"}),
    ],
)
def test_what_a_third_party_does_wrong_is_told(
    tmp_path: Path, group: str, faults: Mapping[str, str]
) -> None:
    """With the scheme, where the entry point leads, its package, and what is wrong there; errors of
    this library pass as they are."""
    entries = dict(enumerate([*faults, "broken:open_refusing"]))
    named = "".join(f"s{number} = {leads_to}\n" for number, leads_to in entries.items())
    install(tmp_path, f"[osmo_transport.{group}]\n{named}")
    (tmp_path / "broken.py").write_text(BROKEN)
    (tmp_path / "unreadable.py").write_text("def open_it(:\n")
    (tmp_path / "strange.py").write_text("raise RuntimeError('not today')\n")
    *said, refused = run_python(
        "import asyncio\n"
        "from osmo_credentials import open_authenticator\n"
        "from osmo_transport import UsageError, open_queue, transport_for\n"
        f"for url in [f's{{number}}://' for number in range({len(entries)})]:\n"
        f"    try: {OPENED[group]}\n"
        "    except UsageError as exc: print(exc)\n",
        tmp_path,
    ).splitlines()
    assert refused == "the URL names no pigeon"
    for number, (text, (leads_to, why)) in enumerate(zip(said, faults.items(), strict=True)):
        shown = f"s{number}" if group == "credentials" else f"s{number}://"
        start = f"{shown} cannot be loaded: {leads_to} of third-party {why}"
        assert text.startswith(start)


def test_a_message_for_tests_has_defaults_for_everything() -> None:
    """Only what matters to a test has to be said."""
    message = make_message("k", final=True)
    assert (message.key, message.kind, message.final) == ("k", STATE, True)
    assert make_message().id != make_message().id
