"""Where Redis is: a URL, and whoever has to be asked which server it is for now."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.asyncio import Redis, Sentinel
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import RedisError

from osmo_transport import _tasks
from osmo_transport.errors import UsageError
from osmo_transport.passwords import PasswordFile
from osmo_transport.queues.redis.replies import Replies
from osmo_transport.transports import sockets
from osmo_transport.transports.passphrases import no_passphrase

CONNECT_TIMEOUT = 5.0
"""Seconds for a connection, or for an answer of whoever is asked where Redis is."""

TLS_OPTIONS = frozenset(
    {
        "ssl_ca_certs",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_keyfile",
    }
)
"""What the query of a `rediss://` URL may hold; see redis-py."""

DEFAULT_NAMESPACE = "osmo"
"""Of the keys of a queue whose URL names none."""

QUEUE_OPTIONS = frozenset({"cluster", "layout", "namespace", "password_file", "sentinel"})
"""What the query of every URL may hold: the queue's own options."""

SECURE = {"redis": False, "valkey": False, "rediss": True, "valkeys": True}
"""By scheme, whether it is for TLS."""

FORM = (
    "it must look like redis://HOST[:PORT][/DB], with USER:PASSWORD@ before the host where they are"
    " asked for, special characters of them as %XX, and ?OPTION=VALUE&… behind"
)

IDENTITY = frozenset({"credential_provider", "password", "username"})
"""Of redis-py's options those that say who we are: Sentinels are asked by nobody in particular."""

Place = tuple[str, int]
"""Host and port."""

_NO_PASSPHRASE: Any = no_passphrase("ssl_keyfile")
"""What redis-py hands on as it is, where it says that it takes a text."""

_NOT_OF_CLUSTERS = frozenset({"retry", "ssl_password"})
"""Of redis-py's options those that its client of clusters does not know."""

_NEVER_AGAIN = Retry(NoBackoff(), 0)
"""Whoever calls decides whether to try again; a command that is sent twice may count twice."""


