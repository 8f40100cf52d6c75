"""Credentials at work: rotation, client certificates, plugins, a pod's service account."""

import asyncio
import os
import ssl
import threading
from pathlib import Path

import pytest

from osmo_listener.errors import KubeconfigError
from osmo_listener.kubernetes.connecting import Endpoint
from osmo_listener.kubernetes.credentials import Credentials, Issued, load_in_cluster
from osmo_listener.kubernetes.http import HttpClient
from tests.listener.wire import Exchange, make_certificate, plain, serve

HERE = Endpoint(host="127.0.0.1", port=6443)
SECRET = "s3cr3t"


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate and its key."""
    return make_certificate(tmp_path_factory.mktemp("pems"), "client", "DNS:client")


async def test_token_file_is_read_for_each_request(tmp_path: Path) -> None:
    """A token that was rotated is used at once."""
    token = tmp_path / "token"
    credentials = Credentials(endpoint=HERE, token_file=token)
    for text in ("one\n", "two"):
        token.write_text(text)
        assert await credentials.headers() == {"Authorization": f"Bearer {text.strip()}"}
    token.unlink()
    with pytest.raises(KubeconfigError, match=r"the token file .* cannot be read: No such file"):
        await credentials.headers()


async def test_an_empty_token_file_is_none(tmp_path: Path) -> None:
    """As one that is being written may be."""
    token = tmp_path / "token"
    token.write_text(" \n")
    with pytest.raises(KubeconfigError, match=r"the token file .* is empty"):
        await Credentials(endpoint=HERE, token_file=token).headers()
    beside = Credentials(endpoint=HERE, token_file=token, authorization="Bearer t")
    assert await beside.headers() == {"Authorization": "Bearer t"}


@pytest.mark.parametrize(
    "credentials",
    [
        Credentials(endpoint=HERE, authorization=f"Bearer {SECRET}\r\nImpersonate-User: root"),
        Credentials(endpoint=HERE, impersonation={"Impersonate-Group": (f"a\n{SECRET}",)}),
        Credentials(endpoint=HERE, plugin=lambda: Issued(authorization=f"Bearer {SECRET}\x00")),
    ],
)
async def test_a_value_that_would_add_a_header_is_refused(credentials: Credentials) -> None:
    """And not shown."""
    with pytest.raises(KubeconfigError, match="with a line break or a control char") as error:
        await credentials.headers()
    assert SECRET not in str(error.value)


async def test_a_rotated_client_certificate_is_shown_by_the_next_connection(
    tmp_path: Path,
) -> None:
    """Without a restart."""
    shown = []

    async def respond(exchange: Exchange) -> None:
        peer = exchange._writer.get_extra_info("peercert")
        shown.append(peer["subject"][0][0][1])
        await exchange.send(plain(b"", headers="Connection: close\r\n"))

    one, two = (make_certificate(tmp_path, name, "DNS:client") for name in ("one", "two"))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*one)
    for certificate, _ in (one, two):
        server.load_verify_locations(certificate)
    server.verify_mode = ssl.CERT_REQUIRED
    async with serve(respond, server) as wire:
        end = Endpoint(host="127.0.0.1", port=wire.port, tls_server_name="client")
        files = tmp_path / "client.crt", tmp_path / "client.key"
        client = HttpClient(
            end, Credentials(endpoint=end, ca=one[0], certificate=files[0], key=files[1]).tls
        )
        for pair in (one, two):
            for source, file in zip(pair, files, strict=True):
                file.write_bytes(source.read_bytes())
            response = await client.get("/", {})
            await response.read()
            response.close()
        client.close()
    assert shown == ["one", "two"]


async def test_nobody_in_particular() -> None:
    """Without a user no header is sent."""
    assert await Credentials(endpoint=HERE).headers() == {}


async def test_plugin_is_asked_when_its_credential_ends() -> None:
    """What a plugin issued is kept until a minute before it expires, or until it was refused."""
    now = 1000.0
    asked = 0

    def plugin() -> Issued:
        nonlocal asked
        asked += 1
        assert threading.current_thread() is not threading.main_thread()
        return Issued(authorization=f"Bearer {asked}", expiry=now + 600)

    credentials = Credentials(endpoint=HERE, plugin=plugin, clock=lambda: now)

    async def token() -> object:
        return (await credentials.headers())["Authorization"]

    assert await token() == await token() == "Bearer 1"
    now += 530
    assert await token() == "Bearer 1"
    now += 20
    assert await token() == "Bearer 2"
    credentials.forget()
    assert await token() == "Bearer 3"


async def test_plugin_that_fails_or_hangs() -> None:
    """A plugin's error is raised where it is needed, and one that hangs can be left."""

    def failing() -> Issued:
        raise KubeconfigError("log in again")

    with pytest.raises(KubeconfigError, match="log in again"):
        await Credentials(endpoint=HERE, plugin=failing).headers()
    release = threading.Event()

    def hanging() -> Issued:
        release.wait(10)
        return Issued()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await Credentials(endpoint=HERE, plugin=hanging).headers()
    release.set()


