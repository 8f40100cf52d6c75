"""The queue of the operators and workers that are already deployed: `?layout=osmo`.

Our operators and workers share one stream with theirs, in any mixture: each reads what the other
appended. Beside it, under names that theirs do not have, are our own keys. The README says what is
shared, and what is lost.
"""

import dataclasses
import logging
import re
import time
from collections.abc import Callable, Sequence

import msgspec

from osmo_deployed import protojson
from osmo_deployed.messages import (
    BACKEND_NOTICE,
    ListenerMessage,
    LoggingBody,
    arrival_at,
    from_message,
    to_message,
)
from osmo_deployed.times import written
from osmo_reports.errors import BodyError
from osmo_transport.errors import UnreadableError, UnsendableError
from osmo_transport.message import Message, encode_message, read_message
from osmo_transport.queues.abc import QueueConfig
from osmo_transport.queues.delivery import ProducerBatch
from osmo_transport.queues.redis.keys import Keys, hash_tag
from osmo_transport.queues.redis.layout import REFUSED, Appended, Layout, way
from osmo_transport.queues.redis.scripts.letters import replay
from osmo_transport.queues.redis.scripts.producers import append

STREAM = "messages"
"""The only class of kinds."""

GROUP = "message_workers"
"""The consumer group that the deployed workers are in."""

DEPLOYED_LEASE = 300.0
"""Seconds after which the deployed workers take over what another one holds; they do not renew what
they hold, so nobody may take it earlier."""

_ONLY = way(0)

_TRACE = re.compile("00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
"""The trace context that goes before the JSON of a message which has one."""

_FIELDS = """unpack(message:byte() == 123
  and {'message', message, 'backend', backend}
  or {'message', message:sub(56), 'backend', backend, 'traceparent', message:sub(1, 55)})"""
"""Of an entry: what the deployed programs read, and if it has a trace, which shows by what its
message begins with, a field that they do not look at."""

_log = logging.getLogger(__name__)


class OsmoLayout(Layout):
    """See the module."""

    append = append(_FIELDS)
    replay = replay("'message', raw, 'backend', backend")
    group = GROUP

    def __init__(
        self,
        namespace: str,
        config: QueueConfig,
        lease: float = DEPLOYED_LEASE,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`lease`: for how many seconds a worker that is not ours may hold an entry. `wall` gives
        seconds since the Unix epoch.

        Raises:
            UsageError: the namespace could not stand in a key.
        """
        tag = hash_tag(namespace)
        stream = f"{tag}:{{message-queue}}:operator_messages"
        super().__init__(Keys(f"{tag}:pipeline", {STREAM: stream}))
        self.shared_for = lease
        self._wall = wall

    def configured(self, config: QueueConfig) -> QueueConfig:
        lease = max(config.lease, self.shared_for)
        return dataclasses.replace(config, lease=lease, weights={STREAM: 1})

    def notices(self, backend: str, now: float) -> tuple[bytes, bytes]:
        """What the stream is told of a backend that is new, and of one that has changed: see
        `osmo_reports.directory.redis.Notifying`."""
        uuid = f"backend-op-{backend}-{round(now * 1e9)}"

        def notice(what: str) -> bytes:
            body = LoggingBody(text=f"{BACKEND_NOTICE}{what}")
            return protojson.encode(ListenerMessage(uuid, written(now), logging=body))

        return notice("create"), notice("update")

    def rules_list(self, backend: str) -> str:
        """Where the deployed service puts the rules of a backend, and deployed operators take them:
        see `osmo_reports.directory.redis.Notifying`."""
        return f"backend-connections:{backend}"

    def appended(self, batch: ProducerBatch) -> Appended:
        backend, now = batch.producer.backend, self._wall()
        ways: list[str] = []
        payloads: list[bytes] = []
        for data in batch.encoded:
            payload = self._payload(read_message(data), backend, now) if data else b""
            ways.append(_ONLY if payload else REFUSED)
            payloads.append(payload)
        return Appended("".join(ways), payloads)

    def _payload(self, message: Message, backend: str, now: float) -> bytes:
        """Empty: it has no equivalent."""
        try:
            theirs = from_message(message, backend, now)
        except BodyError as exc:
            _log.error("a message of %s is left out, it cannot be translated: %s", backend, exc)
            return b""
        if theirs is None:
            return b""
        payload, trace = protojson.encode_without_nul(theirs), message.traceparent
        return trace.encode() + payload if trace and _TRACE.fullmatch(trace) else payload

    def read(self, entry_id: str, fields: Sequence[bytes]) -> tuple[str, Message]:
        entry = dict(zip(fields[::2], fields[1::2], strict=True))
        try:
            backend, payload = entry[b"backend"].decode(), entry[b"message"]
        except KeyError as exc:
            raise UnreadableError(f"it has no field {exc}") from exc
        except UnicodeDecodeError as exc:
            raise UnreadableError(f"its backend is no text: {exc}") from exc
        if not backend:
            raise UnreadableError("its backend is empty")
        message, trace = self.message(entry_id, payload), entry.get(b"traceparent")
        if trace is not None:
            message = msgspec.structs.replace(message, traceparent=trace.decode(errors="replace"))
        return backend, message

    def message(self, entry_id: str, payload: bytes) -> Message:
        milliseconds, _, sequence = entry_id.partition("-")
        try:
            arrival = arrival_at(int(milliseconds), int(sequence))
        except ValueError as exc:
            raise UnreadableError("its id is none, and says no time") from exc
        try:
            message = to_message(protojson.decode(payload), arrival)
            encode_message(message)
        except (BodyError, UnsendableError) as exc:
            raise UnreadableError(str(exc)) from exc
        return message