class _FromFile(CredentialProvider):
    """A user, and the password that is in a file at the time of each connection."""

    def __init__(self, user: str, file: PasswordFile) -> None:
        self._user = user
        self._file = file

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Of the user `default` the password alone, as servers without users want it."""
        password = self._file.read()
        return (self._user, password) if self._user else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """The same: a small file is read faster than a thread would begin to."""
        return self.get_credentials()


class RacedConnection(Connection):
    """Connects to all addresses of a name in their turn, where redis-py leaves the first one all of
    the time."""

    _wire: asyncio.WriteTransport | None = None

    async def _connect(self) -> None:
        self._raced = await sockets.connect(self.host, self.port)
        try:
            await super()._connect()  # type: ignore[no-untyped-call]
        except BaseException:
            sockets.forget(self._raced)
            raise
        if self._writer is not None:
            self._wire = self._writer.transport

    def taken_over(self) -> Replies:
        """What reads the replies from now on, when the connection is open."""
        assert self._wire is not None
        return Replies(self._wire)

    def cut(self) -> None:
        """Give up what is not written yet: who does not read would keep the socket for ever, also
        when redis-py has closed it."""
        if self._wire is not None:
            self._wire.abort()

    def _connection_arguments(self) -> dict[str, Any]:
        arguments = dict(super()._connection_arguments())
        host = arguments.pop("host")
        del arguments["port"]
        if "ssl" in arguments:
            arguments["server_hostname"] = host
        return {**arguments, "sock": self._raced}


class _RacedTls(RacedConnection, SSLConnection):
    """The same over TLS."""


@dataclass(frozen=True)
class Address:
    """`str()` and `repr()` of it have no password."""

    name: str
    """For logs and errors."""
    user: str
    namespace: str
    layout: str
    cluster: bool
    """Whether keys of other hash tags may be elsewhere."""
    password_file: PasswordFile | None
    """Where the password is, if not in the URL."""
    _find: Callable[[], Awaitable[Place]] = field(repr=False)
    _options: dict[str, Any] = field(repr=False)
    _secure: bool

    def __str__(self) -> str:
        return self.name

    @classmethod
    def of(cls, url: str) -> "Address":
        """The address in a queue's URL::

            redis://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…][/DB][?OPTION=VALUE&…]

        With `sentinel=NAME` the hosts are Sentinels, which know the master `NAME`; with
        `cluster=true` they are some of a cluster, which know the node that has the queue's slot;
        without, there is one host.

        Raises:
            UsageError: the URL is wrong. Its text never holds the URL, which may hold a password.
        """
        part = "address"
        try:
            parts = urlsplit(url)
            scheme = parts.scheme
            credentials, _, hosts = parts.netloc.rpartition("@")
            places = [_place(text) for text in hosts.split(",")]
            part = "query"
            query = parse_qsl(parts.query, strict_parsing=bool(parts.query))
            part = "database, which is a number,"
            database = int(parts.path.removeprefix("/") or 0)
        except ValueError:
            raise UsageError(f"the {part} in the queue's URL cannot be read: {FORM}") from None
        if scheme not in SECURE:
            raise UsageError(f"the queue's URL is none of Redis: {FORM}")
        if parts.fragment or database < 0:
            raise UsageError(f"the queue's URL has more than it may, or a number below 0: {FORM}")
        secure = SECURE[scheme]
        options = _checked(dict(query), secure=secure)
        user, _, password = credentials.partition(":")
        file = _password_file(options, password)
        identity: dict[str, Any] = {
            "username": unquote(user) or None,
            "password": unquote(password) or None,
        }
        if file is not None:
            identity = {"credential_provider": _FromFile(unquote(user), file)}
        asked: dict[str, Any] = {
            **identity,
            "protocol": 2,
            "retry": _NEVER_AGAIN,
            "socket_timeout": None,
            "socket_connect_timeout": CONNECT_TIMEOUT,
            "socket_keepalive": True,
            **{name: value for name, value in options.items() if name in TLS_OPTIONS},
        }
        if secure:
            asked["ssl_password"] = _NO_PASSPHRASE
        namespace = options.get("namespace", DEFAULT_NAMESPACE)
        find = _finder(places, options, asked, namespace, secure=secure)
        shown = ",".join(f"{host}:{port}" for host, port in places)
        return cls(
            name=f"{scheme}://{shown}/{database}",
            user=unquote(user) or "default",
            namespace=namespace,
            layout=options.get("layout", "own"),
            cluster=bool(options.get("cluster")),
            password_file=file,
            _find=find,
            _options={**asked, "db": database},
            _secure=secure,
        )

    async def connection(self) -> RacedConnection:
        """A connection that is not open yet, to the server that is the right one now.

        Raises:
            RedisError, OSError: whoever knows where that is cannot be asked.
        """
        host, port = await self._find()
        kind = _RacedTls if self._secure else RacedConnection
        return kind(host=host, port=port, **self._options)


def _place(text: str) -> Place:
    """Host and port of a part of a URL. Raises ValueError."""
    parts = urlsplit(f"//{text}")
    host, port = parts.hostname or "localhost", parts.port
    host.encode("idna")
    if port == 0:
        raise ValueError("no port")
    return host, port or 6379


def _checked(options: dict[str, str], *, secure: bool) -> dict[str, Any]:
    """The options of a URL. Raises UsageError for one that is not known or cannot be used."""
    known = QUEUE_OPTIONS | (TLS_OPTIONS if secure else frozenset())
    if unknown := sorted(options.keys() - known):
        raise UsageError(
            f"the queue's URL has the unknown option {unknown[0]!r}; known are"
            f" {', '.join(sorted(known))}"
        )
    checked: dict[str, Any] = dict(options)
    if "ssl_check_hostname" in checked:
        checked["ssl_check_hostname"] = _flag("ssl_check_hostname", checked["ssl_check_hostname"])
    if "cluster" in checked:
        checked["cluster"] = _flag("cluster", checked["cluster"])
    if checked.get("cluster") and "sentinel" in checked:
        raise UsageError("the queue's URL asks for a cluster and for Sentinels: choose one")
    if secure:
        # Now, because a file that is not there would be taken for an outage later.
        _check_tls(checked)
    return checked


def _check_tls(options: dict[str, Any]) -> None:
    """Raises UsageError where the TLS options among these cannot be used."""
    tls = {name: value for name, value in options.items() if name in TLS_OPTIONS}
    try:
        SSLConnection(**tls, ssl_password=_NO_PASSPHRASE).ssl_context.get()
    except (OSError, ssl.SSLError, RedisError, ValueError) as exc:
        raise UsageError(f"the TLS options of the queue's URL cannot be used: {exc}") from exc


def _password_file(options: dict[str, Any], password: str) -> PasswordFile | None:
    """The file that the options name. Raises UsageError where it cannot be used."""
    path = options.get("password_file")
    if path is None:
        return None
    if password:
        raise UsageError("the queue has a password in its URL and a password file: choose one")
    return PasswordFile(Path(path))


def _flag(name: str, text: str) -> bool:
    match text.lower():
        case "true" | "yes" | "1":
            return True
        case "false" | "no" | "0":
            return False
    raise UsageError(f"{name} in the queue's URL is {text!r}: it must be true or false")


def _finder(
    places: list[Place],
    options: dict[str, Any],
    asked: dict[str, Any],
    namespace: str,
    *,
    secure: bool,
) -> Callable[[], Awaitable[Place]]:
    if master := options.get("sentinel"):

        async def of_sentinels() -> Place:
            kept = {name: value for name, value in asked.items() if name not in IDENTITY}
            own = {**kept, "ssl": secure}
            sentinel = Sentinel(places, sentinel_kwargs=own)  # type: ignore[no-untyped-call]
            try:
                host, port = await sentinel.discover_master(master)
            finally:
                await _tasks.ended([asyncio.create_task(_close(*sentinel.sentinels))])
            return str(host), int(port)

        return of_sentinels
    if options.get("cluster"):

        async def of_cluster() -> Place:
            start = [ClusterNode(host, port) for host, port in places]
            own = {name: value for name, value in asked.items() if name not in _NOT_OF_CLUSTERS}
            cluster = RedisCluster(startup_nodes=start, ssl=secure, **own)
            try:
                await cluster.initialize()
                node = cluster.get_node_from_key(f"{{{namespace}}}")
            finally:
                await _tasks.ended([asyncio.create_task(cluster.aclose())])
            if node is None:
                raise RedisError("no node of the cluster has the queue's slot")
            return node.host, int(node.port)

        return of_cluster
    if len(places) != 1:
        raise UsageError(
            "the queue's URL has several hosts: add sentinel=NAME, or cluster=true, to say what"
            " they are"
        )

    async def the_only_one() -> Place:
        return places[0]

    return the_only_one


async def _close(*clients: Redis) -> None:
    for client in clients:
        await client.aclose()