@pytest.mark.parametrize("source", ["files", "memory", "plugin"])
async def test_client_certificate(source: str, pems: tuple[Path, Path]) -> None:
    """A client certificate is presented, whether it lies in files, in the kubeconfig, or comes from
    a plugin; the server is trusted through the CA alone."""
    certificate, key = pems
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    server.load_verify_locations(certificate)
    server.verify_mode = ssl.CERT_REQUIRED

    async def respond(exchange: Exchange) -> None:
        await exchange.send(plain(b"welcome"))

    async with serve(respond, server) as wire:
        end = Endpoint(host="127.0.0.1", port=wire.port, tls_server_name="client")
        inline = certificate.read_bytes(), key.read_bytes()
        credentials = {
            "files": Credentials(endpoint=end, ca=certificate, certificate=certificate, key=key),
            "memory": Credentials(endpoint=end, ca=inline[0], certificate=inline[0], key=inline[1]),
            "plugin": Credentials(
                endpoint=end,
                ca=certificate,
                plugin=lambda: Issued(certificate=inline[0], key=inline[1]),
            ),
        }[source]
        client = HttpClient(end, credentials.tls)
        response = await client.get("/", {})
        assert await response.head() == 200
        assert await response.read() == b"welcome"
        response.close()
        client.close()


async def test_unusable_pem(tmp_path: Path, pems: tuple[Path, Path]) -> None:
    """A CA, certificate or key that cannot be used is named by its setting."""
    for ca in (b"no pem", b"", b"\xff", tmp_path / "absent"):
        with pytest.raises(KubeconfigError, match="certificate-authority"):
            await Credentials(endpoint=HERE, ca=ca).tls()
    with pytest.raises(KubeconfigError, match="client-certificate and client-key"):
        await Credentials(endpoint=HERE, certificate=pems[0], key=b"no pem").tls()


async def test_verification_can_be_switched_off() -> None:
    """`insecure-skip-tls-verify` is obeyed, and verification is the default."""
    context = await Credentials(endpoint=HERE).tls()
    assert context is not None
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    context = await Credentials(endpoint=HERE, verify=False).tls()
    assert context is not None
    assert context.verify_mode is ssl.CERT_NONE
    assert await Credentials(endpoint=HERE, secure=False).tls() is None


def test_secrets_are_not_shown(pems: tuple[Path, Path]) -> None:
    """Neither credentials nor what a plugin issued show a secret."""
    issued = Issued(authorization=SECRET, certificate=SECRET.encode(), key=SECRET.encode())
    credentials = Credentials(
        endpoint=HERE, authorization=SECRET, key=SECRET.encode(), plugin=lambda: issued
    )
    assert SECRET not in repr(credentials) + repr(issued)


async def test_in_cluster(tmp_path: Path) -> None:
    """A pod's service account: address from the environment, the rest from its mount."""
    (tmp_path / "token").write_text("abc")
    (tmp_path / "namespace").write_text("osmo\n")
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443"}
    credentials = load_in_cluster(environ, tmp_path)
    assert credentials.endpoint == Endpoint(host="fd00::1", port=6443)
    assert (credentials.namespace, credentials.ca) == ("osmo", tmp_path / "ca.crt")
    assert await credentials.headers() == {"Authorization": "Bearer abc"}
    assert credentials.endpoint.proxy is None
    credentials = load_in_cluster(environ | {"HTTPS_PROXY": "p:3128"}, tmp_path)
    assert str(credentials.endpoint.proxy) == "http://p:3128"


@pytest.mark.parametrize("environ", [{}, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}])
def test_not_in_a_cluster(environ: dict[str, str], tmp_path: Path) -> None:
    """Outside of a pod the error says what to do."""
    with pytest.raises(KubeconfigError, match="name a kubeconfig"):
        load_in_cluster(environ, tmp_path)


async def test_inline_key_is_not_left_on_disk(
    tmp_path: Path, pems: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An inline key touches the disk only while it is being loaded."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    certificate, key = pems[0].read_bytes(), pems[1].read_bytes()
    assert await Credentials(endpoint=HERE, certificate=certificate, key=key).tls()
    assert not any(os.scandir(tmp_path))
