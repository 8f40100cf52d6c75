"""The directory in Redis: two hashes, and a stream of one entry that tells of changes of rules."""

import logging
from collections.abc import AsyncGenerator, Callable, Mapping

import msgspec

from osmo_transport.bodies import Registration
from osmo_transport.conditions import DEFAULT_RULES, check_rules
from osmo_transport.directory import Directory, RuleSet
from osmo_transport.errors import BackendTakenError
from osmo_transport.queues import _directory_scripts
from osmo_transport.queues._redis_layout import Layout
from osmo_transport.queues._redis_link import Call, Link
from osmo_transport.queues._rules import full

BLOCK = 1.0
"""Seconds of one blocking read; see `_redis_consumer.BLOCK`."""

_log = logging.getLogger(__name__)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, str]).decode
_decode_registration = msgspec.json.Decoder(Registration).decode


class RedisDirectory(Directory):
    """Made by `RedisQueue`. `link` is for short commands, `make_link` gives one to wait with."""

    def __init__(
        self,
        link: Callable[[], Link],
        make_link: Callable[[], Link],
        layout: Layout,
        max_entries: int,
        wall: Callable[[], float],
    ) -> None:
        self._link = link
        self._make_link = make_link
        self._layout = layout
        self._keys = layout.keys
        self._max_entries = max_entries
        self._wall = wall

    async def register(self, backend: str, registration: Registration) -> bool:
        uid = registration.cluster_uid
        call: Call = (self._keys.backends,), (backend, uid, _encode(registration))
        if notices := self._layout.notices(backend, self._wall()):
            keys, arguments = call
            call = (*keys, *self._keys.streams.values()), (*arguments, self._max_entries, *notices)
        (reply,) = await self._link().call(_directory_scripts.REGISTER, call)
        if isinstance(reply, list):
            raise full(reply[0], self._max_entries)
        if isinstance(reply, bytes):
            raise BackendTakenError(backend, reply.decode(errors="replace"), uid)
        return bool(reply)

    async def forget(self, backend: str) -> bool:
        keys = (self._keys.backends, self._keys.rules, self._keys.rules_changed)
        (known,) = await self._link().call(
            _directory_scripts.FORGET, (keys, (backend, _encode(DEFAULT_RULES)))
        )
        return bool(known)

    async def backends(self) -> dict[str, Registration]:
        (fields,) = await self._link().run(("HGETALL", self._keys.backends))
        return {
            name.decode(): _decode_registration(value.partition(b"\n")[2])
            for name, value in zip(fields[::2], fields[1::2], strict=True)
        }

    async def set_rules(self, backend: str, rules: Mapping[str, str]) -> RuleSet:
        check_rules(rules)
        (version,) = await self._link().call(
            _directory_scripts.SET_RULES,
            ((self._keys.rules, self._keys.rules_changed), (backend, _encode(dict(rules)))),
        )
        return RuleSet(int(version), dict(rules))

    async def rules(self) -> dict[str, RuleSet]:
        return await self._read(self._link())

    async def follow_rules(self) -> AsyncGenerator[dict[str, RuleSet], None]:
        link = self._make_link()
        key = self._keys.rules_changed
        try:
            while True:
                (newest,) = await link.run(("XREVRANGE", key, "+", "-", "COUNT", 1))
                last = newest[0][0] if newest else b"0-0"
                yield await self._read(link)
                wait = ("XREAD", "BLOCK", round(BLOCK * 1000), "STREAMS", key, last)
                while not (await link.run(wait, wait=BLOCK))[0]:
                    pass
        finally:
            await link.abort()

    async def _read(self, link: Link) -> dict[str, RuleSet]:
        (fields,) = await link.run(("HGETALL", self._keys.rules))
        found: dict[str, RuleSet] = {}
        for backend, value in zip(fields[::2], fields[1::2], strict=True):
            version, _, rules = value.partition(b" ")
            try:
                found[backend.decode()] = RuleSet(int(version), _decode(rules))
            except (ValueError, msgspec.MsgspecError) as exc:
                _log.warning("the rules of %r in the store cannot be read: %s", backend, exc)
        return found
