"""A client of Redis on one connection.

redis-py makes the connections and finds the servers. Neither its client nor its streams are on the
way of a command: the former keeps what is left on a connection when a call is cancelled, and both
take several times the CPU of a command. Here commands that are given together go out in one write;
whatever interrupts them, a cancellation included, gives up the connection, and the next call makes
a new one.
"""

import asyncio
import re
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    InvalidResponse,
    NoPermissionError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from osmo_transport._text import shown
from osmo_transport.errors import (
    ClosedError,
    QueueRefusedError,
    QueueUnavailableError,
    TransportError,
)
from osmo_transport.queues.redis.address import Address, RacedConnection
from osmo_transport.queues.redis.replies import ErrorReply, Replies
from osmo_transport.queues.redis.rights import GUIDE, is_missing_right, missing_right
from osmo_transport.queues.redis.scripts.script import Script

COMMAND_TIMEOUT = 5.0
"""Seconds for a group of commands, waiting for others and connecting included: longer than a slow
fsync, and short enough that a silent server is noticed before a lease ends."""

SLOWEST = 100_000.0
"""Bytes per second of the slowest link that is not taken for a silent one: what is sent, and what
may come back, has so much more time."""

Argument = str | bytes | int


class Beginning(NamedTuple):
    """How commands begin that are sent again and again: packed once, by `beginning`."""

    arguments: tuple[Argument, ...]
    packed: bytes
    """What comes of them between the number of all arguments and the end of their last one."""


Command = tuple[Argument | Beginning, ...]
"""Only its first part may be a beginning."""
Call = tuple[Sequence[str] | Beginning, Sequence[Argument]]
"""Keys and arguments of a script; or a beginning with the keys, and the arguments after it."""
Info = Mapping[str, str]


class _Lengths(dict[int, bytes]):
    """A length as RESP writes it in front of an argument; of the usual ones it is kept."""

    USUAL = 4096

    def __missing__(self, length: int) -> bytes:
        text = b"$%d" % length
        if length <= self.USUAL:
            self[length] = text
        return text


_length = _Lengths().__getitem__


def pack(commands: Iterable[Command]) -> bytes:
    """The bytes of some commands, as RESP has them. hiredis takes twice as long for an append, as
    it copies the messages once more."""
    lines: list[bytes] = []
    for command in commands:
        begun = command[0]
        if type(begun) is Beginning:
            rest = command[1:]
            head = b"*%d%b" % (len(begun.arguments) + len(rest), begun.packed)
        else:
            rest, head = command, b"*%d" % len(command)
        parts = [part if isinstance(part, bytes) else f"{part}".encode() for part in rest]
        places = len(lines) + 1
        lines += (head, *parts, *parts)
        lines[places::2] = map(_length, map(len, parts))
        lines[places + 1 :: 2] = parts
    lines.append(b"")
    return b"\r\n".join(lines)


def beginning(script: Script, keys: Sequence[str], *arguments: Argument) -> Beginning:
    """How calls of a script begin that have these keys, and first these arguments."""
    begun = ("EVALSHA", script.sha, len(keys), *keys, *arguments)
    return Beginning(begun, pack([begun]).removeprefix(b"*%d" % len(begun))[:-2])


