"""One connection to Redis, and the only module that knows redis-py.

redis-py's own client is not used: it sends a command again after a lost connection, and leaves the
reply on the connection when a call is cancelled. A `Link` does neither. Commands that are given
together go out in one write; whatever interrupts them, a cancellation included, gives up the
connection, and the next call makes a new one.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import hiredis
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from osmo_transport.errors import QueueRefusedError, QueueUnavailableError, UsageError
from osmo_transport.queues._scripts import Script

COMMAND_TIMEOUT = 5.0
"""Seconds for a group of commands, connecting included: longer than a slow fsync, and short enough
that a silent server is noticed before a lease ends."""

OPTIONS = frozenset(
    {
        "ssl_ca_certs",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_keyfile",
    }
)
"""What a URL's query may hold beside the queue's own options; see redis-py."""

QUEUE_OPTIONS = frozenset({"layout", "namespace"})
"""The queue's own."""

# hiredis declares a tuple of one element.
_pack = cast("Callable[[tuple[object, ...]], bytes]", hiredis.pack_command)

Argument = str | bytes | int
Command = tuple[Argument, ...]
Call = tuple[Sequence[str], Sequence[Argument]]
"""Keys and arguments of a script."""
Info = Mapping[str, str]


class ErrorReply(NamedTuple):
    """An error that Redis answered to one command."""

    text: str


class _Connection(Protocol):
    async def connect(self) -> None: ...
    async def disconnect(self, nowait: bool = ...) -> None: ...
    async def send_packed_command(self, command: bytes, check_health: bool = ...) -> None: ...
    async def read_response(self) -> Any: ...


@dataclass(frozen=True)
class Address:
    """Where Redis is. `str()` and `repr()` of it have no password."""

    url: str = field(repr=False)
    name: str

    def __str__(self) -> str:
        return self.name

    @classmethod
    def of(cls, url: str) -> tuple["Address", dict[str, str]]:
        """The address in a queue's URL, and those of `QUEUE_OPTIONS` that the URL has.

        Raises:
            UsageError: the URL is wrong. Its text never holds the URL, which may hold a password.
        """
        try:
            parts = urlsplit(url)
            options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
            name = f"{parts.scheme}://{parts.hostname or 'localhost'}:{parts.port or 6379}"
            database = int(parts.path.strip("/") or 0)
        except ValueError:
            raise UsageError(
                "the queue's URL is not of the form redis://[USER:PASSWORD@]HOST[:PORT][/DB]; write"
                " special characters of a password as %XX"
            ) from None
        own = {name: options.pop(name) for name in QUEUE_OPTIONS & options.keys()}
        if unknown := sorted(options.keys() - OPTIONS):
            raise UsageError(
                f"the queue's URL has the unknown option {unknown[0]!r}; known are"
                f" {', '.join(sorted(OPTIONS | QUEUE_OPTIONS))}"
            )
        plain = urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(options), ""))
        return cls(plain, f"{name}/{database}"), own


