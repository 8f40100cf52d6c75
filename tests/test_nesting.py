"""Bytes that nest deeply, wherever others' are read: an error of ours, not the decoder's."""

from collections.abc import Callable
from pathlib import Path

import pytest

from osmo_deployed import protojson
from osmo_listener.errors import KubeconfigError, MalformedError
from osmo_listener.kubernetes.json_decoding import JsonDecoder, json_status
from osmo_listener.kubernetes.kubeconfig import load_kubeconfig
from osmo_listener.listeners.objects import Pod
from osmo_reports import BodyError, decode_body
from osmo_reports.directory import decode_rules
from osmo_runtime import settings
from osmo_runtime.errors import SettingsError
from osmo_runtime.runner import ProgramConfig
from osmo_simulator.errors import StatusError
from osmo_simulator.faults import decode_fault, decode_restart
from osmo_transport import PeerError, UnreadableError, read_message
from osmo_transport.frames import JSON, MSGPACK
from osmo_transport.message import read_heads

DEPTH = 200_000
PACKED = b"\x91" * DEPTH + b"\xc0"
TEXT = b"[" * DEPTH + b"]" * DEPTH
OBJECT = b'{"a":' * DEPTH + b"1" + b"}" * DEPTH
UNKNOWN = b'{"nobody reads":' + TEXT + b"}"
PODS = JsonDecoder(Pod)


@pytest.mark.parametrize(
    ("read", "data", "error"),
    [
        (read_message, PACKED, UnreadableError),
        (lambda data: read_heads([data]), PACKED, UnreadableError),
        (MSGPACK.decode, PACKED, PeerError),
        (JSON.decode, TEXT, PeerError),
        (lambda data: decode_body("update_pod", data), b"\x81\xa1z" + PACKED, BodyError),
        (lambda data: decode_body("update_pod", data), PACKED, BodyError),
        (decode_rules, UNKNOWN, ValueError),
        (protojson.decode, UNKNOWN, BodyError),
        (PODS.event, b'{"type":"ADDED","object":' + UNKNOWN + b"}", MalformedError),
        (PODS.event, b'{"type":"ERROR","odd":' + TEXT + b"}", MalformedError),
        (PODS.page, UNKNOWN, MalformedError),
        (decode_fault, OBJECT, StatusError),
        (decode_restart, OBJECT, StatusError),
    ],
)
def test_the_error_says_who_has_to_act(
    read: Callable[[bytes], object], data: bytes, error: type[Exception]
) -> None:
    """Also where the nesting is in a field that nobody reads."""
    with pytest.raises(error) as raised:
        read(data)
    assert not isinstance(raised.value, RecursionError)


def test_a_status_that_cannot_be_read_tells_nothing() -> None:
    """It is the body of an error, which is told without it."""
    assert json_status(UNKNOWN).message == ""


@pytest.mark.parametrize("text", [TEXT, UNKNOWN, b"clusters: " + TEXT])
def test_a_kubeconfig_that_nests_is_named(tmp_path: Path, text: bytes) -> None:
    """JSON or YAML."""
    path = tmp_path / "config"
    path.write_bytes(text)
    with pytest.raises(KubeconfigError, match="is no kubeconfig"):
        load_kubeconfig(path)


def test_a_configuration_file_that_nests_is_named(tmp_path: Path) -> None:
    """TOML."""
    path = tmp_path / "config.toml"
    path.write_bytes(b"a = " + TEXT)
    with pytest.raises(SettingsError, match="is not a TOML file"):
        settings.load("p", ProgramConfig, ["--config", str(path)], {})


@pytest.mark.parametrize("form", ["[*{}, *{}]", "{{x: *{}, y: *{}}}", "{{<<: [*{}, *{}]}}"])
def test_aliases_of_aliases_are_not_followed(tmp_path: Path, form: str) -> None:
    """A few lines of YAML that stand for more values than there is memory."""
    lines = ["a0: &a0 {x: y}"]
    lines += [f"a{i}: &a{i} {form.format(*[f'a{i - 1}'] * 2)}" for i in range(1, 60)]
    path = tmp_path / "config"
    for text in ("\n".join(lines), "clusters: &a [*a]"):
        path.write_text(text)
        with pytest.raises(KubeconfigError, match="is no kubeconfig"):
            load_kubeconfig(path)


def test_an_alias_stands_for_what_it_names(tmp_path: Path) -> None:
    """Those that people write are followed."""
    path = tmp_path / "config"
    path.write_text(
        "current-context: a\n"
        "contexts: [{name: a, context: &c {cluster: k}}, {name: b, context: *c}]\n"
        "clusters: [{name: k, cluster: {<<: {server: 'http://localhost'}}}]\n"
    )
    assert load_kubeconfig(path, "b").endpoint.host == "localhost"
