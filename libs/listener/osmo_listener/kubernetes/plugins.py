"""Credential plugins: the commands that a kubeconfig's `exec` sections name."""

import os
import subprocess
import sys
from datetime import datetime
from typing import Any

import msgspec

from osmo_listener.errors import KubeconfigError
from osmo_listener.kubernetes.credentials import PLUGIN_TIMEOUT, Issued, Plugin
from osmo_listener.kubernetes.documents import decode_document

_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")

_SAID = 500
"""Characters of what a plugin says at its end that are told: enough for a line or two."""


_encode = msgspec.json.Encoder().encode


class _Variable(msgspec.Struct):
    name: str
    value: str = ""


class ExecConfig(msgspec.Struct, rename="camel"):
    """The `exec` section of a user."""

    command: str = ""
    args: list[str] = []
    env: list[_Variable] = []
    api_version: str = ""
    install_hint: str = ""
    provide_cluster_info: bool = False
    interactive_mode: str = "IfAvailable"


class _Status(msgspec.Struct, rename="camel"):
    token: str = ""
    client_certificate_data: str = ""
    client_key_data: str = ""
    expiration_timestamp: str = ""


class _Credential(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str = "ExecCredential"
    status: _Status = msgspec.field(default_factory=_Status)


class _PluginError(Exception):
    """Why a plugin gave nothing."""


def exec_plugin(
    config: ExecConfig, cluster: dict[str, Any], timeout: float = PLUGIN_TIMEOUT
) -> Plugin:
    """Runs the command of an `exec` section.

    Args:
        config: the section.
        cluster: what a plugin is told of the cluster, if it asks for it.
        timeout: seconds after which it is killed.

    Raises:
        KubeconfigError: the section cannot be used.
    """
    if not config.command or config.api_version not in _VERSIONS:
        raise KubeconfigError(
            "the exec section of the kubeconfig's user has to name a command, and as apiVersion"
            f" one of {', '.join(_VERSIONS)}"
        )
    if config.interactive_mode not in {"Never", "IfAvailable", "Always"}:
        raise KubeconfigError(
            "interactiveMode of the kubeconfig's exec section must be Never, IfAvailable or Always"
        )
    told = {"cluster": cluster} if config.provide_cluster_info else {}

    def ask() -> Issued:
        try:
            return _issued(_run(config, told, timeout), config.api_version)
        except _PluginError as exc:
            raise KubeconfigError(
                f"the credential plugin {config.command!r} of the kubeconfig failed: {exc}"
            ) from exc

    return ask


def _run(config: ExecConfig, told: dict[str, Any], timeout: float) -> bytes:
    terminal = sys.stdin is not None and sys.stdin.isatty()
    if config.interactive_mode == "Always" and not terminal:
        raise _PluginError("it asks a person, and there is no terminal (interactiveMode: Always)")
    interactive = terminal and config.interactive_mode != "Never"
    asking = {
        "apiVersion": config.api_version,
        "kind": "ExecCredential",
        "spec": {"interactive": interactive, **told},
    }
    environment = {each.name: each.value for each in config.env}
    try:
        done = subprocess.run(  # noqa: S603 - what the user's kubeconfig names
            [config.command, *config.args],
            env={**os.environ, **environment, "KUBERNETES_EXEC_INFO": _encode(asking).decode()},
            stdin=None if interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            # Who is asked there for a password has to see the question.
            stderr=None if interactive else subprocess.PIPE,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise _PluginError(f"it gave no answer in {timeout:g} s") from exc
    except (OSError, ValueError) as exc:
        hint = f"; {config.install_hint}" if config.install_hint else ""
        raise _PluginError(f"{exc}{hint}") from exc
    if done.returncode:
        said = (done.stderr or b"").decode(errors="replace").strip()[-_SAID:]
        why = f": {said}" if said else ""
        raise _PluginError(f"it ended with the exit code {done.returncode}{why}")
    return done.stdout


def _issued(answer: bytes, version: str) -> Issued:
    try:
        credential = msgspec.convert(decode_document(answer), _Credential)
        status = credential.status
        expiry = _seconds(status.expiration_timestamp) if status.expiration_timestamp else None
    except (ValueError, OverflowError, msgspec.ValidationError) as exc:
        raise _PluginError(f"its answer cannot be used: {exc}") from None
    if (credential.api_version, credential.kind) != (version, "ExecCredential"):
        raise _PluginError(f"its answer is no ExecCredential of {version}")
    if bool(status.client_certificate_data) != bool(status.client_key_data):
        raise _PluginError("it gave a certificate without a key, or a key without a certificate")
    if not (status.token or status.client_certificate_data):
        raise _PluginError("it gave neither a token nor a certificate")
    return Issued(
        authorization=f"Bearer {status.token}" if status.token else None,
        certificate=status.client_certificate_data.encode() or None,
        key=status.client_key_data.encode() or None,
        expiry=expiry,
    )


def _seconds(timestamp: str) -> float:
    """Since the Unix epoch; raises ValueError."""
    moment = datetime.fromisoformat(timestamp)
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return moment.timestamp()