class RedisClient:
    """One connection, made when it is needed; calls wait for each other."""

    def __init__(self, address: Address, inspect: Callable[[Info], None]) -> None:
        """`inspect` sees INFO of each server that is connected to, and may refuse it."""
        self._address = address
        self._check = inspect
        self._connection: RacedConnection | None = None
        self._replies: Replies | None = None
        self._lock = asyncio.Lock()
        self._calls = 0
        """That are under way or wait for their turn."""
        self._closed = False

    async def run(
        self, *commands: Command, wait: float = 0.0, expect: int = 0, check: bool = True
    ) -> list[Any]:
        """Send commands at once and return their replies.

        `wait` is for how many seconds the commands themselves may block, and `expect` how many
        bytes of replies they may bring. With `check` the first error among the replies is raised;
        without, each is returned in its place as an `ErrorReply`.

        Raises:
            QueueUnavailableError: no connection, no answer in time, or an error was answered.
            QueueRefusedError: the server is not fit for the queue, or refuses the credentials.
        """
        replies = await self._send(commands, wait, expect)
        if check and ErrorReply in map(type, replies):
            for command, reply in zip(commands, replies, strict=True):
                if type(reply) is ErrorReply:
                    raise self.refusal(reply.text, command)
        return replies

    async def _send(
        self, commands: Sequence[Command], wait: float = 0.0, expect: int = 0
    ) -> list[Any]:
        packed = pack(commands)
        timeout = COMMAND_TIMEOUT + wait + (len(packed) + expect) / SLOWEST
        self._calls += 1
        try:
            if self._calls == 1 and self._replies is not None:
                # Nothing is waited for but the answer, whose time the exchange sees to.
                async with self._lock:
                    return await self._exchange(packed, len(commands), timeout)
            async with asyncio.timeout(timeout), self._lock:
                return await self._exchange(packed, len(commands), timeout)
        except TransportError:
            raise
        except Exception as exc:  # whatever the library, its parser or the event loop raise
            raise self._translated(exc, timeout) from exc
        finally:
            self._calls -= 1

    async def _exchange(self, packed: bytes, count: int, timeout: float) -> list[Any]:
        if self._closed:
            raise ClosedError("the queue is closed")
        try:
            connection = self._replies or await self._connect(timeout)
            replies = await connection.exchange(packed, count, timeout)
            for reply in replies:
                if type(reply) is ErrorReply:
                    _check_usable(reply.text)
            return replies
        except BaseException:
            await self.abort()
            raise

    async def call(self, script: Script, *calls: Call, expect: int = 0) -> list[Any]:
        """Run a script once for each call, in order, in one round trip; their replies have up to
        `expect` bytes.

        A server that does not know the script gets it, and then *all* the calls again: another
        client may have brought it in between, and a later call must not count if an earlier one did
        not. So a script has to be safe to repeat.

        Raises:
            QueueUnavailableError, QueueRefusedError: as `run`.
        """
        commands: list[Command] = [
            (begun, *arguments)
            if type(begun) is Beginning
            else ("EVALSHA", script.sha, len(begun), *begun, *arguments)
            for begun, arguments in calls
        ]
        replies = await self._send(commands, expect=expect)
        if ErrorReply not in map(type, replies):
            return replies
        if any(
            type(reply) is ErrorReply and reply.text.startswith(_NO_SCRIPT) for reply in replies
        ):
            load = ("SCRIPT", "LOAD", script.text)
            loaded, *replies = await self.run(load, *commands, check=False, expect=expect)
            if type(loaded) is ErrorReply:
                raise self.refusal(loaded.text, load)
        for command, reply in zip(commands, replies, strict=True):
            if type(reply) is ErrorReply:
                raise self.refusal(reply.text, command, script.text)
        return replies

    async def prepare(self, script: Script) -> None:
        """Connect and bring the script along, unless that is done: so that the first call, which
        somebody may wait for, takes no longer than others.

        Raises:
            QueueUnavailableError, QueueRefusedError: as `run`.
        """
        if self._replies is None:
            await self.run(("SCRIPT", "LOAD", script.text))

    async def inspect(self) -> None:
        """Look at the server again: its configuration may have changed.

        Raises:
            QueueUnavailableError, QueueRefusedError: as `run`.
        """
        (info,) = await self.run(("INFO",))
        self._look_at(info)

    async def aclose(self) -> None:
        """`abort`, and run nothing any more, be it that a call waits for its turn: it gets a
        `ClosedError`. Does not wait either."""
        self._closed = True
        await self.abort()

    async def abort(self) -> None:
        """Give up the connection, and with it a command that another task waits for. Does not
        wait."""
        connection, self._connection, self._replies = self._connection, None, None
        if connection is not None:
            with suppress(RedisError, OSError, RuntimeError):  # it is gone either way
                connection.cut()
                await connection.disconnect(nowait=True)

    async def _connect(self, timeout: float) -> Replies:
        # Known to `abort` before it is ready, so that a cancelled attempt leaves no socket behind.
        connection = self._connection = await self._address.connection()
        await connection.connect()  # type: ignore[no-untyped-call]
        if self._connection is not connection:
            await connection.disconnect(nowait=True)
            raise ConnectionAbortedError("given up while connecting")
        replies = connection.taken_over()
        asked = ("INFO",)
        (info,) = await replies.exchange(pack([asked]), 1, timeout)
        if type(info) is ErrorReply:
            _check_usable(info.text)
            raise self.refusal(info.text, asked)
        self._look_at(info)
        if self._address.password_file is not None:
            self._address.password_file.accepted()
        self._replies = replies
        return replies

    def _look_at(self, info: bytes) -> None:
        lines = (line.partition(":") for line in info.decode(errors="replace").splitlines())
        self._check({name: value for name, colon, value in lines if colon})

    def _translated(self, exc: Exception, timeout: float) -> Exception:
        text = shown(str(exc))
        if isinstance(exc, AuthenticationError | AuthorizationError):
            return self._stranger(text)
        if isinstance(exc, TimeoutError) and not text:
            return QueueUnavailableError(f"{self._address} did not answer within {timeout:.0f} s")
        if isinstance(exc, InvalidResponse):
            return QueueUnavailableError(
                f"{self._address} does not answer as Redis does: look at the host and the port of"
                f" the queue's URL ({text})"
            )
        cause: BaseException | None = exc
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return QueueRefusedError(
                    f"{self._address}: the certificate is not trusted ({cause.verify_message});"
                    " name its authority in ssl_ca_certs, and connect to a host that it names"
                )
            if isinstance(cause, NoPermissionError):
                return self.refusal(f"NOPERM {cause}")
            cause = cause.__cause__ or cause.__context__
        if _ANOTHER_KIND.search(text) or (
            isinstance(exc, ResponseError) and not isinstance(exc, ReadOnlyError)
        ):
            return self.refusal(text)
        return QueueUnavailableError(f"{self._address} is not available: {text}")

    def _stranger(self, text: str) -> Exception:
        file = self._address.password_file
        if file is None:
            return QueueRefusedError(
                f"{self._address} refuses the user or password of the queue's URL: {text}"
            )
        what = f"{self._address} refuses the user of the queue's URL or the password in {file}"
        return (QueueUnavailableError if file.may_follow() else QueueRefusedError)(
            f"{what}: {text}"
        )

    def refusal(self, text: str, command: Command = (), script: str = "") -> Exception:
        """What an error means that Redis answered to a command, which ran a script."""
        if command and type(command[0]) is Beginning:
            command = (*command[0].arguments, *command[1:])
        if is_missing_right(text):
            return self._lacking(missing_right(text, command, script, self._address.namespace))
        text = shown(text)
        if "WRONGTYPE" in text:
            return QueueRefusedError(
                f"{self._address} holds other data under the queue's keys: choose another"
                f" ?namespace=NAME in the URL ({text})"
            )
        if "DB index is out of range" in text:
            return QueueRefusedError(f"{self._address}: there is no such database ({text})")
        if _ANOTHER_KIND.search(text):
            return QueueRefusedError(
                f"{self._address} is no such server as `cluster` or `sentinel` in the queue's URL"
                f" says ({text})"
            )
        return QueueUnavailableError(f"{self._address} refused a command: {text}")

    def _lacking(self, right: str) -> Exception:
        user = self._address.user
        return QueueRefusedError(
            f"{self._address} does not let the user {user} of the queue's URL {right} with ACL"
            f" SETUSER {user}, or name another user in the URL; {GUIDE}, has all that are needed"
        )


def _check_usable(text: str) -> None:
    """Raises RedisError where an error tells that the connection is of no use any more."""
    if text.startswith(_STRANGERS):
        raise AuthenticationError(text)
    # After a failover the address may lead elsewhere, but an open connection does not.
    if text.startswith("LOADING") or _ELSEWHERE.search(text):
        raise RedisError(text)


_NO_SCRIPT = "NOSCRIPT"

_STRANGERS = ("NOAUTH", "WRONGPASS")
"""The server has forgotten who we are."""

_ELSEWHERE = re.compile(r"READONLY|MOVED|ASK |CLUSTERDOWN|MASTERDOWN|TRYAGAIN")
"""Another server has the keys, now or soon: the address is asked again."""

_ANOTHER_KIND = re.compile("Cluster mode is not enabled|unknown command .?SENTINEL", re.IGNORECASE)
