"""The directory in Redis: three hashes, and for names and rules a stream of one entry that tells of
changes."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Protocol, runtime_checkable

import msgspec

from osmo_reports.bodies import Registration
from osmo_reports.conditions import DEFAULT_RULES, check_rules
from osmo_reports.directory import scripts
from osmo_reports.directory.abc import (
    MAX_BACKENDS,
    MAX_FREED,
    Claim,
    Directory,
    Origin,
    RuleSet,
    too_many,
)
from osmo_reports.errors import BackendTakenError, RulesDeclaredError
from osmo_transport.queues.abc import QueueConfig
from osmo_transport.queues.redis.address import Address
from osmo_transport.queues.redis.client import Call, RedisClient
from osmo_transport.queues.redis.layout import Layout, layout_named
from osmo_transport.queues.redis.queue import new_client
from osmo_transport.queues.rules import full

BLOCK = 1.0
"""Seconds of one blocking read: within them a connection that is dead is noticed."""

CLAIMS_INTERVAL = 1.0
"""Seconds between two looks for other claims: when all listeners come at once each may change one,
and all are read anew."""

NO_CHANGE = b"0-0"
"""What goes before the id of every change."""

RESTORED = 100
"""Names that are put back in one round trip, for which those who register wait."""

MAX_WAITING = 16
"""Entries of a list of rules that nobody takes: each replaces all that were told before it."""

MAX_TOLD = 256 * 1024
"""Bytes of rules that others tell: as many rules as may be used take half of it."""

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, str]).decode
_decode_registration = msgspec.json.Decoder(Registration).decode


@runtime_checkable
class Notifying(Protocol):
    """A layout in whose queue others are told of the backends."""

    def notices(self, backend: str, now: float) -> tuple[bytes, bytes]:
        """What the first stream is told when `backend` is registered for the first time, and when
        it is registered otherwise than before, `now` in seconds since the Unix epoch."""

    def rules_list(self, backend: str) -> str:
        """The key of the list by which others tell the rules of `backend`, and are told. An entry
        is a JSON object with all of them as `rules`; the newest stands first."""


class _Told(msgspec.Struct):
    """An entry of such a list."""

    rules: dict[str, str] | None = None


_decode_told = msgspec.json.Decoder(_Told).decode


async def open_directory(
    url: str,
    config: QueueConfig,
    max_backends: int = MAX_BACKENDS,
    wall: Callable[[], float] = time.time,
) -> "RedisDirectory":
    """The directory beside a queue in Redis. `wall` gives seconds since the Unix epoch.

    Raises:
        UsageError: the URL is wrong.
    """
    address = Address.of(url)
    layout = layout_named(address.layout, address.namespace, config)
    return RedisDirectory(address, layout, config.max_entries, max_backends, wall)


class RedisDirectory(Directory):
    """Made by `open_directory`."""

    def __init__(
        self,
        address: Address,
        layout: Layout,
        max_entries: int,
        max_backends: int,
        wall: Callable[[], float],
    ) -> None:
        self._address = address
        self._client = new_client(address)
        self._others = layout if isinstance(layout, Notifying) else None
        self._streams = layout.keys.streams
        self._max_entries = max_entries
        self._max_backends = max_backends
        self._wall = wall
        prefix = layout.keys.prefix
        self._backends = f"{prefix}:backends"
        self._since = f"{prefix}:backends:since"
        self._claims_changed = f"{prefix}:backends:changed"
        self._rules = f"{prefix}:rules"
        self._rules_changed = f"{prefix}:rules:changed"

    async def register(
        self, backend: str, registration: Registration, known: Claim | None = None
    ) -> bool:
        uid, most = registration.cluster_uid, self._max_entries
        keys = self._of_claims
        arguments = (*_restored(backend, known or Claim(), self._max_backends), uid)
        arguments += (_encode(registration),)
        if self._others is not None:
            keys += tuple(self._streams.values())
            arguments += (most, *self._others.notices(backend, self._wall()))
        (reply,) = await self._client.call(scripts.REGISTER, (keys, arguments))
        if isinstance(reply, list):
            raise full(reply[0], most)
        if isinstance(reply, bytes):
            raise BackendTakenError(backend, reply.decode(errors="replace"), uid)
        if reply < 0:
            raise too_many(self._max_backends)
        return bool(reply)

    async def forget(self, backend: str) -> bool:
        rules = (self._rules, self._rules_changed, *self._rules_list(backend))
        arguments = (backend, MAX_FREED, _encode(DEFAULT_RULES), MAX_WAITING)
        call: Call = (*self._of_claims, *rules), arguments
        (known,) = await self._client.call(scripts.FORGET, call)
        return bool(known)

    async def claims(self) -> dict[str, Claim]:
        since, noted = await self._client.run(("HGETALL", self._since), ("HGETALL", self._backends))
        times: dict[bytes, tuple[int, int]] = {}
        for name, value in zip(since[::2], since[1::2], strict=True):
            with suppress(ValueError):
                taken, freed = map(int, value.split())
                times[name] = taken, freed
        found: dict[str, Claim] = {}
        for name, value in zip(noted[::2], noted[1::2], strict=True):
            taken, freed = times.pop(name, (0, 0))
            try:
                registration = _decode_registration(value.rpartition(b"\n")[2])
                found[name.decode()] = Claim(registration, taken, freed)
            except (ValueError, RecursionError) as exc:
                _log.warning("who reports %r cannot be read in the store: %s", name, exc)
        for name, (_, freed) in times.items():
            found[name.decode(errors="replace")] = Claim(freed=freed)
        return found

    async def restore_claims(self, known: Mapping[str, Claim]) -> None:
        calls: list[Call] = [
            (self._of_claims, _restored(backend, ours, self._max_backends))
            for backend, ours in known.items()
        ]
        for start in range(0, len(calls), RESTORED):
            await self._client.call(scripts.RESTORE_CLAIM, *calls[start : start + RESTORED])

    async def follow_claims(self) -> AsyncGenerator[dict[str, Claim], None]:
        seen = b""
        while True:
            last = await self._last_change(self._client, self._claims_changed)
            if last != seen:
                found = await self.claims()
                yield found
                seen = b"" if _came_meanwhile(found, last) else last
            await asyncio.sleep(CLAIMS_INTERVAL)

    @property
    def _of_claims(self) -> tuple[str, ...]:
        return self._backends, self._since, self._claims_changed

    async def set_rules(self, backend: str, rules: Mapping[str, str]) -> RuleSet:
        check_rules(rules)
        reply = await self._set(backend, rules, Origin.COMMAND)
        if not reply:
            raise RulesDeclaredError(backend)
        return _rule_set(reply)

    async def declare_rules(self, backend: str, rules: Mapping[str, str] | None) -> RuleSet | None:
        if rules is not None:
            check_rules(rules)
            return _rule_set(await self._set(backend, rules, Origin.FILE))
        reply = await self._set(backend, DEFAULT_RULES, Origin.DEFAULT)
        return _rule_set(reply) if reply else None

    async def _set(self, backend: str, rules: Mapping[str, str], origin: Origin) -> bytes:
        keys = (self._rules, self._rules_changed, *self._rules_list(backend))
        arguments = (backend, _encode(dict(rules)), MAX_WAITING, origin)
        reply: bytes
        (reply,) = await self._client.call(scripts.SET_RULES, (keys, arguments))
        return reply

    async def restore_rules(self, known: Mapping[str, RuleSet]) -> None:
        for backend, ours in known.items():
            keys = (self._rules, self._rules_changed, *self._rules_list(backend))
            arguments = (backend, _encode(ours.rules), MAX_WAITING, ours.origin, ours.version)
            await self._client.call(scripts.RESTORE, (keys, arguments))

    def _rules_list(self, backend: str) -> tuple[str, ...]:
        """The list by which others are told, if there are others who could be: in a cluster it may
        be in another node than the queue."""
        if self._others is None or self._address.cluster:
            return ()
        return (self._others.rules_list(backend),)

    async def adopt_rules(self, backends: Iterable[str]) -> None:
        lists = [(backend, key) for backend in backends for key in self._rules_list(backend)]
        if not lists:
            return
        looks = [("LINDEX", key, 0) for _, key in lists]
        # A key that is not ours may be of any type, and out of our rights.
        newest = await self._client.run(*looks, check=False)
        for (backend, key), payload in zip(lists, newest, strict=True):
            if isinstance(payload, bytes):
                keys = (self._rules, self._rules_changed, key)
                rules = _rules_told(backend, payload)
                (reply,) = await self._client.call(scripts.ADOPT, (keys, (backend, payload, rules)))
                if reply < 0:
                    _log.warning(
                        "rules that were set for %s elsewhere are left out: a file of the"
                        " operators declares others",
                        backend,
                    )

    async def rules(self) -> dict[str, RuleSet]:
        return await self._read(self._client)

    async def follow_rules(self) -> AsyncGenerator[dict[str, RuleSet], None]:
        client = new_client(self._address)
        try:
            while True:
                last = await self._last_change(client, self._rules_changed)
                found = await self._read(client)
                yield found
                wait = ("XREAD", "BLOCK", round(BLOCK * 1000), "STREAMS", self._rules_changed, last)
                while not (await client.run(wait, wait=BLOCK))[0]:
                    # A store that lost its memory wakes nobody.
                    now = await self._last_change(client, self._rules_changed)
                    if now != last or _came_meanwhile(found, last):
                        break
        finally:
            await client.abort()

    async def _last_change(self, client: RedisClient, changes: str) -> bytes:
        """The id of the newest entry that tells of a change, of none `NO_CHANGE`."""
        (newest,) = await client.run(("XREVRANGE", changes, "+", "-", "COUNT", 1))
        last: bytes = newest[0][0] if newest else NO_CHANGE
        return last

    async def _read(self, client: RedisClient) -> dict[str, RuleSet]:
        (fields,) = await client.run(("HGETALL", self._rules))
        found: dict[str, RuleSet] = {}
        for backend, value in zip(fields[::2], fields[1::2], strict=True):
            try:
                found[backend.decode()] = _rule_set(value)
            except (ValueError, RecursionError) as exc:
                _log.warning("the rules of %r in the store cannot be read: %s", backend, exc)
        return found

    async def aclose(self) -> None:
        await self._client.abort()


def _came_meanwhile(found: Mapping[str, object], last: bytes) -> bool:
    """Whether what was found came after the `last` change was asked for. A store that loses it
    then says what it said before."""
    return bool(found) and last == NO_CHANGE


def _rule_set(value: bytes) -> RuleSet:
    """Rules as they are stored; those without an origin were set by command.

    Raises:
        ValueError: they cannot be read.
    """
    head, brace, rules = value.partition(b"{")
    version, _, origin = head.decode().strip().partition(" ")
    return RuleSet(int(version), _decode(brace + rules), Origin(origin or Origin.COMMAND))


def _restored(backend: str, known: Claim, most: int) -> tuple[str | bytes | int, ...]:
    """The arguments of `scripts.RESTORE_CLAIM`."""
    noted = b""
    if known.registration is not None:
        noted = known.registration.cluster_uid.encode() + b"\n" + _encode(known.registration)
    return backend, most, MAX_FREED, known.since, known.freed, noted


def _rules_told(backend: str, payload: bytes) -> bytes:
    """The rules in what others told, as ours are stored; empty, with a word, if they cannot be
    read."""
    try:
        if len(payload) > MAX_TOLD:
            raise ValueError(f"{len(payload)} bytes, and {MAX_TOLD} may be told")
        return _encode(_decode_told(payload).rules or {})
    except (ValueError, RecursionError) as exc:
        _log.warning("rules that were set for %s elsewhere cannot be read: %s", backend, exc)
        return b""
