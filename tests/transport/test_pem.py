"""Which of three files OpenSSL does not take, and why."""

from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import pytest

from osmo_transport import TlsConfig, UsageError
from osmo_transport.naming import setting
from osmo_transport.transports.tls import client_context, server_context
from tests.transport.certificates import Authority, encrypted, openssl


def in_der(path: Path) -> None:
    """Leave its armour away."""
    path.write_bytes(b64decode("".join(path.read_text().splitlines()[1:-1])))


def of_another_kind(path: Path) -> None:
    """Put a key there that no certificate of ours is for."""
    openssl("genpkey", "-algorithm", "ed25519", "-out", path)


def emptied(path: Path) -> None:
    """Leave nothing in it."""
    path.write_text("")


def in_words(path: Path) -> None:
    """Write something else into it."""
    path.write_text("hello\n")


def damaged(path: Path) -> None:
    """Leave a line out."""
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:1] + lines[2:]))


CERTIFICATES: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (emptied, "it is empty"),
    "text": (in_words, "there is no PEM in it"),
    "der": (in_der, "it is DER, and not PEM: `openssl x509 -inform der"),
    "damaged": (damaged, "a certificate in it is damaged"),
    "key": (of_another_kind, "there is no certificate in it, but private key"),
    "absent": (Path.unlink, "No such file or directory"),
}
KEYS: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (emptied, "it is empty"),
    "text": (in_words, "there is no PEM in it"),
    "der": (in_der, "it is DER, and not PEM: `openssl pkey -inform der"),
    "damaged": (damaged, "the private key in it is damaged"),
    "other": (of_another_kind, "the private key in it does not belong to the certificate in"),
    "encrypted": (encrypted, "the private key in it is encrypted"),
    "absent": (Path.unlink, "No such file or directory"),
}
WRONG = [
    *(("ca_file", wrong) for wrong in CERTIFICATES),
    *(("cert_file", wrong) for wrong in CERTIFICATES),
    *(("key_file", wrong) for wrong in KEYS),
]


@pytest.fixture
def files(trusted: Authority, tmp_path: Path) -> dict[str, Path]:
    """Good ones, by their settings."""
    own = trusted.signed("server")
    assert own.cert_file is not None
    assert own.key_file is not None
    found = {"ca_file": trusted.ca_file, "cert_file": own.cert_file, "key_file": own.key_file}
    for name, path in found.items():
        (tmp_path / name).write_bytes(path.read_bytes())
    return {name: tmp_path / name for name in found}


@pytest.mark.parametrize(("name", "wrong"), WRONG)
def test_a_file_that_cannot_be_used_is_named(name: str, wrong: str, files: dict[str, Path]) -> None:
    """With what is wrong with it, and its setting, on either side."""
    spoil, why = (KEYS if name == "key_file" else CERTIFICATES)[wrong]
    spoil(files[name])
    config = TlsConfig(**files)
    for side, make in (("client", client_context), ("server", server_context)):
        with pytest.raises(UsageError) as caught:
            make(config)
        beginning = f"{files[name]} of {setting(f'{side}.tls.{name}')} cannot be used: {why}"
        assert str(caught.value).startswith(beginning)


def test_a_certificate_alone_has_no_key(files: dict[str, Path]) -> None:
    """And the setting that names one is told."""
    with pytest.raises(UsageError, match=r"server-tls-key-file .* it holds the key, too: there is"):
        server_context(TlsConfig(cert_file=files["cert_file"]))