class Link:
    """One connection, made when it is needed; calls wait for each other."""

    def __init__(self, address: Address, inspect: Callable[[Info], None]) -> None:
        """`inspect` sees INFO of each server that is connected to, and may refuse it."""
        self._address = address
        self._check = inspect
        pool = ConnectionPool.from_url(
            address.url,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=None,
            socket_connect_timeout=COMMAND_TIMEOUT,
            socket_keepalive=True,
        )
        self._make = cast("Callable[[], _Connection]", pool.make_connection)
        self._connection: _Connection | None = None
        self._lock = asyncio.Lock()

    async def run(self, *commands: Command, wait: float = 0.0, check: bool = True) -> list[Any]:
        """Send commands at once and return their replies.

        `wait` is for how many seconds the commands themselves may block. With `check` the first
        error among the replies is raised; without, each is returned in its place as an
        `ErrorReply`.

        Raises:
            QueueUnavailableError: no connection, no answer in time, or an error was answered.
            QueueRefusedError: the server is not fit for the queue, or refuses the credentials.
        """
        timeout = COMMAND_TIMEOUT + wait
        packed = b"".join([_pack(command) for command in commands])
        async with self._lock:
            try:
                async with asyncio.timeout(timeout):
                    connection = self._connection or await self._connect()
                    await connection.send_packed_command(packed, check_health=False)
                    replies = [await self._read(connection) for _ in commands]
            except BaseException as exc:
                await self.abort()
                if isinstance(exc, RedisError | OSError | TimeoutError):
                    raise self._translated(exc, timeout) from exc
                raise
        if check:
            for reply in replies:
                if isinstance(reply, ErrorReply):
                    raise self.refusal(reply.text)
        return replies

    async def call(self, script: Script, *calls: Call) -> list[Any]:
        """Run a script once for each (keys, arguments), in order, in one round trip.

        A server that does not know the script gets it, and then *all* the calls again: another
        client may have brought it in between, and a later call must not count if an earlier one did
        not. So a script has to be safe to repeat.

        Raises:
            QueueUnavailableError, QueueRefusedError: as `run`.
        """
        commands = [
            ("EVALSHA", script.sha, len(keys), *keys, *arguments) for keys, arguments in calls
        ]
        replies = await self.run(*commands, check=False)
        if _NO_SCRIPT in replies:
            replies = await self.run(("SCRIPT", "LOAD", script.text), *commands, check=False)
            del replies[0]
        for reply in replies:
            if isinstance(reply, ErrorReply):
                raise self.refusal(reply.text)
        return replies

    async def inspect(self) -> None:
        """Look at the server again: its configuration may have changed.

        Raises:
            QueueUnavailableError, QueueRefusedError: as `run`.
        """
        (info,) = await self.run(("INFO",))
        self._look_at(info)

    async def abort(self) -> None:
        """Give up the connection, and with it a command that another task waits for. Does not
        wait."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def _connect(self) -> _Connection:
        # Known to `abort` before it is ready, so that a cancelled attempt leaves no socket behind.
        connection = self._connection = self._make()
        await connection.connect()
        if self._connection is not connection:
            await connection.disconnect(nowait=True)
            raise ConnectionAbortedError("given up while connecting")
        await connection.send_packed_command(_pack(("INFO",)), check_health=False)
        self._look_at(await connection.read_response())
        return connection

    def _look_at(self, info: bytes) -> None:
        lines = (line.partition(":") for line in info.decode().splitlines())
        self._check({name: value for name, colon, value in lines if colon})

    async def _read(self, connection: _Connection) -> Any:
        try:
            return await connection.read_response()
        except NoScriptError:
            return _NO_SCRIPT
        except NoPermissionError as exc:
            return ErrorReply(f"{_NO_PERMISSION} {exc}")
        except ResponseError as exc:
            # After a failover the address may lead elsewhere, but an open connection does not.
            if isinstance(exc, ReadOnlyError) or "READONLY" in str(exc):
                raise
            return ErrorReply(str(exc))

    def _translated(self, exc: BaseException, timeout: float) -> Exception:
        if isinstance(exc, AuthenticationError | AuthorizationError):
            return QueueRefusedError(
                f"{self._address} refuses the user or password of the queue's URL: {exc}"
            )
        if isinstance(exc, TimeoutError) and not str(exc):
            return QueueUnavailableError(f"{self._address} did not answer within {timeout} s")
        return QueueUnavailableError(f"{self._address} is not available: {exc}")

    def refusal(self, text: str) -> Exception:
        """What an `ErrorReply` means."""
        if "WRONGTYPE" in text:
            return QueueRefusedError(
                f"{self._address} holds other data under the queue's keys: choose another"
                f" ?namespace=NAME in the URL ({text})"
            )
        if text.startswith(_NO_PERMISSION):
            return QueueRefusedError(f"{self._address} does not let the URL's user do this: {text}")
        return QueueUnavailableError(f"{self._address} refused a command: {text}")


_NO_SCRIPT = ErrorReply("NOSCRIPT")
_NO_PERMISSION = "NOPERM"
