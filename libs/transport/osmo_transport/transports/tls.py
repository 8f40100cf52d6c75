"""TLS for every transport over sockets, the same for each: 1.2 or newer, host names checked, and
the system's authorities where no other is named."""

import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from osmo_transport.errors import ConnectionLostError, UsageError
from osmo_transport.files import Watched
from osmo_transport.lean import dataclass
from osmo_transport.naming import setting
from osmo_transport.transports import pem, refusals
from osmo_transport.transports.abc import TlsConfig
from osmo_transport.transports.passphrases import no_passphrase
from osmo_transport.transports.validity import end_of


@dataclass(frozen=True, kw_only=True)
class Certificates:
    """What is in the files of one side, in PEM, and the context that is made of it."""

    context: ssl.SSLContext
    authorities: bytes | None
    chain: bytes | None
    key: bytes | None = field(repr=False)
    ends: float
    """When this side's own certificate does, in seconds since the Unix epoch."""


class TlsFiles:
    """The files of one side, read when they change. Those that cannot be used, be it that the key
    does not fit, or whose certificate has ended, leave the ones before in force."""

    def __init__(self, config: TlsConfig, wall: Callable[[], float] = time.time) -> None:
        """Nothing is read yet. `wall` gives seconds since the Unix epoch."""
        self._config = config
        self._paths = tuple(filter(None, (config.cert_file, config.key_file, config.ca_file)))
        self._wall = wall

    def of_server(self) -> Certificates:
        """What a server shows and trusts now.

        Raises:
            UsageError: as `server_context`, while it never could be used.
        """
        return self._of_server.look()

    def of_client(self) -> Certificates:
        """What a client shows and trusts now.

        Raises:
            UsageError: as `client_context`, while it never could be used.
            ConnectionLostError: what is there cannot be used, and what was there before has ended.
        """
        if not self._paths:
            return self._read(client_context)
        found = self._of_client.look()
        if self._of_client.trouble and found.ends <= self._wall():
            raise ConnectionLostError(self._of_client.trouble)
        return found

    @cached_property
    def _of_server(self) -> Watched[Certificates]:
        return self._watched(self._paths, server_context)

    @cached_property
    def _of_client(self) -> Watched[Certificates]:
        places = ssl.get_default_verify_paths()
        system = (places.cafile, places.capath) if self._config.ca_file is None else ()
        return self._watched((*self._paths, *map(Path, filter(None, system))), client_context)

    def _watched(
        self, paths: Sequence[Path], make: Callable[[TlsConfig], ssl.SSLContext]
    ) -> Watched[Certificates]:
        def read() -> Certificates:
            return self._read(make)

        if not paths:
            read()  # says what is missing
        return Watched("certificate", paths, read, ends=lambda found: found.ends, wall=self._wall)

    def _read(self, make: Callable[[TlsConfig], ssl.SSLContext]) -> Certificates:
        config = self._config
        context = make(config)
        files = config.ca_file, config.cert_file, config.key_file or config.cert_file
        authorities, chain, key = (None if f is None else f.read_bytes() for f in files)
        return Certificates(
            context=context,
            authorities=authorities,
            chain=chain,
            key=key,
            ends=end_of(chain or b""),
        )


_known: WeakValueDictionary[TlsConfig, TlsFiles] = WeakValueDictionary()


def tls_files(config: TlsConfig) -> TlsFiles:
    """What this process knows of these files, as long as somebody uses it: who dials again has the
    last good ones, and a broken file is told once, however many endpoints there are."""
    return _known.setdefault(config, TlsFiles(config))


class ServerContext(ssl.SSLContext):
    """A server's context, whose every handshake is made with the newest certificates. What is
    connected stays as it is."""

    _files: TlsFiles

    @classmethod
    def of(cls, config: TlsConfig) -> "ServerContext":
        """The context of these files.

        Raises:
            UsageError: as `server_context`.
        """
        context = cls(ssl.PROTOCOL_TLS_SERVER)
        context._files = tls_files(config)
        context._files.of_server()
        return context

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """A handshake begins: asyncio's, and uvloop's, both begin here."""
        return self._files.of_server().context.wrap_bio(*args, **kwargs)


