"""What kubectl accepts in a kubeconfig has the same effect here: reports from the field."""

import asyncio
import base64
import json
import ssl
import sys
import threading
from pathlib import Path

import pytest

from osmo_listener.errors import KubeconfigError
from osmo_listener.kubernetes.connecting import Endpoint
from osmo_listener.kubernetes.credentials import Credentials, Issued
from osmo_listener.kubernetes.kubeconfig import load_kubeconfig
from osmo_listener.kubernetes.plugins import ExecConfig, exec_plugin
from tests.transport.certificates import authority

FORM = """
apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "https://127.0.0.1:6443", {cluster}}}}}]
users: [{{name: u, user: {{{user}}}}}]
contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
current-context: x
"""


def written(folder: Path, user: str = "token: t", cluster: str = "proxy-url: null") -> Credentials:
    """The credentials of a kubeconfig."""
    path = folder / "config"
    path.write_text(FORM.format(user=user, cluster=cluster))
    return load_kubeconfig(path)


@pytest.mark.parametrize("broken", ["QUFB\n      QkJC\n", "QUFBQkJC\n", "QUFB\r\n      QkJC"])
def test_line_breaks_in_base64_are_no_part_of_it(tmp_path: Path, broken: str) -> None:
    """What wraps a certificate at 76 characters breaks nothing."""
    data = broken.replace("\r", "\\r").replace("\n", "\\n").replace(" ", "")
    credentials = written(tmp_path, cluster=f'certificate-authority-data: "{data}"')
    assert credentials.ca == b"AAABBB"


@pytest.mark.parametrize(
    "user",
    [
        "token: t, client-certificate: null, tokenFile: null",
        "token: t, exec: null, auth-provider: null, as: null, username: null",
    ],
)
async def test_a_null_is_absent(tmp_path: Path, user: str) -> None:
    """What writes kubeconfigs writes nulls."""
    assert await written(tmp_path, user).headers() == {"Authorization": "Bearer t"}


async def test_the_file_wins_over_the_token_beside_it(tmp_path: Path) -> None:
    """The token is what it was when somebody logged in; it counts while the file is not there."""
    credentials = written(tmp_path, "token: stale, tokenFile: good")
    assert await credentials.headers() == {"Authorization": "Bearer stale"}
    (tmp_path / "good").write_text("fresh\n")
    assert await credentials.headers() == {"Authorization": "Bearer fresh"}


def plugin(folder: Path, answer: str, more: str = "") -> str:
    """A user whose plugin prints something, and keeps what it was told."""
    script = folder / "plugin.py"
    script.write_text(
        "import os, pathlib\n"
        f"pathlib.Path({str(folder / 'told')!r}).write_text(os.environ['KUBERNETES_EXEC_INFO'])\n"
        f"print({answer!r})\n"
    )
    return (
        "exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never,"
        f" command: {sys.executable}, args: [{script}] {more}}}"
    )


HEAD = '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": '


async def test_a_plugin_may_say_null(tmp_path: Path) -> None:
    """A token without a certificate is what most plugins issue."""
    answer = HEAD + '{"token": "t", "clientCertificateData": null, "clientKeyData": null}}'
    credentials = written(tmp_path, plugin(tmp_path, answer))
    assert await credentials.headers() == {"Authorization": "Bearer t"}


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + "null}",
        HEAD + '{"token": null}}',
        HEAD + "[]}",
        HEAD + '{"clientCertificateData": 7}}',
        HEAD + '{"token": "t", "expirationTimestamp": "soon"}}',
        "null",
        "[]",
    ],
)
async def test_an_answer_that_cannot_be_used_is_told(tmp_path: Path, answer: str) -> None:
    """No error of the package that reads it crosses the edge."""
    credentials = written(tmp_path, plugin(tmp_path, answer))
    with pytest.raises(KubeconfigError, match=r"the credential plugin .* of the kubeconfig failed"):
        await credentials.headers()


async def test_a_plugin_that_asks_for_the_cluster_gets_its_authority(tmp_path: Path) -> None:
    """The content of the file, which it could not find."""
    (tmp_path / "ca.crt").write_bytes(b"a certificate")
    user = plugin(tmp_path, HEAD + '{"token": "t"}}', ", provideClusterInfo: true")
    await written(tmp_path, user, "certificate-authority: ca.crt").headers()
    told = (tmp_path / "told").read_text()
    assert base64.b64encode(b"a certificate").decode() in told
    assert "ca.crt" not in told


