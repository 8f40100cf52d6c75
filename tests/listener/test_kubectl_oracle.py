"""kubectl itself says what a kubeconfig means: the same arrives at the server, or both refuse."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from tests.listener.oracle import KUBECTL, Certificates, Outcome, Row, Scene, kubeconfig

AT_ONCE = 4
"""Rows at the same time: kubectl takes some 50 ms of a core."""

API = "https://api.cluster.test:6443"
PLAIN = "http://api.cluster.test"
V1 = "client.authentication.k8s.io/v1"


def plugin(status: str, version: str = V1, **more: Any) -> dict[str, Any]:
    """A user whose plugin gives a status."""
    env = [{"name": "STATUS", "value": status}, {"name": "VERSION", "value": version}]
    section = {"apiVersion": V1, "interactiveMode": "Never", "command": "./plugin", "env": env}
    return {"exec": section | more}


ANSWER = f'{{"apiVersion": "{V1}", "kind": "ExecCredential", "status": {{"token": "issued"}}}}'


def printing(text: str, then: str = "true") -> dict[str, Any]:
    """A user whose plugin prints this, with the escapes of `printf`."""
    section = {"apiVersion": V1, "interactiveMode": "Never", "command": "sh"}
    return {"exec": {**section, "args": ["-c", f"printf '{text}'; {then}"]}}


YAML = """
apiVersion: v1
kind: Config
clusters:
- name: 2024-06-01
  cluster:
    server: ${https}
    certificate-authority: ${ca}
users:
- name: u
  user: {token: t}
contexts:
- name: x
  context: {cluster: 2024-06-01, user: u}
