"""Who may report is decided before anybody can."""

from dataclasses import replace
from pathlib import Path

import pytest

from osmo_operator.config import OperatorConfig
from osmo_operator.door import check_door
from osmo_transport import ServerConfig, TlsConfig, UsageError

TLS = ServerConfig(tls=TlsConfig(ca_file=Path("ca"), cert_file=Path("c"), key_file=Path("k")))


@pytest.mark.parametrize(
    ("listen", "auth", "insecure", "text"),
    [
        ("ws://127.0.0.1:1", (), False, ""),
        ("grpc://localhost:1", (), False, ""),
        ("ws://[::1]:1", (), False, ""),
        ("memory://x", (), False, ""),
        ("ws://0.0.0.0:1", (), False, "choose --insecure"),
        ("grpc://:1", (), False, "choose --insecure"),
        ("wss://0.0.0.0:1", (), False, "choose --insecure"),
        ("ws://[::]:1", (), True, ""),
        ("wss://operator.example:1", ("token?file=x",), False, ""),
        ("ws://0.0.0.0:1", ("token?file=x",), False, "read the listeners' tokens"),
        ("ws://0.0.0.0:1", ("token?file=x",), True, ""),
        ("wss://0.0.0.0:1", ("mtls",), False, ""),
        ("ws://127.0.0.1:1", ("mtls",), False, "wss:// or grpcs://"),
    ],
)
def test_a_door_that_is_open_by_mistake_is_not_opened(
    listen: str, auth: tuple[str, ...], insecure: bool, text: str
) -> None:
    """And the error says both ways out."""
    config = OperatorConfig(listen=(listen,), auth=auth, insecure=insecure, server=TLS)
    if not text:
        check_door(config)
        return
    with pytest.raises(UsageError, match=text):
        check_door(config)


def test_a_door_that_is_open_on_purpose_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """At each start."""
    config = OperatorConfig(listen=("ws://0.0.0.0:1",), insecure=True)
    check_door(config)
    assert "may report for every backend" in caplog.text


def test_certificates_need_an_authority() -> None:
    """Or nobody would be asked for one."""
    config = OperatorConfig(listen=("wss://127.0.0.1:1",), auth=("mtls",))
    with pytest.raises(UsageError, match="--server-tls-ca-file"):
        check_door(replace(config, server=ServerConfig()))
