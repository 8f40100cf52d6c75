"""Kubeconfig files, and what credential plugins answer."""

import tempfile
from pathlib import Path
from typing import Any

from msgspec import inspect as kinds

from osmo_listener.errors import KubeconfigError
from osmo_listener.kubernetes.kubeconfig import load_kubeconfig
from osmo_listener.kubernetes.kubeconfig_files import Cluster, User, _Kubeconfig
from osmo_listener.kubernetes.plugins import _Credential, _issued, _PluginError
from tests.fuzz.draw import Draw, Typed
from tests.fuzz.family import Family
from tests.transport.fuzz.frames import AS_JSON

_VERSION = "client.authentication.k8s.io/v1"
_KUBECONFIG, _CREDENTIAL = Typed(_Kubeconfig), Typed(_Credential)
_CLUSTER, _USER = Typed(Cluster), Typed(User)

_YAML = (
    b"""apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: k, user: u, namespace: n}}]
clusters:
- name: k
  cluster: &k {server: "https://10.0.0.1:6443", certificate-authority-data: QQ==}
users:
- name: u
  user: {token: &t secret, as: someone, as-groups: [g], as-user-extra: {a: [b]}}
""",
    b"""current-context: 2026-01-02
contexts: [{name: 2026-01-02, context: {cluster: k, user: u}}]
clusters: [{name: k, cluster: {<<: &a {server: "http://localhost"}, proxy-url: "http://p"}}]
users: [{name: u, user: {exec: {command: x, apiVersion: client.authentication.k8s.io/v1}}}]
""",
)
_BOMBS = tuple(
    b"a0: &a0 {x: y}\n"
    + b"".join(
        b"a%d: &a%d %s\n" % (level, level, form.replace(b"*", b"*a%d" % (level - 1)))
        for level in range(1, 40)
    )
    + _YAML[0]
    for form in (b"[*, *]", b"{x: *, y: *}", b"{<<: [*, *]}")
)

_file = Path(tempfile.mkdtemp(prefix="osmo-fuzz-")) / "config"


def _make(draw: Draw) -> bytes:
    if draw.often(0.3):
        return draw.like(_YAML if draw.often(0.9) else _BOMBS)
    whole = draw.of(_KUBECONFIG.kind)
    if isinstance(whole, dict) and draw.often(0.8):
        whole |= {"apiVersion": "v1", "kind": "Config", "current-context": "c"}
        context = {"name": "c", "context": {"cluster": "k", "user": "u"}}
        whole["contexts"] = [context]
        server = {"server": draw.choice(("https://10.0.0.1:6443", str(draw.text())))}
        whole["clusters"] = [{"name": "k", "cluster": _entry(draw, _CLUSTER.kind, server)}]
        whole["users"] = [{"name": "u", "user": _entry(draw, _USER.kind, {})}]
    return AS_JSON.encode(whole)


def _entry(draw: Draw, kind: kinds.Type, fixed: dict[str, str]) -> dict[str, Any]:
    """One with few fields, because most do not go with each other."""
    made = draw.of(kind)
    if isinstance(made, dict):
        names = draw.sample(sorted(made), min(len(made), draw.randrange(3)))
        made = {name: made[name] for name in names} | fixed
    return made if isinstance(made, dict) else {}


def _read(content: bytes) -> None:
    _file.write_bytes(content)
    load_kubeconfig(_file)


def _make_answer(draw: Draw) -> bytes:
    answer = draw.of(_CREDENTIAL.kind)
    if isinstance(answer, dict):
        answer |= {"apiVersion": _VERSION, "kind": "ExecCredential"}
    data = AS_JSON.encode(answer)
    return draw.like([data]) if draw.often(0.3) else data


def _read_answer(answer: bytes) -> None:
    _issued(answer, _VERSION)


FILES = Family(_make, _read, (KubeconfigError,))
PLUGINS = Family(_make_answer, _read_answer, (_PluginError,))
