"""Kubeconfig files: what is read, and what is said about one that does not work."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from osmo_listener.errors import KubeconfigError
from osmo_listener.kubernetes.connecting import Endpoint
from osmo_listener.kubernetes.credentials import Credentials
from osmo_listener.kubernetes.kubeconfig import load_kubeconfig

SECRET = "s3cr3t"


def write(folder: Path, user: object = None, **cluster: object) -> Path:
    """A kubeconfig whose current context is `one`."""
    config = {
        "apiVersion": "v1",
        "current-context": "one",
        "preferences": {},
        "clusters": [
            {"name": "c", "cluster": {"server": "https://api.example:6443"} | cluster},
            {"name": "d", "cluster": {"server": "http://127.0.0.1:8001"}},
        ],
        "users": [{"name": "u", "user": {"token": "t"} if user is None else user}],
        "contexts": [
            {"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "osmo"}},
            {"name": "two", "context": {"cluster": "d"}},
            {"name": "no-user", "context": {"cluster": "c", "user": "x"}},
            {"name": "no-cluster", "context": {"cluster": "x", "user": "u"}},
        ],
    }
    path = folder / "config"
    path.write_text(yaml.safe_dump(config))
    return path


async def test_current_context(tmp_path: Path) -> None:
    """The current context's server, namespace and token are used."""
    credentials = load_kubeconfig(write(tmp_path))
    assert (credentials.endpoint.host, credentials.endpoint.port) == ("api.example", 6443)
    assert (credentials.secure, credentials.verify, credentials.namespace) == (True, True, "osmo")
    assert await credentials.headers() == {"Authorization": "Bearer t"}


async def test_named_context(tmp_path: Path) -> None:
    """Another context can be named; without a user nobody logs in."""
    credentials = load_kubeconfig(write(tmp_path), "two")
    assert (credentials.endpoint.host, credentials.endpoint.port) == ("127.0.0.1", 8001)
    assert (credentials.secure, credentials.namespace) == (False, None)
    assert await credentials.headers() == {}


def test_json(tmp_path: Path) -> None:
    """A kubeconfig may be JSON."""
    path = write(tmp_path)
    path.write_text(json.dumps(yaml.safe_load(path.read_text())))
    assert load_kubeconfig(path).endpoint.port == 6443


@pytest.mark.parametrize(
    ("server", "endpoint"),
    [
        ("https://h", Endpoint(host="h", port=443, authority="h")),
        ("http://localhost/", Endpoint(host="localhost", port=80, authority="localhost")),
        ("https://[::1]:6443", Endpoint(host="::1", port=6443, authority="[::1]:6443")),
        ("HTTPS://[fd00::1]", Endpoint(host="fd00::1", port=443, authority="[fd00::1]")),
        ("https://hö.test", Endpoint(host="xn--h-1ga.test", port=443, authority="xn--h-1ga.test")),
        (
            "https://h:1/k8s/clusters/c-1/",
            Endpoint(host="h", port=1, authority="h:1", base_path="/k8s/clusters/c-1"),
        ),
    ],
)
def test_servers(tmp_path: Path, server: str, endpoint: Endpoint) -> None:
    """Ports, IPv6 addresses and path prefixes are understood."""
    assert load_kubeconfig(write(tmp_path, server=server)).endpoint == endpoint


def test_tls_settings(tmp_path: Path) -> None:
    """CA, client certificate and key come from data or from files beside the kubeconfig."""
    data = base64.b64encode(b"pem").decode()
    cluster = {
        "certificate-authority-data": data,
        "tls-server-name": "other",
    }
    user = {"client-certificate": "c.crt", "client-key": "/abs/c.key"}
    credentials = load_kubeconfig(write(tmp_path, user, **cluster))
    assert credentials.ca == b"pem"
    assert credentials.verify
    assert credentials.endpoint.tls_server_name == "other"
    assert (credentials.certificate, credentials.key) == (tmp_path / "c.crt", Path("/abs/c.key"))
    assert not load_kubeconfig(write(tmp_path, **{"insecure-skip-tls-verify": True})).verify


