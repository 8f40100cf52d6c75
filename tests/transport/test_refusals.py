"""Who is refused, and what both sides say of it: each way to be wrong, over each transport."""

import asyncio
import gc
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import uvloop

from osmo_transport import (
    BackoffConfig,
    CertificateError,
    ClientConfig,
    ServerConfig,
    TlsConfig,
    Transport,
    TransportError,
    WrongServerError,
    connect,
    listen,
    transport_for,
)
from osmo_transport.naming import setting
from osmo_transport.transports import refusals, strangers
from osmo_transport.transports.tls import has_expired, server_context
from osmo_transport.transports.websocket.transport import WebSocketTransport
from tests.helpers import eventually
from tests.transport.certificates import Authority
from tests.transport.engines import ENGINES
from tests.transport.raw import BINARY, raw_peer

WAYS = {**{f"ws {engine}": engine for engine in ENGINES}, "grpc": ""}


class Way(NamedTuple):
    """What carries frames: an engine of WebSockets, or gRPC."""

    engine: str

    @property
    def scheme(self) -> str:
        return "ws" if self.engine else "grpc"

    @property
    def transport(self) -> Transport:
        return WebSocketTransport(ENGINES[self.engine]) if self.engine else transport_for("grpc://")


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    """Each in turn."""
    return Way(WAYS[request.param])


class Certificates(NamedTuple):
    """Of two authorities: of one that is trusted, and of a stranger's."""

    trusted: Authority
    stranger: Authority

    @property
    def server(self) -> TlsConfig:
        return self.trusted.signed("server")

    @property
    def asking(self) -> TlsConfig:
        """A server's that asks for a client's certificate."""
        return self.with_authority(self.server)

    def with_authority(self, own: TlsConfig) -> TlsConfig:
        """These, and trust in the right authority."""
        return TlsConfig(
            ca_file=self.trusted.ca_file, cert_file=own.cert_file, key_file=own.key_file
        )


@pytest.fixture
def certificates(trusted: Authority, stranger: Authority) -> Certificates:
    """All that there are."""
    return Certificates(trusted, stranger)


@dataclass(frozen=True)
class Case:
    """A way for a client to be wrong, or its server."""

    server: Callable[[Certificates], TlsConfig]
    client: Callable[[Certificates], TlsConfig]
    says: str
    """The client, as a pattern."""
    logs: str
    """The server, as a pattern; only what serves WebSockets is told of TLS by its library."""
    ends: type[TransportError] | None = None
    """The client, where no waiting helps."""
    secure: tuple[bool, bool] = (True, True)
    """Whether the server, and the client, speaks TLS."""


CERT = re.escape(setting("client.tls.cert_file"))
CA = setting("server.tls.ca_file")
OWN = f"it does not take the certificate of this server, {setting('server.tls.cert_file')}: "