current-context: x
"""
TOKEN = '{"token": "issued"}'
BLOCK = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"
CLUSTER: dict[str, Any] = {"server": "${https}", "certificate-authority": "${ca}"}

ROWS = [
    # Who logs in.
    Row("nobody", refused=True,
        differs="kubectl asks a person for a name; here nobody logs in, which may be enough"),
    Row("token", {"token": "t"}),
    Row("token-file", {"tokenFile": "token"}, files={
        "config": kubeconfig(cluster=CLUSTER, user={"tokenFile": "token"}), "token": "fresh\n"}),
    Row("token-beside-its-file", files={
        "config": kubeconfig(cluster=CLUSTER, user={"token": "t", "tokenFile": "token"}),
        "token": "fresh\n"}),
    Row("token-beside-an-absent-file", {"token": "t", "tokenFile": "absent"}),
    Row("token-beside-an-empty-file", files={
        "config": kubeconfig(cluster=CLUSTER, user={"token": "t", "tokenFile": "token"}),
        "token": "\n"}),
    Row("absent-token-file", {"tokenFile": "absent"}, refused=True),
    Row("empty-token-file", files={
        "config": kubeconfig(cluster=CLUSTER, user={"tokenFile": "token"}), "token": ""},
        refused=True),
    Row("token-with-a-line-break", {"token": "t\r\nImpersonate-User: root"}, refused=True),
    Row("password", {"username": "u", "password": "p:w"}),
    Row("username-alone", {"username": "u"}),
    Row("password-alone", {"token": "t", "password": "p"}, refused=True),
    Row("password-alone-beside-a-token-file", files={
        "config": kubeconfig(cluster=CLUSTER, user={"tokenFile": "token", "password": "p"}),
        "token": "t"}),
    Row("token-beside-password", {"token": "t", "username": "u", "password": "p"}, refused=True),
    Row("token-file-beside-password", files={
        "config": kubeconfig(cluster=CLUSTER, user={"tokenFile": "token", "username": "u"}),
        "token": "t"}, refused=True),
    Row("login-in-the-url", {"token": "t"}, {"server": "https://u:p%40@${https_at}"}),
    Row("login-in-the-url-beside-a-certificate", {
        "token": "t", "client-certificate": "${certificate}", "client-key": "${key}"},
        {"server": "https://u:p@${https_at}"}),
    Row("certificate", {"client-certificate": "${certificate}", "client-key": "${key}"}),
    Row("certificate-as-data", {
        "client-certificate-data": "${certificate_data}", "client-key-data": "${key_data}"}),
    Row("certificate-and-key-data", {
        "client-certificate": "${certificate}", "client-key-data": "${key_data}"}),
    Row("certificate-and-token", {
        "client-certificate": "${certificate}", "client-key": "${key}", "token": "t"}),
    Row("certificate-without-key", {"client-certificate": "${certificate}"}, refused=True),
    Row("certificate-twice", {
        "client-certificate": "${certificate}", "client-certificate-data": "${certificate_data}",
        "client-key": "${key}"}, refused=True),
    Row("key-twice", {
        "client-certificate": "${certificate}", "client-key-data": "${key_data}",
        "client-key": "${key}"}, refused=True),
    Row("key-of-another", {
        "client-certificate": "${certificate}", "client-key": "${other_key}"}, refused=True),
    Row("nulls", {
        "token": "t", "client-certificate": None, "tokenFile": None, "exec": None, "as": None,
        "as-groups": None}, {"proxy-url": None, "extensions": None}),
    # As whom.
    Row("as", {"token": "t", "as": "jane"}),
    Row("as-all", {
        "token": "t", "as": "jane", "as-uid": "7", "as-groups": ["a", "b"],
        "as-user-extra": {"scopes": ["x", "y"], "example.com/a%b ü": ["z"]}}),
    Row("as-over-plain-http", {"as": "jane", "as-groups": ["a"]}, {"server": "${http}"}),
    Row("as-beyond-ascii", {"token": "tö", "as": "jäne ☃", "as-groups": [""]}),
    Row("groups-without-as", {"token": "t", "as-groups": ["a"]}, refused=True),
    Row("as-with-a-line-break", {"token": "t", "as": "a\nb"}, refused=True),
    # Where.
    Row("scheme-in-capitals", {"token": "t"}, {"server": "HTTPS://${https_at}"}),
    Row("slash-at-the-end", {"token": "t"}, {"server": "${https}/"}),
    Row("prefix", {"token": "t"}, {"server": "${https}/k8s/clusters/c-1"}),
    Row("prefix-to-be-cleaned", {"token": "t"}, {"server": "${https}//k8s/./a%20b/../ü c//"}),
    Row("query-and-fragment", {"token": "t"}, {"server": "${https}/k8s?a=b#c"}),
    Row("prefix-in-other-letters", {"token": "t"}, {"server": "${https}/a!(b)*;c=d%2Fe/../../f"}),
    Row("control-character", {"token": "t"}, {"server": "${https}/a\tb"}, refused=True),
    Row("address-in-brackets", {"token": "t"}, {"server": "https://[127.0.0.1]:${https_port}"},
        refused=True),
    Row("empty-login", {"token": "t"}, {"server": "https://@${https_at}"}),
    Row("plain-http", {"token": "t"}, {"server": "${http}"},
        differs="to this machine a token is sent over plain HTTP too, as a simulator needs it"),
    Row("no-scheme", cluster={"server": "${http_at}", "certificate-authority": ""}),
    Row("no-scheme-but-an-authority", cluster={"server": "${http_at}"}),
    Row("no-scheme-but-a-prefix", {"token": "t"},
        {"server": "${http_at}/k8s"}, refused=True),
    Row("no-server", {"token": "t"}, {"server": ""}, refused=True),
    Row("another-scheme", {"token": "t"}, {"server": "ftp://${https_at}"}, refused=True),
    Row("no-port-of-this-world", {"token": "t"},
        {"server": "https://127.0.0.1:99999"}, refused=True),
    Row("no-name-of-a-host", {"token": "t"}, {"server": "https://a..b"}, refused=True),
    Row("disable-compression", {"token": "t"}, {"disable-compression": True}),
    # Whom to trust.
    Row("authority-as-data", {"token": "t"}, {
        "certificate-authority": "", "certificate-authority-data": "${ca_data}"}),
    Row("authority-in-lines", {"token": "t"}, {
        "certificate-authority": "", "certificate-authority-data": "${ca_in_lines}"}),
    Row("key-of-1024-bits", {"token": "t"},
        {"server": "${weak}", "certificate-authority": "${weak_ca}"},
        differs="OpenSSL refuses RSA keys under 2048 bits, and nobody should need them"),
    Row("authority-without-identifiers", {"token": "t"},
        {"server": "${bare}", "certificate-authority": "${bare_ca}"}),
    *(
        Row(f"authority-{name}", files={
            "config": kubeconfig(cluster=CLUSTER | {"certificate-authority": "ca.pem"},
                                 user={"token": "t"}),
            "ca.pem": text}, refused=refused)
        for name, text, refused in (
            ("with-a-comment", "# CN=Főtanúsítvány\n${ca_pem}# the end\n", False),
            ("beside-a-damaged-one", f"{BLOCK.format('QUFB')}${{ca_pem}}", False),
            ("beside-a-key", "-----BEGIN PRIVATE KEY-----\nQUFB\n-----END PRIVATE KEY-----\n"
                             "${ca_pem}", False),
            ("that-is-damaged", BLOCK.format("QUFB"), True),
            ("that-is-none", "nothing", True),
            ("that-is-empty", "", True),
        )
    ),
    Row("the-server's-own-certificate", {"token": "t"},
        {"certificate-authority": "${server_certificate}"}),
    Row("another-authority", {"token": "t"},
        {"certificate-authority": "${other_ca}"}, refused=True),
    Row("the-system's-authorities", {"token": "t"},
        {"certificate-authority": ""}, refused=True),
    Row("absent-authority", {"token": "t"},
        {"certificate-authority": "absent"}, refused=True),
    Row("authority-twice", {"token": "t"},
        {"certificate-authority-data": "${ca_data}"}, refused=True),
    Row("insecure", {"token": "t"},
        {"certificate-authority": "", "insecure-skip-tls-verify": True}),
    Row("insecure-beside-authority", {"token": "t"},
        {"insecure-skip-tls-verify": True}, refused=True),
    Row("another-name", {"token": "t"}, {"server": "${elsewhere}"}, refused=True),
    Row("tls-server-name", {"token": "t"},
        {"server": "${elsewhere}", "tls-server-name": "elsewhere.test"}),
    Row("tls-server-name-with-a-dot", {"token": "t"}, {"tls-server-name": "API.cluster.test."}),
    Row("a-name-in-the-subject-alone", {"token": "t"},
        {"server": "https://localhost:${common_name_port}"},
        refused=True),
    Row("a-name", {"token": "t"}, {"server": "https://localhost:${https_port}"}),
    # Through what.
    Row("proxy", {"token": "t"}, {"server": API, "proxy-url": "${proxy}"}),
    Row("proxy-to-this-machine", {"token": "t"}, {"proxy-url": "${proxy}"}),
    Row("proxy-with-a-password", {"token": "t"},
        {"server": API, "proxy-url": "http://us%40er:pass@${proxy_at}"}),
    Row("proxy-with-a-user", {"token": "t"}, {"server": API, "proxy-url": "http://u@${proxy_at}"}),
    Row("proxy-in-capitals", {"token": "t"}, {"server": API, "proxy-url": "HTTP://${proxy_at}/"}),
    Row("proxy-and-certificate", {"client-certificate": "${certificate}", "client-key": "${key}"},
        {"server": "https://api.cluster.test", "proxy-url": "${proxy}"}),
    Row("proxy-and-tls-server-name", {"token": "t"},
        {"server": "https://any:1/k8s", "proxy-url": "${proxy}", "tls-server-name": "other.test"}),
    Row("proxy-and-usual-port", {"token": "t"},
        {"server": "https://api.cluster.test", "proxy-url": "${proxy}/path?query"}),
    Row("proxy-and-usual-port-in-full", {"token": "t"},
        {"server": "https://api.cluster.test:443", "proxy-url": "${proxy}"}),
    Row("proxy-and-a-name-beyond-ascii", {"token": "t"},
        {"server": "https://hö.test", "proxy-url": "${proxy}", "tls-server-name": "other.test"}),
    Row("proxy-and-an-address", {"token": "t"},
        {"server": "https://[fd00::1]", "proxy-url": "${proxy}", "tls-server-name": "other.test"}),
    Row("proxy-to-another-name", {"token": "t"},
        {"server": "https://any:1", "proxy-url": "${proxy}"}, refused=True),
    Row("proxy-to-plain-http", {"as": "jane"},
        {"server": f"{PLAIN}/k8s", "proxy-url": "http://u:p@${proxy_at}"}),
    Row("proxy-over-tls", {"token": "t"}, {"server": API, "proxy-url": "${secure_proxy}"}),
    Row("proxy-over-tls-and-certificate",
        {"client-certificate": "${certificate}", "client-key": "${key}"},
        {"server": API, "proxy-url": "https://u:p@localhost:${secure_proxy_port}"}),
    Row("proxy-over-tls-and-tls-server-name", {"token": "t"},
        {"server": API, "proxy-url": "${secure_proxy}", "tls-server-name": "other.test"}),
    Row("proxy-over-tls-without-trust", {"token": "t"},
        {"server": API, "proxy-url": "${secure_proxy}", "certificate-authority": "${other_ca}"},
        refused=True),
    Row("proxy-over-tls-to-plain-http", {"as": "jane"},
        {"server": PLAIN, "proxy-url": "${secure_proxy}"}, refused=True),
    Row("socks", {"token": "t"}, {"server": API, "proxy-url": "socks5://${socks_at}"}),
    Row("socks-to-an-address", {"token": "t"}, {"proxy-url": "socks5://${socks_at}"}),
    Row("socks-with-a-password", {"token": "t"},
        {"server": API, "proxy-url": "socks5://u:p@${socks_at}"}),
    Row("socks-with-a-wrong-password", {"token": "t"},
        {"server": API, "proxy-url": "socks5://u:wrong@${socks_at}"}, refused=True),
    Row("socks-to-plain-http", {"as": "jane"},
        {"server": PLAIN, "proxy-url": "socks5://${socks_at}"}, refused=True),
    Row("proxy-that-asks-who", {"token": "t"}, {"server": API, "proxy-url": "${refusing}"},
        refused=True),
    Row("proxy-that-forbids", {"token": "t"},
        {"server": API, "proxy-url": "http://403:p@${refusing_at}"}, refused=True),
    Row("proxy-that-asks-who-for-plain-http", {"as": "jane"},
        {"server": PLAIN, "proxy-url": "${refusing}"}, refused=True),
    Row("proxy-that-hangs", {"token": "t"}, {"server": API, "proxy-url": "${silent}"},
        hangs=True, refused=True),
    Row("proxy-that-is-not-there", {"token": "t"}, {"server": API, "proxy-url": "http://${closed}"},
        refused=True),
    Row("proxy-without-scheme", {"token": "t"}, {"server": API, "proxy-url": "${proxy_at}"},
        refused=True),
    Row("proxy-of-another-kind", {"token": "t"},
        {"server": API, "proxy-url": "socks4://${proxy_at}"}, refused=True),
    Row("HTTPS_PROXY", {"token": "t"}, {"server": API}, {"HTTPS_PROXY": "${proxy}"}),
    Row("https_proxy", {"token": "t"}, {"server": API}, {"https_proxy": "${proxy_at}"}),
    Row("both-cases", {"token": "t"}, {"server": API},
        {"https_proxy": "http://${closed}", "HTTPS_PROXY": "${proxy}"}),
    Row("HTTP_PROXY", {"as": "jane"}, {"server": PLAIN}, {"HTTP_PROXY": "${proxy}"}),
    Row("HTTP_PROXY-of-the-other-scheme", {"token": "t"}, environ={"HTTP_PROXY": "${proxy}"}),
    Row("HTTPS_PROXY-and-this-machine", {"token": "t"}, environ={"HTTPS_PROXY": "${proxy}"}),
    Row("HTTPS_PROXY-and-localhost", {"token": "t"},
        {"server": "https://localhost:${https_port}"}, {"HTTPS_PROXY": "${proxy}"}),
    Row("HTTPS_PROXY-beside-proxy-url", {"token": "t"}, {"server": API, "proxy-url": "${proxy}"},
        {"HTTPS_PROXY": "http://${closed}", "NO_PROXY": "*"}),
    Row("HTTPS_PROXY-that-speaks-SOCKS", {"token": "t"}, {"server": API},
        {"HTTPS_PROXY": "socks5://${socks_at}"}),
    Row("HTTPS_PROXY-that-speaks-SOCKS-and-looks-up-names", {"token": "t"}, {"server": API},
        {"HTTPS_PROXY": "socks5h://${socks_at}"}),
    Row("NO_PROXY", {"token": "t"}, {"server": API},
        {"HTTPS_PROXY": "${proxy}", "NO_PROXY": "a.test, .cluster.test"}, refused=True),
    Row("NO_PROXY-of-others", {"token": "t"}, {"server": API},
        {"HTTPS_PROXY": "${proxy}", "no_proxy": "luster.test,api.cluster.test:443,10.0.0.0/8"}),
    # From where.
    Row("joined", files={
        "one.yaml": {"contexts": kubeconfig()["contexts"], "current-context": "x"},
        "two.yaml": kubeconfig(cluster=CLUSTER, user={"token": "t"}) | {"current-context": "y"},
    }, kubeconfig="one.yaml:two.yaml"),
    Row("joined-the-first-counts", files={
        "one.yaml": {"clusters": [{"name": "c", "cluster": CLUSTER}],
                     "users": [{"name": "u", "user": {"token": "first"}}]},
        "two.yaml": kubeconfig(cluster={"server": "https://127.0.0.1:1"}, user={
            "token": "second", "as": "jane"}),
    }, kubeconfig="one.yaml:two.yaml"),
    Row("joined-with-an-absent-and-an-empty-one", files={
        "empty": "", "b/config": kubeconfig(cluster=CLUSTER, user={"tokenFile": "token"}),
        "b/token": "beside b",
    }, kubeconfig="absent:empty:b/config"),
    Row("joined-with-a-broken-one", files={
        "one.yaml": "a: [", "two.yaml": kubeconfig(cluster=CLUSTER, user={"token": "t"}),
    }, kubeconfig="one.yaml:two.yaml", refused=True),
    Row("joined-and-all-absent", files={"none": ""}, kubeconfig="absent:away", refused=True),
    Row("a-name-twice", files={
        "config": kubeconfig(cluster=CLUSTER) | {
            "users": [{"name": "u", "user": {"token": "1"}}, {"name": "u", "user": {"token": "2"}}]}
    }, refused=True),
    Row("an-unused-entry-that-is-broken", files={
        "config": kubeconfig(cluster=CLUSTER) | {
            "users": [{"name": "u", "user": {}}, {"name": "v", "user": {"token": 7}}]}
    }, refused=True),
    Row("no-current-context", files={
        "config": kubeconfig(cluster=CLUSTER, user={}) | {"current-context": ""}}, refused=True),
    Row("no-such-user", files={"config": kubeconfig(cluster=CLUSTER)}, refused=True),
    Row("no-user", files={
        "config": kubeconfig(cluster=CLUSTER)
        | {"contexts": [{"name": "x", "context": {"cluster": "c"}}]}
    }, refused=True, differs="a context without a user logs nobody in"),
    *(
        Row(f"yaml-{name}", files={"config": YAML.replace(old, new) if old else new},
            refused=refused)
        for name, old, new, refused in (
            ("as-usual", "", YAML, False),
            ("names-that-are-dates", "2024-06-01", "2024-06-02", False),
            ("token-that-is-a-number", "token: t", "token: 12", True),
            ("token-that-is-a-date", "token: t", "token: 2024-06-01", False),
            ("first-of-two-documents", "", YAML + "---\n" + YAML.replace("token: t", "token: s"),
             False),
            ("token-that-is-binary", "token: t", "token: !!binary dOQ=", False),
            ("merged", "{token: t}", "{<<: {token: t}}", False),
            ("byte-order-mark", "", "\ufeff" + YAML, False),
            ("carriage-returns", "\n", "\r\n", False),
            ("tab", "  user: {", "\tuser: {", True),
            ("yes", "certificate-authority: ${ca}", "insecure-skip-tls-verify: yes", False),
            ("quoted-true", "certificate-authority: ${ca}", "insecure-skip-tls-verify: 'true'",
             True),
            ("of-another-kind", "Config", "Pod", True),
            ("of-another-version", "v1", "v2", True),
            ("without-kind", "kind: Config", "extra: 1", False),
            ("a-name-twice-in-a-map", "token: t", "token: s, token: t", False),
            ("nothing-but-a-comment", "", "# nothing\n", True),
        )
    ),
    # By whose word.
    Row("plugin", plugin(TOKEN)),
    Row("plugin-with-a-certificate", plugin("${issued_pair}")),
    Row("plugin-beside-a-token", plugin(TOKEN) | {"token": "t"}),
    Row("plugin-beside-a-certificate",
        plugin(TOKEN) | {"client-certificate": "${certificate}", "client-key": "${key}"}),
    Row("plugin-that-is-told-of-the-cluster", plugin(TOKEN, provideClusterInfo=True), {
        "server": API, "proxy-url": "http://u:p@${proxy_at}", "tls-server-name": "other.test",
        "disable-compression": True, "extensions": [
            {"name": "other", "extension": {"a": 1}},
            {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}}]}),
    Row("plugin-that-is-told-of-an-insecure-cluster", plugin(TOKEN, provideClusterInfo=True),
        {"certificate-authority": "", "insecure-skip-tls-verify": True}),
    Row("plugin-and-as", plugin(TOKEN) | {"as": "jane"}),
    Row("plugin-that-says-null", plugin(
        '{"token": "t", "clientCertificateData": null, "clientKeyData": null}')),
    Row("plugin-without-a-status", plugin("null"), refused=True),
    Row("plugin-that-gives-nothing", plugin("{}"), refused=True),
    Row("plugin-with-half-a-pair", plugin('{"clientKeyData": "k"}'), refused=True),
    Row("plugin-of-another-version",
        plugin(TOKEN, version="client.authentication.k8s.io/v1beta1"), refused=True),
    Row("plugin-without-version", plugin(TOKEN, apiVersion=""), refused=True),
    Row("plugin-of-an-old-version",
        plugin(TOKEN, apiVersion="client.authentication.k8s.io/v1alpha1"), refused=True),
    Row("plugin-that-names-no-kind", printing(ANSWER.replace('"kind": "ExecCredential", ', ""))),
    Row("plugin-that-names-another-kind", printing(ANSWER.replace("ExecC", "C")), refused=True),
    Row("plugin-with-a-token-that-is-no-text", printing(ANSWER.replace("issued", "i\\377"))),
    Row("plugin-that-answers-in-yaml", printing(
        f"apiVersion: {V1}\nkind: ExecCredential\nstatus: {{token: t}}")),
    Row("plugin-that-fails-behind-its-answer", printing(ANSWER, "exit 1"), refused=True),
    Row("plugin-that-is-killed-behind-its-answer", printing(ANSWER, "kill -9 $$"), refused=True),
    Row("plugin-that-says-more", printing(ANSWER + " x"), refused=True),
    Row("plugin-that-fails", plugin(TOKEN, env=[{"name": "CODE", "value": "3"}]), refused=True),
    Row("plugin-that-is-absent", plugin(TOKEN, command="./absent"), refused=True),
    Row("plugin-that-needs-a-person", plugin(TOKEN, interactiveMode="Always"), refused=True),
    Row("plugin-without-a-mode", plugin(TOKEN, interactiveMode=""), refused=True),
    Row("plugin-beside-auth-provider", plugin(TOKEN) | {"auth-provider": {"name": "oidc"}},
        refused=True),
    Row("plugin-over-plain-http", plugin(TOKEN), {"server": PLAIN, "proxy-url": "${proxy}"}),
]  # fmt: skip


Outcomes = Mapping[str, tuple[Outcome | None, Outcome]]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What came of each row: with kubectl where there is one, and with ours."""
    certificates = Certificates(tmp_path_factory.mktemp("certificates"))

    async def run(row: Row, room: asyncio.Semaphore) -> tuple[Outcome | None, Outcome]:
        async with room:
            return await Scene(row, tmp_path_factory.mktemp("row"), certificates).run()

    async def run_all() -> list[tuple[Outcome | None, Outcome]]:
        room = asyncio.Semaphore(AT_ONCE)
        return await asyncio.gather(*(run(row, room) for row in ROWS))

    return dict(zip((row.name for row in ROWS), asyncio.run(run_all()), strict=True))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_it_is_answered_or_refused(row: Row, outcomes: Outcomes) -> None:
    """As it is written down of kubectl, which need not be there."""
    _, ours = outcomes[row.name]
    assert row.differs or ours.answered == (not row.refused), ours.said


@pytest.mark.skipif(
    not KUBECTL.exists(), reason="no kubectl: set KUBEBUILDER_ASSETS to a folder with it"
)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_it_has_the_effect_that_it_has_with_kubectl(row: Row, outcomes: Outcomes) -> None:
    """Or another one, for a reason that is written down."""
    kubectl, ours = outcomes[row.name]
    assert kubectl is not None
    assert kubectl.answered == (not row.refused), kubectl.said
    same = (ours.answered, ours.seen) == (kubectl.answered, kubectl.seen)
    assert same == (not row.differs), f"{ours}\n{kubectl}"
