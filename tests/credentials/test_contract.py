"""The contract over every kind of ours."""

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from cryptography import x509

from osmo_credentials import open_authenticator
from osmo_credentials.kubernetes import AccountAuthenticator, Review
from osmo_credentials.mtls import CertificateAuthenticator
from osmo_credentials.tokens import (
    NamedToken,
    TokenAuthenticator,
    TokenFile,
    hash_of,
    new_token,
)
from osmo_transport import Authenticator, Presented
from osmo_transport.testing.contracts.credentials import AuthenticatorContract
from tests.credentials.issuers import AUDIENCE, ISSUER, Authority, JwtIssuer, Reviewer


class TestToken(AuthenticatorContract):
    """Named tokens."""

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        now = datetime.now(UTC)
        self.path = tmp_path / "tokens.json"
        self.token, self.old, self.revoked = new_token(), new_token(), new_token()
        tokens = (
            NamedToken("good", hash_of(self.token), ("a",), now),
            NamedToken("old", hash_of(self.old), ("a",), now, now - timedelta(seconds=1)),
        )
        self.path.write_bytes(msgspec.json.encode(TokenFile(tokens)))

    def authenticator(self) -> Authenticator:
        return TokenAuthenticator(self.path)

    def good(self) -> Presented:
        return Presented(self.token)

    def others(self) -> Mapping[str, Presented]:
        return {
            "expired": Presented(self.old),
            "revoked": Presented(self.revoked),
            "cut": Presented(self.token[:-1]),
            "longer": Presented(f"{self.token}x"),
        }


class TestJwt(AuthenticatorContract):
    """JSON Web Tokens."""

    @pytest.fixture(autouse=True)
    def _issuer(self, tmp_path: Path) -> None:
        self.issuer = JwtIssuer(tmp_path)
        self.stranger = JwtIssuer(tmp_path, "two")

    def authenticator(self) -> Authenticator:
        entry = f"jwt?issuer={ISSUER}&audience={AUDIENCE}&keys={self.issuer.file}"
        return open_authenticator((entry,))

    def good(self) -> Presented:
        return Presented(self.issuer.token())

    def others(self) -> Mapping[str, Presented]:
        issuer = self.issuer
        head, body, signature = issuer.token().split(".")
        tokens = {
            "expired": issuer.token(lasts=-60.0),
            "other audience": issuer.token(audience="other"),
            "other issuer": issuer.token(issuer="https://other.example"),
            "other key": issuer.token(key=self.stranger.key),
            "unknown key": self.stranger.token(),
            "not yet": issuer.token(nbf=4_000_000_000),
            "never ends": issuer.token(exp=None),
            "ends in words": issuer.token(exp="tomorrow"),
            "no backend": issuer.token("not a name"),
            "no subject": issuer.token(sub=7),
            "confused": issuer.confused(),
            "unsigned": issuer.unsigned(),
            "other body": f"{head}.{issuer.token('b').split('.')[1]}.{signature}",
            "no signature": f"{head}.{body}.",
        }
        return {what: Presented(token) for what, token in tokens.items()}


class TestAccount(AuthenticatorContract):
    """Service accounts."""

    @pytest.fixture(autouse=True)
    def _accounts(self, tmp_path: Path) -> None:
        issuer = JwtIssuer(tmp_path)
        user = "system:serviceaccount:osmo:a"
        self.tokens = {
            "good": issuer.token(user),
            "revoked": issuer.token(user, jti="gone"),
            "other audience": issuer.token(user, audience="other"),
            "other account": issuer.token("system:serviceaccount:kube-system:a"),
        }
        self.reviewer = Reviewer(
            {
                self.tokens["good"]: Review(user, (AUDIENCE,)),
                self.tokens["other audience"]: Review(user, ("other",)),
                self.tokens["other account"]: Review(
                    "system:serviceaccount:kube-system:a", (AUDIENCE,)
                ),
            }
        )

    def authenticator(self) -> Authenticator:
        return AccountAuthenticator(self.reviewer, AUDIENCE, "system:serviceaccount:osmo:{backend}")

    def good(self) -> Presented:
        return Presented(self.tokens["good"])

    def others(self) -> Mapping[str, Presented]:
        return {what: Presented(token) for what, token in self.tokens.items() if what != "good"}


class TestCertificate(AuthenticatorContract):
    """Certificates, by a name of the alternative ones."""

    @pytest.fixture(autouse=True)
    def _authority(self, tmp_path: Path) -> None:
        self.authority = Authority(tmp_path, "one")

    def authenticator(self) -> Authenticator:
        return CertificateAuthenticator("uri", "spiffe://prod/listener/{backend}")

    def _presented(self, *names: x509.GeneralName) -> Presented:
        path, _ = self.authority.signed("a", *names)
        return Presented(certificate=ssl.PEM_cert_to_DER_cert(path.read_text()))

    def good(self) -> Presented:
        return self._presented(x509.UniformResourceIdentifier("spiffe://prod/listener/a"))

    def others(self) -> Mapping[str, Presented]:
        uri = x509.UniformResourceIdentifier
        return {
            "no such name": self._presented(),
            "another kind of name": self._presented(x509.DNSName("a")),
            "another trust domain": self._presented(uri("spiffe://test/listener/a")),
            "more than a name": self._presented(uri("spiffe://prod/listener/a/b")),
            "no certificate": Presented(certificate=b"none"),
        }