CASES = {
    "no client certificate": Case(
        lambda c: c.asking,
        lambda c: TlsConfig(ca_file=c.trusted.ca_file),
        f"the server asks for a client certificate: name one in {CERT} and --client-tls-key-file",
        f"it has no certificate, and {CA} asks for one",
        CertificateError,
    ),
    "a client certificate of a stranger's": Case(
        lambda c: c.asking,
        lambda c: c.with_authority(c.stranger.signed("client")),
        f"does not trust the authority of this client's certificate, {CERT}",
        f"its certificate is not good for {CA}: unable to get local issuer certificate",
        CertificateError,
    ),
    "an expired client certificate": Case(
        lambda c: c.asking,
        lambda c: c.with_authority(c.trusted.signed("old", days=-1)),
        f"this client's certificate, {CERT}, has expired; tried again",
        f"its certificate is not good for {CA}: certificate has expired",
    ),
    "an expired server certificate": Case(
        lambda c: c.trusted.signed("old", days=-1),
        lambda c: TlsConfig(ca_file=c.trusted.ca_file),
        "the server's certificate has expired; tried again",
        f"{OWN}certificate expired",
    ),
    "another host's certificate": Case(
        lambda c: c.trusted.signed("elsewhere", names="subjectAltName=DNS:elsewhere.example"),
        lambda c: TlsConfig(ca_file=c.trusted.ca_file),
        "the server's certificate does not name this host",
        f"{OWN}bad certificate",
        CertificateError,
    ),
    "an untrusted authority": Case(
        lambda c: c.server,
        lambda c: TlsConfig(ca_file=c.stranger.ca_file),
        "the server's certificate is not trusted .*: name its authority in --client-tls-ca-file",
        f"{OWN}unknown ca",
        CertificateError,
    ),
    "a plain client": Case(
        lambda c: c.server,
        lambda _: TlsConfig(),
        "a server that speaks TLS answers there: has the URL the right one of",
        "it does not speak TLS: is its URL to begin with wss://?",
        WrongServerError,
        (True, False),
    ),
    "a plain server": Case(
        lambda _: TlsConfig(),
        lambda c: TlsConfig(ca_file=c.trusted.ca_file),
        "answers there, without TLS: has the URL the right one of",
        "it speaks TLS, and this port does not: is its URL to begin with ws://?",
        WrongServerError,
        (False, True),
    ),
}


def lines(caplog: pytest.LogCaptureFixture, side: str) -> set[str]:
    """What one side warned of or complained about; nobody else does, and there is no
    traceback."""
    severe = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert {r.name for r in severe} <= {"osmo_transport.client", "osmo_transport.server"}
    assert not any(record.exc_info for record in severe)
    return {r.getMessage() for r in severe if r.name == f"osmo_transport.{side}"}


