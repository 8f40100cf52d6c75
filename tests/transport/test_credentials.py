"""Who is let in by his credential, over every transport: and what becomes of those who are not."""

import asyncio
import hashlib
import logging
import os
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from osmo_transport import (
    Authenticator,
    BackoffConfig,
    Client,
    ClientConfig,
    ConnectionLostError,
    CredentialExpiredError,
    CredentialRefusedError,
    Identity,
    Presented,
    Server,
    ServerConfig,
    SessionConfig,
    TlsConfig,
    TokenConfig,
    Transport,
    UsageError,
    _token,
    connect,
    listen,
    transport_for,
)
from osmo_transport._token import COMMAND_INTERVAL, TokenSource
from osmo_transport.credentials import MAX_TOKEN, token_of
from osmo_transport.frames import PROTOCOL, Goodbye, GoodbyeCode, Hello, Limits
from osmo_transport.testing import make_message
from osmo_transport.testing.contracts.transport_suite import Recorder
from osmo_transport.transports.abc import ConnectionConfig
from osmo_transport.transports.websocket.transport import WebSocketTransport
from tests.helpers import eventually
from tests.transport.certificates import Authority
from tests.transport.engines import ENGINES

WAYS = {"memory": None, **{f"ws, {name}": name for name in ENGINES}, "grpc": None}
QUICK = BackoffConfig(base=0.01, maximum=0.05)
SERVER = ServerConfig(session=SessionConfig(heartbeat_interval=0.2))


class Known(Authenticator):
    """Tokens as they are written down, and certificates by their hash."""

    kind = "known"

    def __init__(self, **tokens: Identity) -> None:
        self.tokens = tokens
        self.certificates: dict[str, Identity] = {}
        self.version = 0

    @property
    def generation(self) -> object:
        return self.version

    async def identify(self, presented: Presented) -> Identity | None:
        if presented.certificate:
            return self.certificates.get(hashlib.sha256(presented.certificate).hexdigest())
        if not presented.token:
            return None
        found = self.tokens.get(presented.token)
        if found is None:
            raise CredentialRefusedError("no such token")
        return found


@pytest.fixture(params=WAYS)
def transport(request: pytest.FixtureRequest) -> tuple[str, Transport]:
    """The start of a URL, and what serves it."""
    scheme = request.param.partition(",")[0]
    engine = WAYS[request.param]
    if engine is not None:
        return "ws://127.0.0.1:0", WebSocketTransport(ENGINES[engine])
    url = "memory://" if scheme == "memory" else f"{scheme}://127.0.0.1:0"
    return url, transport_for(url)


class World:
    """A server that asks for credentials, and its clients."""

    def __init__(self, server: Server, transport: Transport, known: Known) -> None:
        self.server = server
        self.known = known
        self._transport = transport

    def client(
        self, token: Path | None, backend: str = "a", source: str = "client"
    ) -> AbstractAsyncContextManager[Client]:
        config = ClientConfig(
            backoff=QUICK, drain_timeout=0.0, token=TokenConfig(file=token), takes_over=True
        )
        return connect(
            self.server.url,
            backend=backend,
            source=source,
            config=config,
            transport=self._transport,
        )

    async def raw(self, hello: Hello, token: str) -> Recorder:
        """Somebody who says hello by himself; what he is answered."""
        recorder = Recorder()
        config = ConnectionConfig(
            limits=Limits(), tls=TlsConfig(), open_timeout=5.0, max_connections=1, token=token
        )
        connection = await self._transport.dial(self.server.url, recorder, config)
        connection.send(hello)
        await eventually(lambda: recorder.frames)
        connection.close()
        await connection.wait_closed()
        return recorder


@pytest.fixture
async def world(transport: tuple[str, Transport]) -> AsyncIterator[World]:
    """A world in which `good` may report for a, and `other` for b."""
    url, served = transport
    known = Known(good=Identity("known good", ("a",)), other=Identity("known other", ("b",)))
    async with listen(url, config=SERVER, authenticator=known, transport=served) as server:
        yield World(server, served, known)


