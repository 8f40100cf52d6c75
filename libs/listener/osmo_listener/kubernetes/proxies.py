"""Which proxy leads to a server: as `proxy-url` says, or the environment as Go reads it."""

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import field
from urllib.parse import unquote, urlsplit

from osmo_listener.errors import KubeconfigError
from osmo_transport.lean import dataclass
from osmo_transport.transports.urls import host_port

_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}

_ADVICE = "it must be http://, https:// or socks5:// with HOST:PORT"


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A proxy; as text, what may be shown of it."""

    scheme: str
    """How it is talked to: `http`, `https` or `socks5`."""
    host: str
    port: int
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{host_port(self.host, self.port)}"

    @property
    def forwards(self) -> bool:
        """Whether it is asked for what lies on plain HTTP servers, instead of for a connection."""
        return self.scheme != "socks5"

    @property
    def authorization(self) -> str | None:
        """The value of `Proxy-Authorization`; None: it is not asked for."""
        return basic(self.user, self.password) if self.user or self.password else None


def parse_proxy(url: str, setting: str) -> Proxy:
    """The proxy that a user's `setting` names.

    Raises:
        KubeconfigError: it names none. What the URL was is not shown: it may hold a password.
    """
    try:
        parts = urlsplit(url)
        default = _PORTS[parts.scheme]
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port or default
    except (ValueError, KeyError):
        host, port = "", 0
    if not host:
        raise KubeconfigError(f"{setting} names no proxy that can be used: {_ADVICE}")
    return Proxy(
        # It is always the proxy that looks up names, as with Go.
        scheme=parts.scheme.removesuffix("h"),
        host=host,
        port=port,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
    )


def environment_proxy(
    environ: Mapping[str, str], host: str, port: int, *, secure: bool
) -> Proxy | None:
    """The proxy that HTTPS_PROXY (of a `secure` server) or HTTP_PROXY name for a server; None:
    there is none, or NO_PROXY excepts it. This machine is never reached through a proxy.

    Raises:
        KubeconfigError: what a variable names is none.
    """
    name = "HTTPS_PROXY" if secure else "HTTP_PROXY"
    url = _variable(environ, name)
    if not url or _excepted(_variable(environ, "NO_PROXY"), host, port):
        return None
    return parse_proxy(url if "://" in url else f"http://{url}", name)


def basic(user: str, password: str) -> str:
    """The value of a header that logs in by a password."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def _variable(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name) or environ.get(name.lower(), "")


def _excepted(entries: str, host: str, port: int) -> bool:
    """What `golang.org/x/net/http/httpproxy` makes of NO_PROXY."""
    address = _address(host)
    if host == "localhost" or (address and address.is_loopback):
        return True
    return any(
        _fits(entry, host.lower(), port, address)
        for each in entries.split(",")
        if (entry := each.strip().lower())
    )


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _fits(entry: str, host: str, port: int, address: _Address | None) -> bool:
    if entry == "*":
        return True
    if network := _network(entry):
        return address is not None and address in network
    name, only = _split(entry)
    if only not in {"", str(port)}:
        return False
    if wanted := _address(name):
        return wanted == address
    name = name.removeprefix("*") if name.startswith("*.") else name
    if not name or address:
        return False
    return host.endswith(name) if name.startswith(".") else f".{host}".endswith(f".{name}")


def _address(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    _, slash, bits = text.partition("/")
    if not slash or not bits.isdecimal():
        return None
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _split(entry: str) -> tuple[str, str]:
    """The host of an entry, and its port if it has one; of IPv6, only what stands in brackets has
    one."""
    host, colon, port = entry.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        return entry, ""
    return host.removeprefix("[").removesuffix("]"), port
