"""Deployed programs on Redis, as rules 2.1 and 2.2 describe them."""

import json
from typing import Any

import redis
from google.protobuf import json_format

from osmo_protos.listener_service_pb2 import ListenerMessage
from osmo_transport.testing.redis_server import RedisServer

KEY = "{osmo}:{message-queue}:operator_messages"
GROUP = "message_workers"


class Program:
    """With a client of its own, as any other program has it."""

    def __init__(self, server: RedisServer) -> None:
        # Declared for another version of redis-py.
        self._client: Any = redis.Redis(port=server.port)

    def close(self) -> None:
        self._client.close()


class DeployedOperator(Program):
    """Appends one message at a time."""

    def append(self, backend: str, message: ListenerMessage) -> None:
        text = json_format.MessageToJson(
            message,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )
        self._client.xadd(KEY, {"message": text, "backend": backend})

    def append_fields(self, fields: dict[str, bytes]) -> None:
        """What no operator appends."""
        self._client.xadd(KEY, fields)

    def rules(self, backend: str) -> Any:
        """What it would tell a backend's listener next, if anything."""
        found = self._client.rpop(f"backend-connections:{backend}")
        return None if found is None else json.loads(found)


class DeployedService(Program):
    """Where users set the rules of a backend."""

    def set_rules(self, backend: str, rules: dict[str, str]) -> None:
        self._client.lpush(f"backend-connections:{backend}", json.dumps({"rules": rules}))


class DeployedWorker(Program):
    """Reads one entry at a time, acknowledges it and then deletes it."""

    def __init__(self, server: RedisServer, name: str = "worker-host-1") -> None:
        super().__init__(server)
        self.name = name
        try:
            self._client.xgroup_create(KEY, GROUP, id="0", mkstream=True)
        except redis.ResponseError as exc:
            if "BUSYGROUP" not in str(exc):
                raise

    def take(self) -> tuple[bytes, str, dict[str, Any]] | None:
        """A new entry that is pending for it then: id, backend and message."""
        found = self._client.xreadgroup(GROUP, self.name, {KEY: ">"}, count=1)
        return self._parsed(found[0][1][0]) if found else None

    def claim(self) -> list[tuple[bytes, str, dict[str, Any]]]:
        """What others have held for too long."""
        claimed = self._client.xautoclaim(
            KEY, GROUP, self.name, min_idle_time=300_000, start_id="0-0", count=10
        )
        return [self._parsed(entry) for entry in claimed[1]]

    def settle(self, entry_id: bytes) -> None:
        """Acknowledge and delete, in two steps."""
        self.acknowledge(entry_id)
        self.delete(entry_id)

    def acknowledge(self, entry_id: bytes) -> None:
        self._client.xack(KEY, GROUP, entry_id)

    def delete(self, entry_id: bytes) -> None:
        self._client.xdel(KEY, entry_id)

    def work(self) -> list[tuple[str, dict[str, Any]]]:
        """Take and settle everything; backends and messages."""
        done = []
        while taken := self.take():
            entry_id, backend, message = taken
            self.settle(entry_id)
            done.append((backend, message))
        return done

    def age(
        self, entry_id: bytes, milliseconds: int, *, holder: str = "", attempts: int = 1
    ) -> None:
        """Let what `holder`, else itself, holds have been idle so long, and delivered so often."""
        name = holder or self.name
        self._client.xclaim(KEY, GROUP, name, 0, [entry_id], idle=milliseconds, retrycount=attempts)

    @staticmethod
    def _parsed(entry: Any) -> tuple[bytes, str, dict[str, Any]]:
        entry_id, fields = entry
        return entry_id, fields[b"backend"].decode(), json.loads(fields[b"message"])
