"""TLS for every transport over sockets, the same for each: 1.2 or newer, host names checked, and
the system's authorities where no other is named."""

import ssl
from contextlib import suppress
from pathlib import Path

from osmo_transport.errors import UsageError
from osmo_transport.transports.abc import TlsConfig


def client_context(config: TlsConfig) -> ssl.SSLContext:
    """A client's context.

    Raises:
        UsageError: a file is absent or no PEM file.
    """
    return _load(ssl.Purpose.SERVER_AUTH, config)


def server_context(config: TlsConfig) -> ssl.SSLContext:
    """A server's context; a `ca_file` makes client certificates mandatory.

    Raises:
        UsageError: a file is absent or no PEM file, or there is no certificate.
    """
    if config.cert_file is None:
        raise UsageError("a secure endpoint needs tls.cert_file and tls.key_file")
    context = _load(ssl.Purpose.CLIENT_AUTH, config)
    if config.ca_file is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def system_authorities() -> bytes:
    """The certificates that the system trusts, in PEM: for a library that brings its own. As for
    OpenSSL, one that cannot be read is none."""
    places = ssl.get_default_verify_paths()
    files = [Path(places.cafile)] if places.cafile else []
    if places.capath:
        # Each certificate stands there under the hash of its name, beside other things.
        files += sorted(Path(places.capath).glob("*.[0-9]"))
    found: dict[bytes, None] = {}
    for file in files:
        with suppress(OSError):
            found[file.read_bytes()] = None
    return b"\n".join(found)


def _load(purpose: ssl.Purpose, config: TlsConfig) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(purpose, cafile=config.ca_file)
        if config.cert_file is not None:
            context.load_cert_chain(config.cert_file, config.key_file)
    except (OSError, ssl.SSLError) as exc:
        names = [str(f) for f in (config.ca_file, config.cert_file, config.key_file) if f]
        raise UsageError(f"cannot load the certificates {', '.join(names)}: {exc}") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 refuses authorities that every other library on the machine trusts.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
