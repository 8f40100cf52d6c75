"""Credentials from a kubeconfig file.

The file is read here, and not by the `kubernetes` package, because importing that takes longer than
the first report may. Only a user with an exec plugin or an auth provider needs it (`plugins`).
"""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from osmo_listener.errors import KubeconfigError
from osmo_listener.kubernetes.credentials import Credentials, Plugin, Secret, read_file
from osmo_listener.kubernetes.http import Endpoint
from osmo_listener.kubernetes.nulls import without_nulls
from osmo_transport.errors import MissingExtraError

_T = TypeVar("_T")
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class _Cluster(msgspec.Struct, rename="kebab"):
    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""


class _User(msgspec.Struct, rename="kebab"):
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    token: str = ""
    token_file: str = msgspec.field(name="tokenFile", default="")
    username: str = ""
    password: str = ""
    impersonate: str = msgspec.field(name="as", default="")
    exec: dict[str, Any] | None = None
    auth_provider: dict[str, Any] | None = None


class _Context(msgspec.Struct):
    cluster: str = ""
    user: str = ""
    namespace: str = ""


class _NamedCluster(msgspec.Struct):
    name: str
    cluster: dict[str, Any]


class _NamedUser(msgspec.Struct):
    name: str
    user: _User | None = None


class _NamedContext(msgspec.Struct):
    name: str
    context: _Context


class _Kubeconfig(msgspec.Struct, rename="kebab"):
    clusters: list[_NamedCluster] | None = None
    users: list[_NamedUser] | None = None
    contexts: list[_NamedContext] | None = None
    current_context: str = ""


def load_kubeconfig(path: Path, context: str | None = None) -> Credentials:
    """The credentials of `context` (default: the file's current one) in the kubeconfig `path`.

    Raises:
        KubeconfigError: absent, unreadable, or not usable; the text says what to change.
        MissingExtraError: the `kubernetes` extra is not installed.
    """
    config = _parse(path)
    name = context or config.current_context
    if not name:
        raise KubeconfigError(f"{path} sets no current-context: name the context to use")
    contexts = {each.name: each.context for each in config.contexts or ()}
    chosen = _find(contexts, name, f"context in {path}")
    clusters = {each.name: each.cluster for each in config.clusters or ()}
    raw = _find(clusters, chosen.cluster, f"cluster in {path}")
    users = {each.name: each.user or _User() for each in config.users or ()}
    user = _find(users, chosen.user, f"user in {path}") if chosen.user else _User()
    cluster = _convert(path, raw)
    for setting, value in (("proxy-url", cluster.proxy_url), ("as", user.impersonate)):
        if value:
            raise KubeconfigError(
                f"context {name!r} in {path} sets {setting}, which is not supported: remove it"
            )
    secure, endpoint = _endpoint(path, cluster)
    credentials = Credentials(
        endpoint=endpoint,
        secure=secure,
        verify=not cluster.insecure_skip_tls_verify,
        namespace=chosen.namespace or None,
        ca=_secret(path, cluster.certificate_authority, cluster.certificate_authority_data),
        certificate=_secret(path, user.client_certificate, user.client_certificate_data),
        key=_secret(path, user.client_key, user.client_key_data),
        token_file=path.parent / user.token_file if user.token_file else None,
        authorization=_authorization(user),
        plugin=_plugin(path, name, user, raw),
    )
    secret = credentials.authorization or credentials.token_file or credentials.plugin
    if secret and not secure and endpoint.host not in _LOOPBACK:
        raise KubeconfigError(
            f"context {name!r} in {path} would send credentials unencrypted to {endpoint.host}:"
            " its server must be an https:// URL"
        )
    return credentials


def _parse(path: Path) -> _Kubeconfig:
    content = read_file(path, "kubeconfig")
    try:
        in_json = content.lstrip().startswith(b"{")
        decoded = msgspec.json.decode(content) if in_json else msgspec.yaml.decode(content)
        return msgspec.convert(without_nulls(decoded), _Kubeconfig)
    except ImportError as exc:
        raise MissingExtraError(
            "reading a kubeconfig needs PyYAML: pip install 'osmo-pipeline[kubernetes]'"
        ) from exc
    except msgspec.ValidationError as exc:
        raise KubeconfigError(f"{path} is no kubeconfig: {exc}") from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The parser's own text may quote the line, and so a secret.
        raise KubeconfigError(f"{path} is no kubeconfig: it is not valid YAML") from None


def _convert(path: Path, cluster: dict[str, Any]) -> _Cluster:
    try:
        return msgspec.convert(cluster, _Cluster)
    except msgspec.ValidationError as exc:
        raise KubeconfigError(f"{path} is no kubeconfig: {exc}") from exc


def _find(entries: Mapping[str, _T], name: str, what: str) -> _T:
    if name not in entries:
        known = ", ".join(entries) or "none"
        raise KubeconfigError(f"no {what} is named {name!r}; there is: {known}")
    return entries[name]


def _endpoint(path: Path, cluster: _Cluster) -> tuple[bool, Endpoint]:
    scheme, _, rest = cluster.server.partition("://")
    authority, slash, base = rest.partition("/")
    host, colon, port = authority.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = authority, "443" if scheme == "https" else "80"
    host = host.removeprefix("[").removesuffix("]")
    if scheme not in {"http", "https"} or not host or not port.isdecimal():
        raise KubeconfigError(
            f"{path} names the server {cluster.server!r}: it must be https://HOST:PORT"
        )
    return scheme == "https", Endpoint(
        host=host,
        port=int(port),
        base_path=f"{slash}{base}".rstrip("/"),
        tls_server_name=cluster.tls_server_name or None,
    )


def _secret(config: Path, file: str, data: str) -> Secret | None:
    if data:
        try:
            # Line breaks are no part of it, as for Go.
            return base64.b64decode(data.replace("\r", "").replace("\n", ""), validate=True)
        except binascii.Error as exc:
            raise KubeconfigError(f"{config} holds certificate data that is no base64") from exc
    return config.parent / file if file else None


def _authorization(user: _User) -> str | None:
    if user.token:
        return f"Bearer {user.token}"
    if user.username:
        pair = base64.b64encode(f"{user.username}:{user.password}".encode()).decode()
        return f"Basic {pair}"
    return None


def _plugin(path: Path, context: str, user: _User, cluster: dict[str, Any]) -> Plugin | None:
    if user.exec is None and user.auth_provider is None:
        return None
    from osmo_listener.kubernetes import plugins  # noqa: PLC0415

    if user.exec is not None:
        return plugins.exec_plugin(user.exec, _told_to_plugins(path, cluster), path.parent)
    return plugins.auth_provider(path, context)


def _told_to_plugins(path: Path, cluster: dict[str, Any]) -> dict[str, Any]:
    """What a plugin is told of the cluster that asks for it: it does not look for our files."""
    told = dict(cluster)
    if file := told.pop("certificate-authority", ""):
        content = read_file(path.parent / file, "certificate-authority")
        told.setdefault("certificate-authority-data", base64.b64encode(content).decode())
    return told
