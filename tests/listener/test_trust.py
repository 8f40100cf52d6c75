"""What is trusted, and what is shown: the same with every Python."""

import ssl
import subprocess
from pathlib import Path

import pytest

from osmo_listener.errors import KubeconfigError
from osmo_listener.kubernetes.trust import present, trusting
from tests.listener.wire import make_certificate


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate and its key."""
    return make_certificate(tmp_path_factory.mktemp("pems"), "server", "DNS:server")


def test_no_default_of_this_python_shines_through(pems: tuple[Path, Path]) -> None:
    """Each is set to what Go does."""
    context = trusting(pems[0])
    assert context.verify_flags & ssl.VERIFY_X509_PARTIAL_CHAIN
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert not context.hostname_checks_common_name
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    open_to_all = trusting(pems[0], verify=False)
    assert (open_to_all.verify_mode, open_to_all.check_hostname) == (ssl.CERT_NONE, False)


def test_a_bundle_is_read_as_far_as_it_can_be(pems: tuple[Path, Path]) -> None:
    """What is damaged, what is no certificate and what stands between is left out."""
    certificate, key = (each.read_bytes() for each in pems)
    damaged = b"-----BEGIN CERTIFICATE-----\nQUFB\n-----END CERTIFICATE-----\n"
    bundle = "# Főtanúsítvány\n".encode() + damaged + key + certificate.replace(b"\n", b"\r\n")
    assert len(trusting(bundle).get_ca_certs()) == 1
    for nothing in (b"", damaged, key, b"\xff"):
        with pytest.raises(KubeconfigError, match="certificate-authority holds no certificate"):
            trusting(nothing)


def test_the_system_is_trusted_where_no_authority_is_named(
    pems: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the variable that Go reads too."""
    monkeypatch.setenv("SSL_CERT_FILE", str(pems[0]))
    subjects = [each["subject"] for each in trusting(None).get_ca_certs()]
    assert ((("commonName", "server"),),) in subjects
    assert len(trusting(pems[0]).get_ca_certs()) == 1


def test_a_key_with_a_password_is_refused_at_once(tmp_path: Path, pems: tuple[Path, Path]) -> None:
    """Nobody is asked for it on the terminal."""
    locked = tmp_path / "locked.key"
    command = ["openssl", "ec", "-aes128", "-passout", "pass:x", "-in", str(pems[1])]
    subprocess.run([*command, "-out", str(locked)], check=True, capture_output=True)
    with pytest.raises(KubeconfigError, match="and need no password"):
        present(trusting(pems[0]), pems[0], locked)
