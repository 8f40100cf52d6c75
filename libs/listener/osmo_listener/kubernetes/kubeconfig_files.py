"""What kubeconfig files say, one or several joined, before it is made into credentials."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from osmo_listener.errors import KubeconfigError
from osmo_listener.kubernetes.documents import decode_document
from osmo_listener.kubernetes.plugins import ExecConfig
from osmo_listener.kubernetes.trust import read_file

_T = TypeVar("_T")


class Extension(msgspec.Struct):
    """What somebody adds to a cluster under a name of his."""

    name: str = ""
    extension: Any = None


class Cluster(msgspec.Struct, rename="kebab"):
    """Where a server is, and how it is trusted."""

    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""
    disable_compression: bool = False
    """Answers are never asked for in a compressed form; it is what plugins are told."""
    extensions: list[Extension] = []


class User(msgspec.Struct, rename="kebab"):
    """Who logs in, and as whom he acts."""

    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    token: str = ""
    token_file: str = msgspec.field(name="tokenFile", default="")
    username: str = ""
    password: str = ""
    act_as: str = msgspec.field(name="as", default="")
    as_uid: str = ""
    as_groups: list[str] = []
    as_user_extra: dict[str, list[str]] = {}
    exec: ExecConfig | None = None
    auth_provider: dict[str, Any] | None = None


class Context(msgspec.Struct):
    """Which user at which cluster."""

    cluster: str = ""
    user: str = ""
    namespace: str = ""


class _NamedCluster(msgspec.Struct):
    name: str = ""
    cluster: Cluster = msgspec.field(default_factory=Cluster)


class _NamedUser(msgspec.Struct):
    name: str = ""
    user: User = msgspec.field(default_factory=User)


class _NamedContext(msgspec.Struct):
    name: str = ""
    context: Context = msgspec.field(default_factory=Context)


class _Kubeconfig(msgspec.Struct, rename="kebab"):
    api_version: str = msgspec.field(name="apiVersion", default="v1")
    kind: str = "Config"
    clusters: list[_NamedCluster] = []
    users: list[_NamedUser] = []
    contexts: list[_NamedContext] = []
    current_context: str = ""


class Kubeconfig(NamedTuple):
    """What files say together: of each name, what the first with it says. Paths that are relative
    in a file are relative to its folder."""

    clusters: dict[str, Cluster]
    users: dict[str, User]
    contexts: dict[str, Context]
    current_context: str


def read_kubeconfig(path: Path) -> Kubeconfig:
    """Read a file, or several joined as in KUBECONFIG.

    Raises:
        KubeconfigError: one is no kubeconfig, or all are absent.
    """
    # A name with a colon in it may be that of one file.
    names = [str(path)] if path.exists() else [each for each in str(path).split(os.pathsep) if each]
    files = [Path(each).expanduser() for each in names]
    parsed = [_parse(each) for each in [each for each in files if each.exists()] or files[:1]]
    joined = Kubeconfig(
        {}, {}, {}, next((c.current_context for c in parsed if c.current_context), "")
    )
    for config in reversed(parsed):
        joined.clusters.update((each.name, each.cluster) for each in config.clusters)
        joined.users.update((each.name, each.user) for each in config.users)
        joined.contexts.update((each.name, each.context) for each in config.contexts)
    return joined


def conflict(cluster: Cluster, user: User) -> str | None:
    """What kubectl refuses, because it could mean two things."""
    ca = cluster.certificate_authority or cluster.certificate_authority_data
    certificate = user.client_certificate or user.client_certificate_data
    key = user.client_key or user.client_key_data
    password = user.username or (user.token and user.password)
    impersonation = user.as_uid or user.as_groups or user.as_user_extra
    conflicts = {
        "certificate-authority beside certificate-authority-data: remove one": (
            cluster.certificate_authority and cluster.certificate_authority_data
        ),
        "insecure-skip-tls-verify beside a certificate-authority: remove one": (
            cluster.insecure_skip_tls_verify and ca
        ),
        "client-certificate beside client-certificate-data: remove one": (
            user.client_certificate and user.client_certificate_data
        ),
        "client-key beside client-key-data: remove one": (
            certificate and user.client_key and user.client_key_data
        ),
        "client-certificate without client-key: add the key": certificate and not key,
        "a token beside a username or a password: remove one": (
            (user.token or user.token_file) and password
        ),
        "exec beside auth-provider: remove one": user.exec and user.auth_provider,
        "as-uid, as-groups or as-user-extra without as: name the user": (
            impersonation and not user.act_as
        ),
    }
    return next((text for text, is_so in conflicts.items() if is_so), None)


def _parse(path: Path) -> _Kubeconfig:
    content = read_file(path, "kubeconfig")
    if not content:
        return _Kubeconfig()
    try:
        config = msgspec.convert(decode_document(content), _Kubeconfig)
    except (ValueError, msgspec.ValidationError) as exc:
        raise KubeconfigError(f"{path} is no kubeconfig: {exc}") from exc
    if (config.api_version or "v1", config.kind or "Config") != ("v1", "Config"):
        raise KubeconfigError(
            f"{path} is no kubeconfig: it is a {config.kind!r} of version {config.api_version!r}"
        )
    for entries in (config.clusters, config.users, config.contexts):
        names = [each.name for each in entries]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise KubeconfigError(f"{path} names {twice!r} twice: remove one of them")
    for each in config.clusters:
        _resolve(each.cluster, path.parent, "certificate_authority")
    for named in config.users:
        _resolve(named.user, path.parent, "client_certificate", "client_key", "token_file")
        # Without a slash, a command is looked for in PATH.
        if named.user.exec and os.sep in named.user.exec.command:
            _resolve(named.user.exec, path.parent, "command")
    return config


def _resolve(entry: msgspec.Struct, folder: Path, *fields: str) -> None:
    for field in fields:
        if file := getattr(entry, field):
            if "\0" in file:
                raise KubeconfigError(
                    f"the {field.replace('_', '-')} {file!r} of the kubeconfig holds a NUL, which"
                    " no name of a file can hold"
                )
            setattr(entry, field, str(folder.absolute() / file))


def find(entries: Mapping[str, _T], name: str, what: str) -> _T:
    """The entry of a name.

    Raises:
        KubeconfigError: there is none; the text says which there are.
    """
    if name not in entries:
        known = ", ".join(entries) or "none"
        raise KubeconfigError(f"no {what} is named {name!r}; there is: {known}")
    return entries[name]
