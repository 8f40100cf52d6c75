"""When a certificate ends, as another library reads it."""

import ssl
from datetime import UTC, datetime
from math import inf

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from osmo_transport.transports.validity import end_of


def certificate(ends: datetime, names: int = 1) -> bytes:
    """One that ends then, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "n" * 60)] * names)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(1960, 1, 1, tzinfo=UTC))
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize(
    "ends",
    [
        datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime(2050, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
    ],
    ids=lambda moment: str(moment.year),
)
@pytest.mark.parametrize("names", [1, 2000], ids=["short", "long"])
def test_the_end_is_read(ends: datetime, names: int) -> None:
    """In both forms of a time, whatever lengths come before it; of a chain that of the first."""
    chain = certificate(ends, names) + certificate(datetime(2033, 1, 1, tzinfo=UTC))
    assert end_of(b"what is before is for people\n" + chain) == ends.timestamp()


def test_what_cannot_be_read_has_no_end() -> None:
    """Nor does it raise anything, wherever it is cut."""
    der = ssl.PEM_cert_to_DER_cert(certificate(datetime(2033, 1, 1, tzinfo=UTC)).decode())
    assert end_of(b"") == end_of(b"\xff-----BEGIN CERTIFICATE-----") == inf
    for cut in range(len(der)):
        assert end_of(ssl.DER_cert_to_PEM_cert(der[:cut]).encode()) == inf
    broken = certificate(datetime(2033, 1, 1, tzinfo=UTC)).replace(b"M", b"%", 1)
    assert end_of(broken) in (inf, datetime(2033, 1, 1, tzinfo=UTC).timestamp())