def written(folder: Path, token: str) -> Path:
    """A file with a token."""
    path = folder / f"token-{token[:8]}"
    path.write_text(f"{token}\n")
    return path


@asynccontextmanager
async def reporting(world: World, token: Path) -> AsyncIterator[Client]:
    """A client that reports, and has to stay unharmed."""
    async with world.client(token) as client:
        epoch = await client.epoch_after(0)
        yield client
        await client.send(make_message("still here"))
        (incoming,) = await world.server.receive()
        assert incoming.producer.backend == "a"
        incoming.acknowledge()
        await client.flush()
        assert (client.epoch, client.stats.connects) == (epoch, 1)


def told(caplog: pytest.LogCaptureFixture, reason: str) -> list[str]:
    """What a server's log says of a reason; a client's tells with it what was lost at most, and
    leaves the rest to whoever gets the error."""
    found = [r for r in caplog.records if reason in r.getMessage() and r.levelno >= logging.INFO]
    clients = [r.getMessage() for r in found if r.name == "osmo_transport.client"]
    assert all("was not delivered" in line for line in clients)
    return [r.getMessage() for r in found if r.name == "osmo_transport.server"]


async def test_who_may_report_does(world: World, tmp_path: Path) -> None:
    """What he presents names him in the log, and nothing else is asked."""
    async with reporting(world, written(tmp_path, "good")):
        pass


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "presented no credential"),
        ("bad", "no such token"),
        ("other", "known other may not report for a"),
    ],
)
async def test_who_may_not_changes_nothing(
    world: World, tmp_path: Path, token: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    """He is told why and ends, in one line of the log; who reports as the same producer stays,
    nothing arrives."""
    caplog.set_level(logging.INFO)
    async with reporting(world, written(tmp_path, "good")):
        presented = written(tmp_path, token) if token else None
        async with world.client(presented) as stranger:
            await_end = stranger.flush()
            await stranger.send(make_message("stolen"))
            with pytest.raises(CredentialRefusedError, match=reason):
                await await_end
        assert world.server.arrived() == []
        stats = world.server.stats
        assert (stats.refused["denied"], stats.fenced) == (1, 0)
    (line,) = told(caplog, reason)
    assert "a/client" in line
    assert not token or token not in line or token == "other"


async def test_nobody_replaces_another_by_knowing_his_instance(
    world: World, tmp_path: Path
) -> None:
    """A connection of the same process takes the place of the one before, so whose it is has to be
    known first."""
    async with reporting(world, written(tmp_path, "good")) as client:
        instance = client._session.instance
        hello = Hello(PROTOCOL, "a", "client", instance, "", 0, 0, Limits())
        answered = await world.raw(hello, "other")
        (goodbye,) = answered.frames
        assert isinstance(goodbye, Goodbye)
        assert goodbye.code is GoodbyeCode.DENIED


async def test_a_newer_token_is_presented_in_place(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as it is in the file, and the old one may then be revoked."""
    monkeypatch.setattr(_token, "LOOK_INTERVAL", 0.01)
    path = written(tmp_path, "good")
    async with reporting(world, path):
        world.known.tokens["newer"] = Identity("known newer", ("a",))
        path.write_text("newer")
        (peer,) = world.server._hub.peers
        await eventually(lambda: peer.presented.token == "newer")
        del world.known.tokens["good"]
        world.known.version += 1
        gate = world.server._hub._gate
        assert gate is not None
        world.server._hub.tick()
        await eventually(lambda: gate._checking is not None and gate._checking.done())


async def test_whoever_is_revoked_is_out(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And is told so, and ends; he is named, in one line of the log."""
    caplog.set_level(logging.INFO)
    async with world.client(written(tmp_path, "good")) as client:
        await client.epoch_after(0)
        del world.known.tokens["good"]
        world.known.version += 1
        world.server._hub.tick()
        with pytest.raises(CredentialRefusedError, match="known good may report no more: no such"):
            await client.epoch_after(client.epoch)
    assert len(told(caplog, "no such token")) == 1


async def test_an_expired_token_is_replaced_when_there_is_another(
    world: World, tmp_path: Path
) -> None:
    """The client comes again with what is in its file by then, and nothing is lost."""
    world.known.tokens["old"] = Identity("known old", ("a",), 1.0)
    path = written(tmp_path, "old")
    async with world.client(path) as client:
        await client.send(make_message("kept"))
        await eventually(lambda: world.server.stats.refused["expired"] >= 1)
        path.write_text("good")
        (incoming,) = await world.server.receive()
        incoming.acknowledge()
        await client.flush()


@pytest.mark.parametrize("way", [*(f"wss, {name}" for name in ENGINES), "grpcs"])
async def test_a_certificate_is_presented_as_it_is(
    way: str, trusted: Authority, tmp_path: Path
) -> None:
    """The one that the client proved to have, in DER."""
    scheme, _, engine = way.partition(", ")
    served = WebSocketTransport(ENGINES[engine]) if engine else transport_for("grpcs://")
    mine = trusted.signed("client")
    assert mine.cert_file is not None
    der = ssl.PEM_cert_to_DER_cert(mine.cert_file.read_text())
    known = Known()
    known.certificates[hashlib.sha256(der).hexdigest()] = Identity("known certificate", ("a",))
    tls = replace(trusted.signed("server"), ca_file=trusted.ca_file)
    url, config = f"{scheme}://127.0.0.1:0", replace(SERVER, tls=tls)
    async with listen(url, config=config, authenticator=known, transport=served) as server:
        for backend, fits in (("a", True), ("b", False)):
            client_config = ClientConfig(
                backoff=QUICK, drain_timeout=0.0, tls=replace(mine, ca_file=trusted.ca_file)
            )
            async with connect(
                server.url, backend=backend, config=client_config, transport=served
            ) as client:
                if fits:
                    assert await client.epoch_after(0)
                else:
                    with pytest.raises(CredentialRefusedError, match="may not report for b"):
                        await client.epoch_after(0)


async def test_a_token_is_not_sent_in_the_clear() -> None:
    """To another machine; to this one it may be."""
    token = TokenConfig(command="echo x")
    for url in ("ws://operator.example:1", "grpc://192.0.2.1:1", "ws://[2001:db8::1]:1"):
        with pytest.raises(UsageError, match=r"read the token.*token\.insecure"):
            async with connect(url, backend="a", config=ClientConfig(token=token)):
                pass
        insecure = replace(token, insecure=True)
        config = ClientConfig(token=insecure, drain_timeout=0.0)
        async with connect(url, backend="a", config=config):
            pass
    for url in ("ws://127.0.0.1:1", "grpc://localhost:1", "ws://[::1]:1", "memory://x"):
        config = ClientConfig(token=token, drain_timeout=0.0)
        async with connect(url, backend="a", config=config):
            pass


@pytest.mark.parametrize(
    ("content", "error", "text"),
    [
        (b"", ConnectionLostError, "there is no token in"),
        (b" \n", ConnectionLostError, "there is no token in"),
        (b"two words", UsageError, "more than one printable word"),
        (b"a\r\nInjected: b", UsageError, "more than one printable word"),
        (b"\xff\xfe", UsageError, "more than one printable word"),
        (b"x" * (MAX_TOKEN + 1), UsageError, "longer than"),
        (b"x" * (MAX_TOKEN + 9), UsageError, "more than"),
    ],
)
async def test_what_is_no_token_is_named_and_not_shown(
    tmp_path: Path, content: bytes, error: type[Exception], text: str
) -> None:
    """By its file."""
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(error, match=text) as caught:
        await TokenSource(TokenConfig(file=path)).token()
    assert str(path) in str(caught.value)
    assert "Injected" not in str(caught.value)


async def test_a_file_that_is_not_there_yet_may_come(tmp_path: Path) -> None:
    """Whoever mounts it may be late."""
    source = TokenSource(TokenConfig(file=tmp_path / "token"))
    with pytest.raises(ConnectionLostError, match=r"the token file .* cannot be used"):
        await source.token()
    (tmp_path / "token").write_text(" here \n")
    assert await source.token() == "here"
    for later in ("", "not here"):
        (tmp_path / "token").write_text(later)
        assert await source.token() == "here"


class Wall:
    """Seconds since the Unix epoch, moved by hand."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


async def test_a_command_is_run_again_before_its_token_ends(tmp_path: Path) -> None:
    """At four fifths of its time if the token says when it ends, else every five minutes."""
    jwt = "e30.eyJleHAiOiAyMDAwfQ.x"  # {"exp": 2000}
    counts = tmp_path / "counts"
    script = tmp_path / "give.py"
    script.write_text(
        f"open({str(counts)!r}, 'a').write('.')\nprint(open({str(tmp_path / 'token')!r}).read())\n"
    )
    wall = Wall()
    source = TokenSource(TokenConfig(command=f"{sys.executable} {script}"), wall)
    for token, lasts in ((jwt, 800.0), ("opaque", COMMAND_INTERVAL)):
        (tmp_path / "token").write_text(token)
        runs = len(counts.read_text()) if counts.exists() else 0
        assert await source.token() == token
        wall.now += lasts - 1.0
        assert await source.token() == token
        assert len(counts.read_text()) == runs + 1
        wall.now += 1.0


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("import sys; sys.exit('no\\x1b[31m login')", r"failed with 1: no\\x1b\[31m login"),
        ("pass", "there is no token in"),
        ("import time; time.sleep(60)", "gave no token within"),
    ],
)
async def test_a_command_that_fails_is_named(
    code: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what it says, made harmless; and it is tried again."""
    if "sleep" in code:
        monkeypatch.setattr(_token, "COMMAND_TIMEOUT", 0.3)
    script = tmp_path / "give.py"
    script.write_text(code)
    source = TokenSource(TokenConfig(command=f"{sys.executable} {script}"))
    with pytest.raises(ConnectionLostError, match=text):
        await source.token()


async def test_a_command_that_is_not_there_is_named() -> None:
    """It may be installed later."""
    with pytest.raises(ConnectionLostError, match=r"token command.*no-such-command"):
        await TokenSource(TokenConfig(command="no-such-command")).token()


async def test_a_command_that_is_given_up_leaves_no_process(tmp_path: Path) -> None:
    """Nor the ones that it has started."""
    pid = tmp_path / "pid"
    source = TokenSource(TokenConfig(command=f"sh -c 'echo $$ > {pid}; sleep 60'"))
    asking = asyncio.create_task(source.token())
    await eventually(lambda: pid.exists() and pid.read_text().strip())
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


async def test_a_command_that_is_given_up_while_it_starts_leaves_no_process() -> None:
    """Whose children would keep the pipes open, and the caller waiting for their end."""
    for steps in range(10):
        source = TokenSource(TokenConfig(command="sh -c 'sleep 60 & sleep 60'"))
        asking = asyncio.create_task(source.token())
        for _ in range(steps):
            await asyncio.sleep(0)
        asking.cancel()
        async with asyncio.timeout(10):
            with pytest.raises(asyncio.CancelledError):
                await asking


def test_one_source_is_enough(tmp_path: Path) -> None:
    """And a command has to be one."""
    with pytest.raises(ValueError, match="one of them is enough"):
        TokenConfig(file=tmp_path / "token", command="give")
    with pytest.raises(ValueError, match="cannot be read"):
        TokenConfig(command="give 'half")


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Basic abc", ""),
        ("Bearer", ""),
        ("", ""),
        ("Bearerabc", ""),
    ],
)
def test_the_token_of_a_header(header: str, token: str) -> None:
    """As RFC 6750 writes it, and RFC 7235 its scheme."""
    assert token_of(header) == token


async def test_an_expired_credential_is_an_error_of_its_own(world: World, tmp_path: Path) -> None:
    """Which may be mended by waiting."""
    hello = Hello(PROTOCOL, "a", "client", "i", "", 0, 0, Limits())
    world.known.tokens["old"] = Identity("known old", ("a",), 1.0)
    (goodbye,) = (await world.raw(hello, "old")).frames
    assert isinstance(goodbye, Goodbye)
    assert goodbye.code is GoodbyeCode.EXPIRED
    assert issubclass(CredentialExpiredError, CredentialRefusedError)