@pytest.mark.parametrize(
    ("user", "header"),
    [
        ({"token": "t", "tokenFile": "absent"}, "Bearer t"),
        ({"tokenFile": "token"}, "Bearer from-file"),
        ({"username": "u", "password": "p"}, "Basic dTpw"),
    ],
)
async def test_users(tmp_path: Path, user: dict[str, str], header: str) -> None:
    """Tokens, token files and passwords become the header; a token goes before its file."""
    (tmp_path / "token").write_text("from-file\n")
    credentials = load_kubeconfig(write(tmp_path, user))
    assert await credentials.headers() == {"Authorization": header}


@pytest.mark.parametrize(
    ("context", "text"),
    [
        ("three", "no context in .*config is named 'three'; there is: one, two"),
        ("no-user", "no user in .*config is named 'x'; there is: u"),
        ("no-cluster", "no cluster in .*config is named 'x'; there is: c, d"),
    ],
)
def test_absent_names(tmp_path: Path, context: str, text: str) -> None:
    """A name that leads nowhere is told with those that exist."""
    with pytest.raises(KubeconfigError, match=text):
        load_kubeconfig(write(tmp_path), context)


@pytest.mark.parametrize(
    ("cluster", "user", "text"),
    [
        ({"server": ""}, None, "it must be https://HOST:PORT"),
        ({"server": "api:6443/k8s"}, None, "it must be https://HOST:PORT"),
        (
            {"server": f"https://u:{SECRET}@api:x"},
            None,
            "the server of context 'one' in .*config is 'api:x': it must",
        ),
        ({"server": "https://.ö"}, None, "which no host is called"),
        ({"server": "https://a..b"}, None, "which no host is called"),
        ({"server": "https://[10.0.0.1]:1"}, None, "it must be https://HOST:PORT"),
        ({"server": "https://api/a\tb"}, None, "it must be https://HOST:PORT"),
        ({"server": "ftp://api"}, None, "it must be https://HOST:PORT"),
        ({"server": "https://api:x"}, None, "it must be https://HOST:PORT"),
        ({"server": 7}, None, "is no kubeconfig"),
        ({"proxy-url": f"ftp://u:{SECRET}@p"}, None, "proxy-url in .*config names no proxy"),
        ({}, {"as-groups": ["g"]}, "as-groups or as-user-extra without as: name the user"),
        ({}, {"token": "t", "username": "u"}, "a token beside a username or a password: remove"),
        ({}, {"client-certificate": "c"}, "client-certificate without client-key: add the key"),
        (
            {},
            {"exec": {"command": "c"}},
            "exec section .* has to name a command, and as apiVersion",
        ),
        ({"certificate-authority": "a\0b"}, None, "the certificate-authority .* holds a NUL"),
        ({}, {"client-certificate": "c\0", "client-key": "k"}, "client-certificate .* a NUL"),
        ({}, {"client-certificate": "c", "client-key": "k\0"}, "the client-key .* holds a NUL"),
        ({}, {"tokenFile": "\0"}, "the token-file .* holds a NUL"),
        ({}, {"exec": {"command": "/c\0"}}, "the command .* holds a NUL"),
        ({"certificate-authority-data": "!"}, None, "no base64"),
        ({"certificate-authority-data": "\ufeffQQ=="}, None, "no base64"),
    ],
)
def test_unusable(
    tmp_path: Path, cluster: dict[str, object], user: dict[str, object] | None, text: str
) -> None:
    """What cannot be used is refused at once, with the setting that is wrong."""
    with pytest.raises(KubeconfigError, match=text) as raised:
        load_kubeconfig(write(tmp_path, user, **cluster))
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    "text", ["[1]", "a: [", "{", "users: 7", f"users:\n- user: {{token: {SECRET}\n", "\x00"]
)
def test_no_kubeconfig(tmp_path: Path, text: str) -> None:
    """A file that is no kubeconfig is named; its content is not shown."""
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(KubeconfigError, match="is no kubeconfig") as raised:
        load_kubeconfig(path)
    assert SECRET not in str(raised.value)


