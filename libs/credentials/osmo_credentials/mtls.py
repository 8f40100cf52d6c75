"""`mtls`: the client's certificate, signed by an authority of `server.tls.ca_file`.

    mtls?source=uri&pattern=spiffe://prod/listener/{backend}

`source` says which name of the certificate tells the backend: `cn` (its subject's common name, the
default), `dns` or `uri` (of the alternative names); `pattern` how it does, the name alone by
default. A certificate with several such names may report for each of them.
"""

import warnings
from collections.abc import Mapping
from typing import Literal

import msgspec
from cryptography import x509
from cryptography.x509.oid import NameOID

from osmo_credentials.settings import HOLE, Pattern, read_settings
from osmo_transport.credentials import Authenticator, Identity, Presented
from osmo_transport.errors import CredentialRefusedError

MAX_NAMES = 100
"""Names of one certificate that are looked at."""

Source = Literal["cn", "dns", "uri"]

_UNREADABLE = (
    *(ValueError, x509.UnsupportedGeneralNameType, x509.DuplicateExtension),
    x509.InvalidVersion,
)


class _Settings(msgspec.Struct):
    source: Source = "cn"
    pattern: str = HOLE


class CertificateAuthenticator(Authenticator):
    """Knows certificates by a name in them. Who signed them the transport has looked at."""

    kind = "mtls"

    def __init__(self, source: Source = "cn", pattern: str = HOLE) -> None:
        """
        Raises:
            UsageError: the pattern is none.
        """
        self._source = source
        self._pattern = Pattern(pattern, self.kind)

    async def identify(self, presented: Presented) -> Identity | None:
        if not presented.certificate:
            return None
        try:
            names, expires = _read(presented.certificate, self._source)
        except _UNREADABLE as exc:
            raise CredentialRefusedError(f"the certificate cannot be read: {exc}") from exc
        found = {name: self._pattern.backend(name) for name in names[:MAX_NAMES]}
        backends = tuple(backend for backend in found.values() if backend is not None)
        if not backends:
            shown = ", ".join(repr(name) for name in names[:3]) or "no such name"
            raise CredentialRefusedError(
                f"the certificate names no backend: as its {self._source} it has {shown}"
            )
        first = next(name for name, backend in found.items() if backend is not None)
        return Identity(f"certificate {first}", backends, expires)


def _read(der: bytes, source: Source) -> tuple[list[str], float]:
    """Its names, and when it ends. Raises `_UNREADABLE`."""
    with warnings.catch_warnings():
        # The library tells standard error of each name that is longer than it should be.
        warnings.simplefilter("ignore")
        certificate = x509.load_der_x509_certificate(der)
        return _names(certificate, source), certificate.not_valid_after_utc.timestamp()


def _names(certificate: x509.Certificate, source: Source) -> list[str]:
    if source == "cn":
        return [
            str(attribute.value)
            for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        ]
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    if source == "dns":
        return list(names.get_values_for_type(x509.DNSName))
    return list(names.get_values_for_type(x509.UniformResourceIdentifier))


def open_authenticator(settings: Mapping[str, str]) -> Authenticator:
    """The authenticator of these settings."""
    read = read_settings("mtls", settings, _Settings)
    return CertificateAuthenticator(read.source, read.pattern)
