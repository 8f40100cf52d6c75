"""Credentials from kubeconfig files, to the effect that they have with kubectl.

The files are read here, and not by the `kubernetes` package, because importing that takes longer
than the first report may. Only a user with an auth provider needs it (`auth_providers`).
"""

import base64
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from osmo_listener.errors import KubeconfigError
from osmo_listener.kubernetes.connecting import Endpoint
from osmo_listener.kubernetes.credentials import Credentials, Plugin
from osmo_listener.kubernetes.kubeconfig_files import (
    Cluster,
    User,
    conflict,
    find,
    read_kubeconfig,
)
from osmo_listener.kubernetes.plugins import exec_plugin
from osmo_listener.kubernetes.proxies import Proxy, basic, environment_proxy, parse_proxy
from osmo_listener.kubernetes.servers import Server, parse_server
from osmo_listener.kubernetes.trust import Secret, read_file

logger = logging.getLogger(__name__)

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}

_FOR_PLUGINS = "client.authentication.k8s.io/exec"
"""Names the extension of a cluster that its plugins are told."""

_NO_TOKEN = re.compile(r"[^A-Za-z0-9!#$&'*+.^_`|~-]")
"""What no header's name holds, and `%`, with which it is written."""


def load_kubeconfig(
    path: Path, context: str | None = None, environ: Mapping[str, str] | None = None
) -> Credentials:
    """The credentials of a context in a kubeconfig.

    Args:
        path: the file, or several joined as in kubectl's KUBECONFIG (`a.yaml:b.yaml`): the first
            that names a context, a cluster or a user counts, and those that are absent are skipped.
        context: None: the current one.
        environ: where HTTPS_PROXY, HTTP_PROXY and NO_PROXY are looked up, for clusters without a
            `proxy-url`; None: nowhere.

    Raises:
        KubeconfigError: absent, unreadable, or not usable; the text says what to change.
        MissingExtraError: the `kubernetes` extra is not installed.
    """
    config = read_kubeconfig(path)
    name = context or config.current_context
    if not name:
        raise KubeconfigError(f"{path} sets no current-context: name the context to use")
    chosen = find(config.contexts, name, f"context in {path}")
    cluster = find(config.clusters, chosen.cluster, f"cluster in {path}")
    user = find(config.users, chosen.user, f"user in {path}") if chosen.user else User()
    if problem := conflict(cluster, user):
        raise KubeconfigError(f"context {name!r} in {path} sets {problem}")
    server = parse_server(cluster.server, f"the server of context {name!r} in {path}")
    endpoint = Endpoint(
        host=server.host,
        port=server.port,
        authority=server.authority,
        base_path=server.base_path,
        tls_server_name=cluster.tls_server_name or None,
        proxy=_proxy(path, cluster, server, environ or {}),
    )
    credentials = Credentials(
        endpoint=endpoint,
        secure=server.secure,
        verify=not cluster.insecure_skip_tls_verify,
        namespace=chosen.namespace or None,
        ca=_secret(cluster.certificate_authority, cluster.certificate_authority_data),
        authorization=server.authorization,
        impersonation=_impersonation(user),
    )
    if not server.secure and server.host not in _LOOPBACK:
        if user.token or user.token_file or user.username or user.exec or user.auth_provider:
            logger.warning(
                "the server of context %r in %s is a plain http:// one: as with kubectl, the user's"
                " credentials are not sent to it",
                *(name, path),
            )
    else:
        _log_in(credentials, user)
        if not (credentials.authorization or credentials.token_file or credentials.certificate):
            credentials.plugin = _plugin(path, name, cluster, user)
    return credentials


def _log_in(credentials: Credentials, user: User) -> None:
    """Give credentials what the file says of a user."""
    credentials.certificate = _secret(user.client_certificate, user.client_certificate_data)
    credentials.key = _secret(user.client_key, user.client_key_data)
    if credentials.authorization:
        return  # the server's URL has said it
    credentials.token_file = Path(user.token_file) if user.token_file else None
    if user.token:
        credentials.authorization = f"Bearer {user.token}"
    elif user.username:
        credentials.authorization = basic(user.username, user.password)


def _proxy(
    path: Path, cluster: Cluster, server: Server, environ: Mapping[str, str]
) -> Proxy | None:
    if cluster.proxy_url:
        return parse_proxy(cluster.proxy_url, f"proxy-url in {path}")
    return environment_proxy(environ, server.host, server.port, secure=server.secure)


def _secret(file: str, data: str) -> Secret | None:
    if data:
        try:
            # Line breaks are no part of it, as for Go.
            return base64.b64decode(data.replace("\r", "").replace("\n", ""), validate=True)
        except ValueError as exc:
            raise KubeconfigError(
                "the kubeconfig holds certificate data that is no base64"
            ) from exc
    return Path(file) if file else None


def _impersonation(user: User) -> dict[str, str | tuple[str, ...]]:
    if not user.act_as:
        return {}
    headers: dict[str, str | tuple[str, ...]] = {"Impersonate-User": user.act_as}
    if user.as_uid:
        headers["Impersonate-Uid"] = user.as_uid
    if user.as_groups:
        headers["Impersonate-Group"] = tuple(user.as_groups)
    for key, values in user.as_user_extra.items():
        headers[f"Impersonate-Extra-{_escaped(key)}"] = tuple(values)
    return headers


def _escaped(key: str) -> str:
    # Byte by byte, each as a character of its own.
    text = key.encode().decode("latin-1")
    return _NO_TOKEN.sub(lambda match: f"%{ord(match[0]):02X}", text)


def _plugin(path: Path, context: str, cluster: Cluster, user: User) -> Plugin | None:
    if user.exec is not None:
        told = _told_to_plugins(cluster) if user.exec.provide_cluster_info else {}
        return exec_plugin(user.exec, told)
    if user.auth_provider is None:
        return None
    from osmo_listener.kubernetes.auth_providers import auth_provider  # noqa: PLC0415

    return auth_provider(str(path), context)


def _told_to_plugins(cluster: Cluster) -> dict[str, Any]:
    """What a plugin is told of the cluster that asks for it: it does not look for our files."""
    ca = _secret(cluster.certificate_authority, cluster.certificate_authority_data)
    if isinstance(ca, Path):
        ca = read_file(ca, "certificate-authority")
    extensions = {each.name: each.extension for each in cluster.extensions}
    told = {
        "server": cluster.server,
        "tls-server-name": cluster.tls_server_name,
        "insecure-skip-tls-verify": cluster.insecure_skip_tls_verify,
        "certificate-authority-data": base64.b64encode(ca).decode() if ca else "",
        "proxy-url": cluster.proxy_url,
        "disable-compression": cluster.disable_compression,
        "config": extensions.get(_FOR_PLUGINS),
    }
    return {name: value for name, value in told.items() if value}