async def is_named(
    way: Way, case: Case, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    """Fail unless the client says why, and ends if it should."""
    at_server, at_client = (f"{way.scheme}{'s' * secure}" for secure in case.secure)
    serving = ServerConfig(tls=case.server(certificates))
    # Over picows a server waits for more of a request, and who wants to speak TLS for its answer.
    patience = 0.5 if case.secure == (False, True) else 10.0
    config = ClientConfig(
        tls=case.client(certificates),
        open_timeout=patience,
        backoff=BackoffConfig(base=0.01, maximum=0.05),
        drain_timeout=0.0,
    )
    transport = way.transport
    async with listen(f"{at_server}://127.0.0.1:0", config=serving, transport=transport) as server:
        url = server.url.replace(f"{at_server}:", f"{at_client}:")
        async with connect(url, backend="b", config=config, transport=transport) as client:
            if case.ends is not None:
                # Whoever gets the error tells it, and nobody else.
                with pytest.raises(case.ends, match=case.says) as caught:
                    await client.epoch_after(0)
                assert url in str(caught.value)
                assert not lines(caplog, "client")
            else:
                await eventually(lambda: lines(caplog, "client"))
                (line,) = lines(caplog, "client")
                assert re.search(case.says, line)
            assert client.stats.connects == 0


@pytest.mark.usefixtures("no_socket_left")
@pytest.mark.parametrize("wrong", CASES)
async def test_a_refusal_is_named_on_both_sides(
    way: Way,
    wrong: str,
    certificates: Certificates,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As what it is, with the setting that mends it. What waiting does not mend ends the client; an
    expired certificate, which somebody is about to renew, does not."""
    case = CASES[wrong]
    if case.secure == (False, True):
        monkeypatch.setattr(strangers, "TLS_TIMEOUT", 0.2)
    await is_named(way, case, certificates, caplog)
    at = " at 127.0.0.1" if case.secure == (False, True) else ""
    silent = way.scheme == "grpc" or (way.engine == "picows" and case.secure == (False, True))
    assert lines(caplog, "server") == (set() if silent else {f"refused a client{at}: {case.logs}"})


@pytest.mark.parametrize("wrong", ["no client certificate", "an untrusted authority"])
def test_a_refusal_is_named_under_uvloop(
    way: Way, wrong: str, certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    """Whose TLS is another one. Nothing is left of a connection that was refused."""
    uvloop.run(is_named(way, CASES[wrong], certificates, caplog))
    gc.collect()
    assert not refusals._found
    logs = {f"refused a client: {CASES[wrong].logs}"}
    assert lines(caplog, "server") == (set() if way.scheme == "grpc" else logs)


async def test_who_says_why_is_heard_over_grpc_too(certificates: Certificates) -> None:
    """As a proxy in front of a server does, other than gRPC's own."""
    config = ClientConfig(tls=TlsConfig(ca_file=certificates.trusted.ca_file), drain_timeout=0.0)
    asking = server_context(certificates.asking)
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=asking) as proxy:
        url = f"grpcs://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        async with connect(url, backend="b", config=config) as client:
            with pytest.raises(CertificateError, match="the server asks for a client certificate"):
                await client.epoch_after(0)


NO_TLS = "refused a client: it does not speak TLS: is its URL to begin with wss://?"
NO_WEBSOCKET = "it asked for no WebSocket"


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("said", [b"", b"\0\xffgarbage\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"])
async def test_a_visitor_is_one_line_of_the_log(
    way: Way,
    said: bytes,
    secure: bool,
    certificates: Certificates,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """However often it comes; who looks whether somebody listens, and says nothing, is none."""
    url = f"{way.scheme}{'s' * secure}://127.0.0.1:0"
    config = ServerConfig(tls=certificates.server)
    async with listen(url, config=config, transport=way.transport) as server:
        for _ in range(2):
            async with raw_peer(server.url) as peer:
                peer.write(said)
                if said:
                    await peer.at_end()
    told = lines(caplog, "server")
    if not said or way.scheme == "grpc":
        assert not told
    elif secure:
        assert told == {NO_TLS}
    elif way.engine == "picows":
        is_http = said.startswith(b"GET")
        assert told == ({f"refused a client: {NO_WEBSOCKET}"} if is_http else set())
    else:
        (line,) = told
        assert line.startswith(f"refused a client at 127.0.0.1: {NO_WEBSOCKET}: ")


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_request_for_another_path_is_named_on_both_sides(
    engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And tried again: behind a proxy the path may come to be."""
    transport = WebSocketTransport(ENGINES[engine])
    quick = ClientConfig(backoff=BackoffConfig(base=0.01, maximum=0.05), drain_timeout=0.0)
    async with listen("ws://127.0.0.1:0", transport=transport) as server:
        url = f"{server.url}/elsewhere"
        async with connect(url, backend="b", config=quick, transport=transport):
            await eventually(lambda: lines(caplog, "client"))
    assert any("404 Not Found: connect to /osmo/v1" in line for line in lines(caplog, "client"))
    (line,) = lines(caplog, "server")
    assert line.endswith("its request was answered with 404: connect to /osmo/v1")


@pytest.mark.parametrize("engine", ENGINES)
async def test_who_breaks_the_protocol_is_one_line_of_the_log(
    engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With where he is, but for the port: with each try it is another."""
    async with listen("ws://127.0.0.1:0", transport=WebSocketTransport(ENGINES[engine])) as server:
        for _ in range(2):
            async with raw_peer(server.url) as peer:
                await peer.upgrade()
                peer.message(BINARY, b"\xc1")
                await peer.read_until_close()
        await eventually(lambda: server.connections == 0)
    (line,) = lines(caplog, "server")
    assert line.startswith("a stranger at 127.0.0.1 is refused: not a frame of this protocol")


@pytest.mark.parametrize(("days", "expired"), [(2, False), (-1, True)])
def test_a_certificate_knows_its_end(days: int, expired: bool, trusted: Authority) -> None:
    """Whoever signed it."""
    assert has_expired(trusted.signed("old" if expired else "client", days=days)) is expired
