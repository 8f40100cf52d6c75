"""Certificates: who trusts whom, and what is said when somebody does not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from osmo_transport import (
    BackoffConfig,
    ClientConfig,
    Server,
    ServerConfig,
    TlsConfig,
    UsageError,
    connect,
    listen,
)
from osmo_transport.testing import make_message
from tests.helpers import eventually
from tests.transport.certificates import Authority

pytestmark = pytest.mark.usefixtures("no_socket_left")

SCHEMES = pytest.mark.parametrize("scheme", ["wss", "grpcs"])


def client_config(tls: TlsConfig) -> ClientConfig:
    return ClientConfig(tls=tls, backoff=BackoffConfig(base=0.01, maximum=0.05), drain_timeout=0.0)


@asynccontextmanager
async def serving(scheme: str, tls: TlsConfig) -> AsyncIterator[Server]:
    async with listen(f"{scheme}://127.0.0.1:0", config=ServerConfig(tls=tls)) as server:
        yield server


@SCHEMES
async def test_a_stranger_is_not_trusted(
    scheme: str, trusted: Authority, stranger: Authority
) -> None:
    """A certificate of another authority ends the client with an error that says what to do: trying
    again does not help."""
    config = client_config(TlsConfig(ca_file=trusted.ca_file))
    async with (
        serving(scheme, stranger.signed("server")) as server,
        connect(server.url, backend="b", config=config) as client,
    ):
        with pytest.raises(UsageError, match=r"not trusted.*tls\.ca_file"):
            await client.epoch_after(0)


@SCHEMES
async def test_a_certificate_has_to_name_the_host(scheme: str, trusted: Authority) -> None:
    """One of the right authority for another host is refused."""
    tls = trusted.signed("elsewhere", names="subjectAltName=DNS:elsewhere.example")
    config = client_config(TlsConfig(ca_file=trusted.ca_file))
    async with (
        serving(scheme, tls) as server,
        connect(server.url, backend="b", config=config) as client,
    ):
        with pytest.raises(UsageError, match="not trusted"):
            await client.epoch_after(0)


@SCHEMES
async def test_a_server_may_ask_for_a_certificate(
    scheme: str, trusted: Authority, stranger: Authority
) -> None:
    """With a `ca_file` only clients that it signed for are let in; the others keep trying."""
    server_tls = trusted.signed("server")
    asking = TlsConfig(
        ca_file=trusted.ca_file, cert_file=server_tls.cert_file, key_file=server_tls.key_file
    )
    async with serving(scheme, asking) as server:
        mine = trusted.signed("client")
        known = TlsConfig(ca_file=trusted.ca_file, cert_file=mine.cert_file, key_file=mine.key_file)
        async with connect(server.url, backend="b", config=client_config(known)) as client:
            await client.send(make_message())
            (incoming,) = await server.receive()
            incoming.acknowledge()
            await client.flush()
        other = stranger.signed("client")
        for tls in (
            TlsConfig(ca_file=trusted.ca_file),
            TlsConfig(ca_file=trusted.ca_file, cert_file=other.cert_file, key_file=other.key_file),
        ):
            async with connect(server.url, backend="c", config=client_config(tls)) as client:
                await asyncio.sleep(0.1)
                assert client.stats.connects == 0
        await eventually(lambda: server.connections == 0)


@SCHEMES
@pytest.mark.parametrize("content", [None, "not a certificate"])
async def test_a_file_that_is_no_certificate_is_named(
    scheme: str, content: str | None, tmp_path: Path
) -> None:
    """Absent or broken, on either side."""
    path = tmp_path / "broken.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UsageError, match=r"broken\.pem"):
        async with serving(scheme, TlsConfig(cert_file=path, key_file=path)):
            pass
    config = client_config(TlsConfig(ca_file=path))
    async with connect(f"{scheme}://127.0.0.1:1", backend="b", config=config) as client:
        with pytest.raises(UsageError, match=r"broken\.pem"):
            await client.epoch_after(0)


@pytest.mark.parametrize(
    ("secure", "plain"), [("wss", "ws"), ("grpcs", "grpc"), ("grpcs", "ws"), ("wss", "grpc")]
)
async def test_a_plain_server_is_no_secure_one(secure: str, plain: str, trusted: Authority) -> None:
    """The client does not fall back to talking in the clear; it keeps trying, as the server may
    yet be configured."""
    config = client_config(TlsConfig(ca_file=trusted.ca_file))
    async with listen(f"{plain}://127.0.0.1:0") as server:
        url = server.url.replace(f"{plain}:", f"{secure}:")
        async with connect(url, backend="b", config=config) as client:
            await asyncio.sleep(0.1)
            assert client.stats.connects == 0