class ClientContext(ssl.SSLContext):
    """The context of one connection of a client, made with the newest certificates; `refusals`
    keeps for it why TLS failed."""

    _certificates: Certificates

    @classmethod
    def of(cls, config: TlsConfig) -> "ClientContext":
        """A context of these files.

        Raises:
            UsageError, ConnectionLostError: as `TlsFiles.of_client`.
        """
        context = cls(ssl.PROTOCOL_TLS_CLIENT)
        context._certificates = tls_files(config).of_client()
        return context

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """The handshake begins."""
        made = self._certificates.context.wrap_bio(*args, **kwargs)
        assert isinstance(made, refusals.ClientTls)
        made.asked = self
        return made


def client_context(config: TlsConfig) -> ssl.SSLContext:
    """A client's context. A server that it does not trust is told why.

    Raises:
        UsageError: a file cannot be used; the text says which, and why.
    """
    context = _load(ssl.Purpose.SERVER_AUTH, config)
    context.sslobject_class = refusals.ClientTls
    return context


def server_context(config: TlsConfig) -> ssl.SSLContext:
    """A server's context; a `ca_file` makes client certificates mandatory. Who is refused
    is told why, and so is the log.

    Raises:
        UsageError: a file cannot be used; the text says which, and why. Or there is no
            certificate.
    """
    if config.cert_file is None:
        needed = [setting(f"server.tls.{name}_file") for name in ("cert", "key")]
        raise UsageError(f"a secure endpoint needs {' and '.join(needed)}")
    context = _load(ssl.Purpose.CLIENT_AUTH, config)
    if config.ca_file is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    context.sslobject_class = refusals.ServerTls
    return context


def has_expired(config: TlsConfig) -> bool:
    """Whether this client's own certificate is over, as the other side would find.

    Raises:
        UsageError, ConnectionLostError: as `TlsFiles.of_client`.
    """
    return tls_files(config).of_client().ends <= time.time()


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
    side = "client" if purpose is ssl.Purpose.SERVER_AUTH else "server"
    try:
        context = ssl.create_default_context(purpose, cafile=config.ca_file)
    except OSError as exc:
        assert config.ca_file is not None
        why = pem.wrong_with_certificates(config.ca_file) or str(exc)
        raise _unusable(f"{side}.tls.ca_file", config.ca_file, why) from exc
    if config.cert_file is not None:
        key = setting(f"{side}.tls.key_file")
        try:
            context.load_cert_chain(config.cert_file, config.key_file, no_passphrase(key))
        except OSError as exc:
            raise _unloadable(side, config.cert_file, config.key_file, exc) from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 refuses authorities that every other library on the machine trusts.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _unloadable(side: str, cert_file: Path, key_file: Path | None, exc: OSError) -> UsageError:
    """The error that says which of the two is no good, and why."""
    if why := pem.wrong_with_certificates(cert_file):
        return _unusable(f"{side}.tls.cert_file", cert_file, why)
    if key_file is None:
        missing = f"without {setting(f'{side}.tls.key_file')} it holds the key, too: "
        return _unusable(
            f"{side}.tls.cert_file", cert_file, missing + pem.wrong_with_key(cert_file)
        )
    if isinstance(exc, ssl.SSLError) and exc.reason in pem.OTHERS_KEY:
        why = f"the private key in it does not belong to the certificate in {cert_file}"
    else:
        why = pem.wrong_with_key(key_file)
    return _unusable(f"{side}.tls.key_file", key_file, why)


def _unusable(key: str, path: Path, why: str) -> UsageError:
    return UsageError(f"{path} of {setting(key)} cannot be used: {why}")
