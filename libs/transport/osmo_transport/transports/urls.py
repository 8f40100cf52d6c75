"""What a URL of a transport may say."""

from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from osmo_transport.errors import UsageError


def parsed(url: str, *, path: bool = False) -> SplitResult:
    """The parts of a URL that has a scheme and a place, and nothing else; with `path` it may have a
    path too.

    Raises:
        UsageError: it is no URL, or has a part that would be without effect.
    """
    try:
        parts = urlsplit(url)
    except ValueError as exc:
        raise UsageError(f"{url!r} is not a valid URL: {exc}") from exc
    if parts.username is not None or parts.password is not None:
        # Not shown: it may hold a password.
        raise UsageError(f"a {parts.scheme}:// URL takes no user and no password")
    for name, value in (("query", parts.query), ("fragment", parts.fragment)):
        if value:
            raise UsageError(f"{url!r} has a {name}, which would be without effect: leave it out")
    if not path and parts.path not in ("", "/"):
        raise UsageError(f"{url!r} has a path, which would be without effect: leave it out")
    if not (parts.path.isascii() and parts.path.isprintable()) or " " in parts.path:
        raise UsageError(f"{url!r} has a path with special characters: write them as %XX")
    return parts


def is_loopback(host: str) -> bool:
    """Whether what is sent to that host leaves no machine. A name is believed to lead where all
    take it to lead: `localhost` here, any other elsewhere."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def stays_here(url: str) -> bool:
    """Whether nobody on another machine is at the other end, or on the way."""
    parts = urlsplit(url)
    return parts.scheme == "memory" or is_loopback(parts.hostname or "")


def host_port(host: str, port: int | str) -> str:
    """As they stand in URLs, and in `Host` of HTTP."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def address(parts: SplitResult) -> tuple[str, int]:
    """Host and port of a URL.

    Raises:
        UsageError: one of them is absent or not valid.
    """
    url = parts.geturl()
    try:
        host, port = parts.hostname, parts.port
        if host:
            host.encode("idna")
    except ValueError as exc:
        raise UsageError(f"{url!r} has no valid host and port: {exc}") from exc
    if not host or port is None:
        raise UsageError(f"{url!r} needs a host and a port, as in {parts.scheme}://127.0.0.1:8001")
    return host, port
