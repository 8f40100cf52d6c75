"""The queue of the operators and workers that are already deployed: `?layout=osmo`.

Our operators and workers share one stream with theirs, in any mixture: each reads what the other
appended. Beside it, under names that theirs do not have, are our own keys. `QUEUES.md` says what is
lost.
"""

import dataclasses
import logging
from collections.abc import Sequence

from osmo_transport.delivery import ProducerBatch
from osmo_transport.deployed import (
    ListenerMessage,
    LoggingBody,
    arrival_at,
    from_message,
    to_message,
)
from osmo_transport.deployed_time import written
from osmo_transport.errors import BodyError
from osmo_transport.message import Message
from osmo_transport.queues import _osmo_json
from osmo_transport.queues._redis_keys import Keys, hash_tag
from osmo_transport.queues._redis_layout import Entries, Layout
from osmo_transport.queues._scripts import APPEND_DEPLOYED
from osmo_transport.queues.abc import QueueConfig

STREAM = "messages"
"""The only class of kinds."""

GROUP = "message_workers"
"""The consumer group that the deployed workers are in."""

DEPLOYED_LEASE = 300.0
"""Seconds after which the deployed workers take over what another one holds; they do not renew what
they hold, so nobody may take it earlier."""

BACKEND_NOTICE = "__BACKEND_OP__:"
"""Begin of a log message that is no log message: `create` or `update` follows, of the backend."""

_log = logging.getLogger(__name__)


class OsmoLayout(Layout):
    """See the module."""

    append = APPEND_DEPLOYED
    group = GROUP

    def __init__(self, namespace: str, lease: float = DEPLOYED_LEASE) -> None:
        """`lease`: for how many seconds a worker that is not ours may hold an entry.

        Raises:
            UsageError: the namespace could not stand in a key.
        """
        tag = hash_tag(namespace)
        stream = f"{tag}:{{message-queue}}:operator_messages"
        super().__init__(Keys.under(f"{tag}:pipeline", {STREAM: stream}))
        self.shared_for = lease

    def configured(self, config: QueueConfig) -> QueueConfig:
        lease = max(config.lease, self.shared_for)
        return dataclasses.replace(config, lease=lease, weights={STREAM: 1})

    def notices(self, backend: str, now: float) -> tuple[bytes, ...]:
        uuid = f"backend-op-{backend}-{round(now * 1e9)}"
        return tuple(
            _osmo_json.encode(
                ListenerMessage(
                    uuid, written(now), logging=LoggingBody(text=f"{BACKEND_NOTICE}{what}")
                )
            )
            for what in ("create", "update")
        )

    def entries(self, batch: ProducerBatch) -> Entries:
        entries = Entries([], [])
        for message in batch.messages:
            backend = batch.producer.backend
            theirs = None if message is None else self._translated(message, backend)
            entries.streams.append(1 if theirs else 0)
            if theirs:
                entries.payloads.append(_osmo_json.encode(theirs))
        return entries

    def _translated(self, message: Message, backend: str) -> ListenerMessage | None:
        try:
            return from_message(message, backend)
        except BodyError as exc:
            _log.error("a message of %s is left out, it cannot be translated: %s", backend, exc)
            return None

    def read(self, entry_id: str, fields: Sequence[bytes]) -> tuple[str, Message]:
        entry = dict(zip(fields[::2], fields[1::2], strict=True))
        try:
            backend, payload = entry[b"backend"].decode(), entry[b"message"]
        except KeyError as exc:
            raise BodyError(f"it has no field {exc}") from exc
        except UnicodeDecodeError as exc:
            raise BodyError(f"its backend is no text: {exc}") from exc
        if not backend:
            raise BodyError("its backend is empty")
        return backend, self.message(entry_id, payload)

    def message(self, entry_id: str, payload: bytes) -> Message:
        milliseconds, _, sequence = entry_id.partition("-")
        arrival = arrival_at(int(milliseconds), int(sequence))
        return to_message(_osmo_json.decode(payload), arrival)