def test_absent_file(tmp_path: Path) -> None:
    """A file that does not exist, or is a folder, is named with the reason."""
    with pytest.raises(KubeconfigError, match="nowhere cannot be read: No such file"):
        load_kubeconfig(tmp_path / "nowhere")
    with pytest.raises(KubeconfigError, match="cannot be read: Is a directory"):
        load_kubeconfig(tmp_path)


async def test_impersonation(tmp_path: Path) -> None:
    """The user to act as, his groups and what else is said of him become headers; a group each."""
    user = {"token": "t", "as": "jane", "as-uid": "7", "as-groups": ["a", "b"]}
    extra = {"as-user-extra": {"example.com/a%": ["x"]}}
    assert await load_kubeconfig(write(tmp_path, user | extra)).headers() == {
        "Authorization": "Bearer t",
        "Impersonate-User": "jane",
        "Impersonate-Uid": "7",
        "Impersonate-Group": ("a", "b"),
        "Impersonate-Extra-example.com%2Fa%25": ("x",),
    }


async def test_plain_http_gets_no_credentials(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As with kubectl, and with a word about it; this machine's own servers get them."""
    credentials = load_kubeconfig(write(tmp_path, {"token": "t", "as": "a"}, server="http://api"))
    assert await credentials.headers() == {"Impersonate-User": "a"}
    assert "the user's credentials are not sent to it" in caplog.text
    caplog.clear()
    credentials = load_kubeconfig(write(tmp_path, server="http://127.0.0.1:1"))
    assert await credentials.headers() == {"Authorization": "Bearer t"}
    load_kubeconfig(write(tmp_path, {}, server="http://api"))
    assert not caplog.records


def joined(*paths: Path) -> Path:
    """As in KUBECONFIG."""
    return Path(os.pathsep.join(map(str, paths)))


async def test_joined_files(tmp_path: Path) -> None:
    """The first that says something counts, the absent are skipped, and paths are relative to the
    file that they stand in."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "token").write_text("beside it")
    whole = write(tmp_path / "folder", {"tokenFile": "token"})
    part = tmp_path / "part"
    part.write_text("clusters: [{name: c, cluster: {server: 'https://first'}}]")
    credentials = load_kubeconfig(joined(tmp_path / "absent", part, whole))
    assert credentials.endpoint.host == "first"
    assert await credentials.headers() == {"Authorization": "Bearer beside it"}


def test_joined_files_that_are_all_absent(tmp_path: Path) -> None:
    """One of them is named."""
    with pytest.raises(KubeconfigError, match="one cannot be read: No such file"):
        load_kubeconfig(joined(tmp_path / "one", tmp_path / "two"))


def test_a_colon_in_the_name_of_a_file(tmp_path: Path) -> None:
    """It does not part what is there."""
    path = write(tmp_path).rename(tmp_path / "a:b")
    assert load_kubeconfig(path).endpoint.host == "api.example"


def test_proxies(tmp_path: Path) -> None:
    """`proxy-url` goes before the environment, which goes for what NO_PROXY does not except."""
    environ = {"HTTPS_PROXY": "http://env:1", "NO_PROXY": "other"}
    for settings, shown in (
        ({}, "http://env:1"),
        ({"proxy-url": "socks5://u:p@file"}, "socks5://file:1080"),
        ({"server": "https://other"}, "None"),
        ({"server": "https://other", "proxy-url": "https://file"}, "https://file:443"),
    ):
        credentials = load_kubeconfig(write(tmp_path, **settings), environ=environ)
        assert str(credentials.endpoint.proxy) == shown


def test_no_current_context(tmp_path: Path) -> None:
    """Without a current context one has to be named."""
    path = tmp_path / "config"
    path.write_text("clusters: []")
    with pytest.raises(KubeconfigError, match="sets no current-context: name the context"):
        load_kubeconfig(path)


PLUGIN = """
import json, os, sys
info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
if sys.argv[1] == "fail":
    sys.exit("please log in")
status = {"expirationTimestamp": "2100-01-01T00:00:00Z"}
if sys.argv[1] == "token":
    status["token"] = os.environ["WHO"] + info["spec"]["cluster"]["server"]
if sys.argv[1] == "certificate":
    status |= {"clientCertificateData": "CERT", "clientKeyData": "KEY"}
print(json.dumps({"apiVersion": info["apiVersion"], "kind": "ExecCredential", "status": status}))
"""


def with_plugin(folder: Path, command: str, *arguments: str) -> Credentials:
    section: dict[str, Any] = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": command,
        "args": list(arguments),
        "env": [{"name": "WHO", "value": "me@"}],
        "provideClusterInfo": True,
    }
    return load_kubeconfig(write(folder, {"exec": section}))


async def test_exec_plugin(tmp_path: Path) -> None:
    """A real plugin is run with its environment and the cluster, and its token is used."""
    credentials = with_plugin(tmp_path, sys.executable, "-c", PLUGIN, "token")
    assert await credentials.headers() == {"Authorization": "Bearer me@https://api.example:6443"}


async def test_exec_plugin_with_a_certificate(tmp_path: Path) -> None:
    """A plugin may issue a client certificate instead."""
    credentials = with_plugin(tmp_path, sys.executable, "-c", PLUGIN, "certificate")
    assert credentials.plugin is not None
    issued = credentials.plugin()
    assert (issued.certificate, issued.key) == (b"CERT", b"KEY")
    assert issued.expiry == 4102444800.0


@pytest.mark.parametrize(
    ("command", "arguments", "text"),
    [
        (sys.executable, ("-c", PLUGIN, "fail"), "the exit code 1: please log in"),
        (sys.executable, ("-c", PLUGIN, "nothing"), "neither a token nor a certificate"),
        (sys.executable, ("-c", "print('hello')"), "its answer cannot be used"),
        (sys.executable, ("-c", "print('{')"), "it is neither JSON nor YAML"),
        ("/no/such/command", (), "No such file"),
    ],
)
async def test_exec_plugin_that_fails(
    tmp_path: Path, command: str, arguments: tuple[str, ...], text: str
) -> None:
    """A plugin that does not deliver is named, with what it said."""
    credentials = with_plugin(tmp_path, command, *arguments)
    with pytest.raises(KubeconfigError, match=f"the credential plugin '{command}'.*{text}"):
        await credentials.headers()


async def test_auth_provider(tmp_path: Path) -> None:
    """An auth provider's token is used; one that gives none is an error that says what to do."""
    config = {"access-token": "abc", "expiry": "2100-01-01T00:00:00Z"}
    user = {"auth-provider": {"name": "gcp", "config": config}}
    credentials = load_kubeconfig(write(tmp_path, user))
    assert await credentials.headers() == {"Authorization": "Bearer abc"}
    credentials = load_kubeconfig(write(tmp_path, {"auth-provider": {"name": "azure"}}))
    with pytest.raises(KubeconfigError, match="gave no token: log in again"):
        await credentials.headers()


PLUGIN_USER = {"exec": {"command": "c", "apiVersion": "client.authentication.k8s.io/v1"}}


@pytest.mark.parametrize("user", [{"token": "t"}, PLUGIN_USER], ids=["token", "plugin"])
def test_common_users_need_no_kubernetes_package(tmp_path: Path, user: object) -> None:
    """Start-up does not pay for the package that only auth providers need."""
    script = (
        "import sys, pathlib\n"
        "from osmo_listener.informer import Informer\n"
        "from osmo_listener.kubernetes.listwatch import ListWatch\n"
        "from osmo_listener.kubernetes.kubeconfig import load_kubeconfig\n"
        "load_kubeconfig(pathlib.Path(sys.argv[1]))\n"
        "heavy = {'kubernetes', 'aiohttp', 'requests', 'urllib3'} & sys.modules.keys()\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    command = [sys.executable, "-c", script, str(write(tmp_path, user))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
