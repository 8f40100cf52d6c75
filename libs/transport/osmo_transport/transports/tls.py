"""TLS for every transport over sockets, the same for each: 1.2 or newer, host names checked, and
the system's authorities where no other is named."""

import logging
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from osmo_transport.errors import UsageError
from osmo_transport.files import state_of
from osmo_transport.transports import refusals
from osmo_transport.transports.abc import TlsConfig

LOOK_INTERVAL = 1.0
"""Seconds between two looks at a server's files: however many handshakes there are, the file system
is asked no more often."""

_log = logging.getLogger(__name__)


class Renewal:
    """Whether a server's certificates have to be loaded again. A file that cannot be used leaves
    the ones before in force, and that is logged once."""

    def __init__(self, config: TlsConfig, now: Callable[[], float] = time.monotonic) -> None:
        """The files as they are now have been loaded."""
        self._config = config
        self._paths = tuple(filter(None, (config.ca_file, config.cert_file, config.key_file)))
        self._now = now
        self._looked = now()
        self._seen = state_of(*self._paths)

    def due(self) -> ssl.SSLContext | None:
        """A context of new files that can be used; None: there are none."""
        if self._now() - self._looked < LOOK_INTERVAL:
            return None
        self._looked = self._now()
        seen, self._seen = self._seen, state_of(*self._paths)
        if seen == self._seen:
            return None
        try:
            context = server_context(self._config)
        except UsageError as exc:
            _log.error("the certificates of before stay: %s", exc)
            return None
        _log.info("took up the new certificate in %s", self._config.cert_file)
        return context


class ServerContext(ssl.SSLContext):
    """A server's context, whose every handshake is made with the newest certificates. What is
    connected stays as it is."""

    _renewal: Renewal
    _newest: ssl.SSLContext

    @classmethod
    def of(cls, config: TlsConfig, now: Callable[[], float] = time.monotonic) -> "ServerContext":
        """The context of these files.

        Raises:
            UsageError: as `server_context`.
        """
        renewal = Renewal(config, now)
        context = cls(ssl.PROTOCOL_TLS_SERVER)
        context._newest = server_context(config)
        context._renewal = renewal
        return context

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """A handshake begins: asyncio's, and uvloop's, both begin here."""
        self._newest = self._renewal.due() or self._newest
        return self._newest.wrap_bio(*args, **kwargs)


def client_context(config: TlsConfig) -> ssl.SSLContext:
    """A client's context, for one connection. A server that it does not trust is told why.

    Raises:
        UsageError: a file is absent or no PEM file.
    """
    context = _load(ssl.Purpose.SERVER_AUTH, config)
    context.sslobject_class = refusals.ClientTls
    return context


def server_context(config: TlsConfig) -> ssl.SSLContext:
    """A server's context; a `ca_file` makes client certificates mandatory. Who is refused
    is told why, and so is the log.

    Raises:
        UsageError: a file is absent or no PEM file, or there is no certificate.
    """
    if config.cert_file is None:
        raise UsageError("a secure endpoint needs tls.cert_file and tls.key_file")
    context = _load(ssl.Purpose.CLIENT_AUTH, config)
    if config.ca_file is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    context.sslobject_class = refusals.ServerTls
    return context


def has_expired(config: TlsConfig) -> bool:
    """Whether this side's own certificate is over, as the other side would find.

    Raises:
        UsageError: a file is absent or no PEM file.
    """
    own = replace(config, ca_file=config.cert_file)
    # Of a certificate that is trusted itself the time alone is in question.
    judge = _load(ssl.Purpose.CLIENT_AUTH, own)
    judge.verify_mode = ssl.CERT_REQUIRED
    judge.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    presenting = _load(ssl.Purpose.SERVER_AUTH, own)
    presenting.check_hostname = False
    presenting.verify_mode = ssl.CERT_NONE
    to_judge, to_other = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = presenting.wrap_bio(to_other, to_judge)
    server = judge.wrap_bio(to_judge, to_other, server_side=True)
    try:
        for side in (client, server, client, server):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except ssl.SSLCertVerificationError as exc:
        return exc.verify_code == refusals.EXPIRED
    return False


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