async def test_a_plugin_is_told_how_the_cluster_is_reached(tmp_path: Path) -> None:
    """By the names of an ExecCredential, and with the extension that is meant for it alone."""
    user = plugin(tmp_path, HEAD + '{"token": "t"}}', ", provideClusterInfo: true")
    cluster = """
        proxy-url: "http://u:p@proxy:3128", tls-server-name: other, disable-compression: true,
        certificate-authority-data: QUFB, extensions: [
          {name: mine, extension: {a: 1}},
          {name: client.authentication.k8s.io/exec, extension: {audience: x}}]"""
    await written(tmp_path, user, cluster).headers()
    told = json.loads((tmp_path / "told").read_text())
    assert told["spec"] == {
        "interactive": False,
        "cluster": {
            "server": "https://127.0.0.1:6443",
            "tls-server-name": "other",
            "certificate-authority-data": "QUFB",
            "proxy-url": "http://u:p@proxy:3128",
            "disable-compression": True,
            "config": {"audience": "x"},
        },
    }


async def test_a_plugin_that_fails_on_a_terminal_is_told_with_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What it says there is for the person before it, and the error is one all the same."""
    monkeypatch.setattr("sys.stdin", Terminal())
    script = "import sys; print('please log in', file=sys.stderr); sys.exit(3)"
    user = {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable}
    section = json.dumps({"exec": user | {"args": ["-c", script]}})
    credentials = written(tmp_path, section[1:-1])
    with pytest.raises(KubeconfigError, match=r"the exit code 3$"):
        await credentials.headers()
    assert capfd.readouterr().err == "please log in\n"


class Terminal:
    """A standard input with a person before it."""

    def isatty(self) -> bool:
        return True


def test_a_plugin_that_hangs_is_ended() -> None:
    """So that those of a day do not pile up."""
    section = ExecConfig(
        command="sleep", args=["60"], api_version="client.authentication.k8s.io/v1"
    )
    with pytest.raises(KubeconfigError, match=r"'sleep' .* it gave no answer in 0\.01 s"):
        exec_plugin(section, {}, timeout=0.01)()


async def test_a_plugin_is_asked_once_for_all(tmp_path: Path) -> None:
    """However many watches need it at the same time."""
    asked, go_on = [], threading.Event()

    def slow() -> Issued:
        asked.append(1)
        go_on.wait(10)
        return Issued(authorization="Bearer t")

    here = Endpoint(host="127.0.0.1", port=1)
    credentials = Credentials(endpoint=here, plugin=slow)
    tasks = [asyncio.create_task(credentials.headers()) for _ in range(5)]
    await asyncio.sleep(0)
    go_on.set()
    assert {tuple(headers.items()) for headers in await asyncio.gather(*tasks)} == {
        (("Authorization", "Bearer t"),)
    }
    assert len(asked) == 1


async def test_a_plugin_that_hangs_is_given_up() -> None:
    """With an error that says so."""
    over = threading.Event()

    def hang() -> Issued:
        over.wait(10)
        return Issued()

    here = Endpoint(host="127.0.0.1", port=1)
    credentials = Credentials(endpoint=here, plugin=hang, plugin_timeout=0.01)
    with pytest.raises(KubeconfigError, match=r"no answer in 0\.01 s"):
        await credentials.headers()
    over.set()


async def test_an_authority_may_have_a_comment(tmp_path: Path, trusted_pem: bytes) -> None:
    """In any language: what stands outside of the blocks is skipped."""
    (tmp_path / "ca.pem").write_bytes("# CN=Főtanúsítvány\n".encode() + trusted_pem)
    credentials = written(tmp_path, cluster="certificate-authority: ca.pem")
    context = await credentials.tls()
    assert context is not None
    assert len(context.get_ca_certs()) == 1


async def test_an_authority_needs_no_key_identifiers(tmp_path: Path, trusted_pem: bytes) -> None:
    """Python 3.13 would ask for them, and kubectl does not."""
    (tmp_path / "ca.pem").write_bytes(trusted_pem)
    context = await written(tmp_path, cluster="certificate-authority: ca.pem").tls()
    assert context is not None
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT


@pytest.fixture
def trusted_pem(tmp_path: Path) -> bytes:
    """An authority's certificate."""
    folder = tmp_path / "authority"
    folder.mkdir()
    return authority(folder).ca_file.read_bytes()
