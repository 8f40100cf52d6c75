"""How messages lie in Redis: what `RedisQueue` and its parts leave to a layout, and our own one."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from osmo_transport.delivery import ProducerBatch
from osmo_transport.errors import BodyError
from osmo_transport.message import Message, kind_of
from osmo_transport.queues._redis_keys import Keys
from osmo_transport.queues._scripts import APPEND, Script
from osmo_transport.queues.abc import QueueConfig

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode


class Entries(NamedTuple):
    """What a batch adds."""

    streams: list[int]
    """For each of its messages the index of a stream, from 1; 0 where nothing is added."""
    payloads: list[bytes]
    """Of those that are added, in order."""


class Layout(ABC):
    """Keys, entries and group of a queue."""

    append: Script = APPEND
    """As `_scripts.APPEND`."""
    group: str | None = None
    """The name that the group has, whatever is asked for; None: what is asked for."""
    shared_for: float = 0.0
    """Seconds for which workers that are not ours may hold an entry, and do not settle in one step;
    0: there are none."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys

    def configured(self, config: QueueConfig) -> QueueConfig:
        """The configuration with which consumers work."""
        return config

    def notices(self, backend: str, now: float) -> tuple[bytes, ...]:
        """Payloads of what the first stream is told when `backend` is registered for the first time
        and when it is registered otherwise than before; none: it is not told."""
        return ()

    @abstractmethod
    def entries(self, batch: ProducerBatch) -> Entries:
        """What the batch adds."""

    @abstractmethod
    def read(self, entry_id: str, fields: Sequence[bytes]) -> tuple[str, Message]:
        """Backend and message of an entry; `fields` are names and values in turns.

        Raises:
            BodyError: it cannot be read.
        """

    @abstractmethod
    def message(self, entry_id: str, payload: bytes) -> Message:
        """The message of an entry.

        Raises:
            BodyError: it cannot be read.
        """


class OwnLayout(Layout):
    """A stream for each class of kinds, and messages in msgpack."""

    def __init__(self, namespace: str, config: QueueConfig) -> None:
        """Raises:
        UsageError: the namespace could not stand in a key.
        """
        super().__init__(Keys.of(namespace, config.weights))
        self._index = {stream: i for i, stream in enumerate(self.keys.streams, 1)}

    def entries(self, batch: ProducerBatch) -> Entries:
        index = self._index
        return Entries(
            [0 if m is None else index[kind_of(m.kind).stream] for m in batch.messages],
            [_encode(message) for message in batch.messages if message is not None],
        )

    def read(self, entry_id: str, fields: Sequence[bytes]) -> tuple[str, Message]:
        try:
            name, backend, payload, raw = fields
            if (name, payload) != (b"b", b"m"):
                raise BodyError("its fields are not b and m")
            return backend.decode(), _decode(raw)
        except (ValueError, msgspec.MsgspecError) as exc:
            raise BodyError(str(exc)) from exc

    def message(self, entry_id: str, payload: bytes) -> Message:
        try:
            return _decode(payload)
        except (ValueError, msgspec.MsgspecError) as exc:
            raise BodyError(str(exc)) from exc
