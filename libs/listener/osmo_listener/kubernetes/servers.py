"""The URL of a server, as client-go reads it."""

import posixpath
import re
from dataclasses import field
from urllib.parse import quote, unquote

from osmo_listener.errors import KubeconfigError
from osmo_listener.kubernetes.proxies import basic
from osmo_transport.lean import dataclass

_URL = re.compile(
    r"(?:(?P<scheme>https?)://)?(?:(?P<user>[^\s/?#]*)@)?"
    r"(?P<authority>(?P<host>\[[0-9a-f]*:[0-9a-f:.%]+\]|[^\s/?#:@\[\]]+)(?::(?P<port>\d{0,5}))?)"
    r"(?P<path>/[^?#\x00-\x1f\x7f]*)?(?:[?#].*)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Server:
    """What a URL says."""

    secure: bool
    """Whether the server speaks TLS."""
    host: str
    port: int
    authority: str
    """Host and port as they stand in the URL."""
    base_path: str
    """Without a slash at its end."""
    authorization: str | None = field(repr=False)
    """The login that is in the URL, as a header's value."""


def parse_server(url: str, setting: str) -> Server:
    """Read the URL that a user's `setting` names; without a scheme it is plain HTTP.

    Raises:
        KubeconfigError: it is none. A password in it is not shown.
    """
    parts = _URL.fullmatch(url)
    scheme = (parts["scheme"] or "").lower() if parts else ""
    port = int((parts and parts["port"]) or (443 if scheme == "https" else 80))
    path = (parts and parts["path"]) or ""
    if not parts or port > 65535 or (not scheme and path not in {"", "/"}):
        shown = url.rpartition("@")[2]
        raise KubeconfigError(f"{setting} is {shown!r}: it must be https://HOST:PORT")
    host = _ascii(parts["host"], setting)
    return Server(
        secure=scheme == "https",
        host=host.removeprefix("[").removesuffix("]"),
        port=port,
        authority=parts["authority"].replace(parts["host"], host, 1),
        base_path=_base(path),
        authorization=_login(parts["user"]),
    )


def _ascii(host: str, setting: str) -> str:
    """As it stands in certificates, and in what proxies and servers are told."""
    try:
        return host.encode("idna").decode()
    except UnicodeError as exc:
        raise KubeconfigError(f"{setting} is at {host!r}, which no host is called") from exc


def _login(user: str | None) -> str | None:
    if user is None:
        return None
    name, _, password = user.partition(":")
    return basic(unquote(name), unquote(password))


def _base(path: str) -> str:
    """As Go cleans and writes it."""
    clean = posixpath.normpath(f"/{unquote(path).lstrip('/')}")
    return "" if clean == "/" else quote(clean, safe="/$&+,:;=@~")
