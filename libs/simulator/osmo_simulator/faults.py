"""Faults on demand: what the server does wrong, to which requests, and how often.

A fault waits for requests that match it, strikes, and is gone after `count` times. Of several that
match, the oldest strikes, alone.
"""

import msgspec

from osmo_simulator.errors import bad_request


class Fault(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="fault",
    tag=str.lower,
    forbid_unknown_fields=True,
):
    """Which requests are struck; each kind of fault is a class of its own below."""

    verb: str = ""
    """`get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`; empty
    for all."""
    resource: str = ""
    """`pods`, `nodes`, `events` or `namespaces`; empty for all."""
    count: int | None = 1
    """How many requests are struck; None strikes until the faults are cleared."""

    def matches(self, verb: str, resource: str) -> bool:
        """Whether a request is struck."""
        return self.verb in {"", verb} and self.resource in {"", resource}


class Drop(Fault, frozen=True, kw_only=True):
    """The connection breaks before anything is done or answered."""


class Cut(Fault, frozen=True, kw_only=True):
    """The connection breaks in the middle of the answer."""

    after_bytes: int
    """How much of the answer's body still arrives."""


class Hang(Fault, frozen=True, kw_only=True):
    """The answer stops and the connection stays open, silent, until somebody closes it."""

    after_bytes: int | None = None
    """How much of the answer's body still arrives; None: not even the headers."""


class Slow(Fault, frozen=True, kw_only=True):
    """The answer comes late."""

    delay: float = 1.0
    """Seconds before anything is done or answered."""


class Gone(Fault, frozen=True, kw_only=True):
    """The version that the client knows is too old: 410."""

    as_event: bool = False
    """For a watch: the answer is 200 and the error an event, as the real server does it."""


class Throttle(Fault, frozen=True, kw_only=True):
    """The server asks for patience: 429."""

    retry_after: int = 1
    """Seconds, for the header `Retry-After`."""


class Fail(Fault, frozen=True, kw_only=True):
    """The server refuses or fails."""

    code: int = 500
    """The HTTP status, for example 401, 403, 500 or 503."""


AnyFault = Drop | Cut | Hang | Slow | Gone | Throttle | Fail


def decode_fault(body: bytes) -> AnyFault:
    """A fault from JSON: its fields, and under `fault` its class's name in lower case.

    Raises:
        StatusError: there is no such fault, or it has no such field.
    """
    try:
        fault: AnyFault = msgspec.json.decode(body, type=AnyFault)
    except (ValueError, RecursionError) as exc:
        raise bad_request(f"not a fault: {exc}") from exc
    return fault


class Restart(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the server starts again: see `Simulator.restart`."""

    down: float = 0.0
    """Seconds during which connections are refused."""
    compact: bool = True
    """Whether the history before is gone."""


def decode_restart(body: bytes) -> Restart:
    """A restart from JSON; an empty body is the usual one.

    Raises:
        StatusError: there is no such field, or its value does not fit.
    """
    try:
        return msgspec.json.decode(body or b"{}", type=Restart)
    except (ValueError, RecursionError) as exc:
        raise bad_request(f"not a restart: {exc}") from exc


class Faults:
    """The faults that wait for their requests."""

    def __init__(self) -> None:
        self._waiting: list[tuple[AnyFault, int | None]] = []

    def inject(self, fault: AnyFault) -> None:
        """Strike the next requests that match."""
        self._waiting.append((fault, fault.count))

    def clear(self) -> None:
        """Forget every fault; what already hangs stays so until its connection is closed."""
        self._waiting.clear()

    def waiting(self) -> list[AnyFault]:
        """The faults that have not struck as often as they shall."""
        return [fault for fault, _ in self._waiting]

    def take(self, verb: str, resource: str) -> AnyFault | None:
        """The fault that strikes this request, counted."""
        for index, (fault, left) in enumerate(self._waiting):
            if fault.matches(verb, resource):
                if left == 1:
                    del self._waiting[index]
                elif left is not None:
                    self._waiting[index] = (fault, left - 1)
                return fault
        return None
