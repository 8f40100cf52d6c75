"""Whoever gives out credentials: authorities, issuers of JWTs, and an API server's answers."""

import json
import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from osmo_credentials.kubernetes import Review

AUDIENCE = "osmo"
ISSUER = "https://id.example"


@cache
def rsa_key(name: str) -> rsa.RSAPrivateKey:
    """One key for each name: to make one takes long."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class JwtIssuer:
    """Signs tokens, and publishes its keys."""

    def __init__(self, folder: Path, name: str = "one") -> None:
        self.key = rsa_key(name)
        self.name = name
        self.file = folder / f"{name}.jwks.json"
        self.publish()

    def publish(self, *others: rsa.RSAPrivateKey) -> None:
        """Write down its keys."""
        keys = [
            {**jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid}
            for kid, key in ((self.name, self.key), *((f"key{n}", k) for n, k in enumerate(others)))
        ]
        self.file.write_text(json.dumps({"keys": keys}))

    def token(
        self,
        backend: str = "a",
        *,
        audience: str = AUDIENCE,
        issuer: str = ISSUER,
        lasts: float = 600.0,
        key: Any = None,
        algorithm: str = "RS256",
        **claims: Any,
    ) -> str:
        """A token; whatever is wrong with it is what was asked for."""
        body = {
            "sub": backend,
            "aud": audience,
            "iss": issuer,
            "exp": time.time() + lasts,
            **claims,
        }
        headers = {"kid": self.name}
        return jwt.encode(body, key or self.key, algorithm=algorithm, headers=headers)

    def confused(self, backend: str = "a") -> str:
        """Signed with a secret which is the public key: whoever believes the head checks it with
        that, and finds it right."""
        pem = self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        head = _part({"alg": "HS256", "typ": "JWT", "kid": self.name})
        body = _part({"sub": backend, "aud": AUDIENCE, "iss": ISSUER, "exp": time.time() + 600.0})
        signing = f"{head}.{body}"
        mac = hmac_sha256(pem, signing.encode())
        return f"{signing}.{urlsafe_b64encode(mac).rstrip(b'=').decode()}"

    def unsigned(self, backend: str = "a") -> str:
        """With the algorithm `none`."""
        body = {"sub": backend, "aud": AUDIENCE, "iss": ISSUER, "exp": time.time() + 600.0}
        return f"{_part({'alg': 'none', 'kid': self.name})}.{_part(body)}."


def hmac_sha256(key: bytes, data: bytes) -> bytes:
    """A message authentication code."""
    from cryptography.hazmat.primitives.hmac import HMAC

    mac = HMAC(key, hashes.SHA256())
    mac.update(data)
    return mac.finalize()


def _part(value: dict[str, Any]) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@dataclass
class Reviewer:
    """What the API server says of tokens of accounts."""

    accounts: dict[str, Review] = field(default_factory=dict)
    asked: int = 0
    away: Exception | None = None

    def __call__(self, token: str, audience: str) -> Review:
        self.asked += 1
        if self.away is not None:
            raise self.away
        found = self.accounts.get(token, Review("", (), "unknown"))
        # As the API server does it: a token that is not for it is not good for it.
        return found if audience in found.audiences else Review("", (), "invalid audience")


class Authority:
    """A certificate authority."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        ca = self._builder(self._name, self._key, timedelta(days=1)).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        usage = x509.KeyUsage(
            digital_signature=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        self.certificate = ca.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        self.file = folder / f"{name}.ca.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def signed(
        self,
        common_name: str,
        *names: x509.GeneralName,
        lasts: timedelta = timedelta(days=1),
    ) -> tuple[Path, Path]:
        """The files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = self._builder(subject, key, lasts).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
            critical=False,
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        stem = f"{len(list(self._folder.iterdir()))}"
        cert, private = self._folder / f"{stem}.pem", self._folder / f"{stem}.key"
        cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return cert, private

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, lasts: timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + lasts)
        )
