"""Certificates for tests: an authority of our own, and what it signs."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from osmo_transport import TlsConfig

NAMES = "subjectAltName=IP:127.0.0.1,DNS:localhost"
ISSUER = "authorityKeyIdentifier=keyid"
KEY_USAGE = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
"""Of an authority; Python 3.13 trusts none that does not say it."""


class Authority(NamedTuple):
    """A folder with a CA, and the certificates that it signed."""

    folder: Path

    @property
    def ca_file(self) -> Path:
        """Who trusts this trusts the rest."""
        return self.folder / "ca.pem"

    def signed(
        self, name: str, names: str = NAMES, issuer: str = ISSUER, days: int = 2
    ) -> TlsConfig:
        """A certificate and its key, for the given names and days (fewer than 0: it has expired);
        `issuer` is how it names its authority, if at all."""
        cert, key, request = (self.folder / f"{name}.{end}" for end in ("pem", "key", "csr"))
        if not cert.exists():
            extensions = self.folder / f"{name}.ext"
            extensions.write_text(f"{names}\n{issuer}\n")
            new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
            openssl("req", *new_key, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
            openssl(
                *("x509", "-req", "-in", request, "-days", str(days), "-out", cert),
                *("-CA", self.ca_file, "-CAkey", self.folder / "ca.key"),
                *("-CAcreateserial", "-extfile", extensions),
            )
        return TlsConfig(cert_file=cert, key_file=key)


def authority(folder: Path, extensions: Sequence[str] = KEY_USAGE) -> Authority:
    """A new authority in `folder`; skips the test where there is no openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command to make certificates with: install openssl")
    openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-keyout", folder / "ca.key", "-out", folder / "ca.pem"),
        *("-days", "2", "-subj", "/CN=tests", *extensions),
    )
    return Authority(folder)


def encrypted(key: Path) -> None:
    """Let the key in this file ask for a passphrase."""
    openssl("pkey", "-in", key, "-aes256", "-passout", "pass:secret", "-out", key.with_name("new"))
    key.with_name("new").replace(key)


def openssl(*arguments: str | Path) -> None:
    """Run it."""
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
