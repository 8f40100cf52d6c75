"""A listener made of one function, `(old, new, now) -> reports`, for kinds of anybody's.

What it keeps for the function:
- *Versions.* Each report has that of its object, raised where something new is said of an object
  that has not changed (the time may have something to say), so the newest report always wins.
- *Only what is new.* Of a `latest` kind a report with the same payload as the one before it is not
  sent again. Of an `every` kind all are sent.
- *Snapshots.* With each new epoch the function is shown every live object as if it were new, and a
  `snapshot_end` of its kind follows, with the number of keys: what a store holds with an older
  epoch is then gone.
- *One odd object.* What the function raises is logged once, and leaves out what it would have
  reported. As long as that is so for a live object no snapshot ends, for its rows would go; nor
  while a report of one is refused, because it is too large.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

import msgspec

from osmo_listener.informer.source import KubernetesObject
from osmo_reports.bodies import SnapshotEnd, encode_body
from osmo_transport import Refusal
from osmo_transport.kinds import Policy, kind_of
from osmo_transport.message import Message, Version, new_id

logger = logging.getLogger(__name__)

T = TypeVar("T", bound=KubernetesObject)

FAILURES = 100
"""Different errors of a function that are remembered, to log each once."""


class Report(NamedTuple):
    """What a function has to say."""

    key: str
    """Of what: the reports of one key follow each other. A key belongs to one object."""
    payload: bytes
    final: bool = False
    """Whether the object has come to its end; see `Message.final`."""


class _Known(msgspec.Struct, Generic[T]):
    item: T
    said: dict[str, tuple[int, bytes]] = {}
    """By key, the version and the payload of the last report in the present epoch."""
    seen: bool = False
    """Whether the function was shown the object in the present epoch."""
    failed: bool = False
    """Whether the function raised when it was last shown the object, or its report was refused."""


class ObjectListener(Generic[T]):
    """Implements `Listener`; the module says what it promises.

    Args:
        kind: of the messages; registered where it is defined, see `osmo_transport.register_kind`.
        report: what to say of one change: of an object as it was known (None: not at all, or not
            yet in this epoch), as it is now (None: it is gone), at a time in seconds since the Unix
            epoch. It depends on these alone, and does no I/O. At a resync the two are the same.
    """

    def __init__(
        self, kind: str, report: Callable[[T | None, T | None, float], Iterable[Report]]
    ) -> None:
        self._kind = kind
        self._report = report
        self._every = kind_of(kind).policy is Policy.EVERY
        self._epoch = 0
        self._known: dict[str, _Known[T]] = {}
        self._floor = 0
        """The version that the first report of a key has to exceed: that of the last deletion."""
        self._counted: set[str] | None = set()
        """The keys of the present epoch, until its snapshot has counted them."""
        self._logged: set[str] = set()
        self.failures = 0
        """How often the function raised."""

    def restart(self, epoch: int) -> None:
        """See `Listener.restart`."""
        self._epoch = epoch
        self._floor = 0
        self._counted = set()
        for known in self._known.values():
            known.said, known.seen = {}, False

    def on_change(
        self, old: T | None, new: T | None, resource_version: int, now: float
    ) -> list[Message]:
        """See `Listener.on_change`."""
        if new is not None:
            return self._tell(self._place(new), old, int(new.metadata.resource_version), now)
        return [] if old is None else self._remove(old, resource_version, now)

    def next_deadline(self) -> float | None:
        """See `Listener.next_deadline`: a function is asked when something changes."""
        return None

    def due(self, now: float) -> list[Message]:
        """See `Listener.due`."""
        return []

    def snapshot(
        self, objects: Iterable[T], resource_version: int, now: float
    ) -> Iterator[Message]:
        """See `Listener.snapshot`."""
        live = {item.metadata.uid: item for item in objects}
        gone = [known.item for uid, known in self._known.items() if uid not in live]
        told = [each for item in gone for each in self._remove(item, resource_version, now)]
        for item in live.values():
            self._place(item)
        return self._snapshot(self._epoch, told, resource_version, now)

    def listed(self, objects: Iterable[T], resource_version: int, now: float) -> tuple[()]:
        """See `Listener.listed`: deletions are reported one by one."""
        return ()

    def refused(self, refusal: Refusal, now: float) -> tuple[()]:
        """Take note that a report will never be stored; there is nothing to say instead."""
        if refusal.kind == self._kind and refusal.version.epoch == self._epoch:
            for known in self._known.values():
                if known.said.pop(refusal.key, None) is not None:
                    known.failed = True
        return ()

    def _snapshot(
        self, epoch: int, told: list[Message], resource_version: int, now: float
    ) -> Iterator[Message]:
        yield from told
        for uid, known in list(self._known.items()):
            if self._epoch != epoch:
                return
            if not known.seen and self._known.get(uid) is known:
                yield from self._tell(known, None, int(known.item.metadata.resource_version), now)
        if self._epoch != epoch:
            return
        if failed := sum(known.failed for known in self._known.values()):
            logger.warning("no snapshot of %s ends: %d objects are left out", self._kind, failed)
            return
        end = encode_body(SnapshotEnd(self._kind, len(self._counted or ())))
        self._counted = None
        version = Version(epoch, resource_version)
        yield Message("snapshot_end", self._kind, version, new_id(), now, end)

    def _place(self, item: T) -> _Known[T]:
        uid = item.metadata.uid
        known = self._known.get(uid)
        if known is None:
            known = self._known[uid] = _Known(item)
        known.item = item
        return known

    def _tell(
        self, known: _Known[T], old: T | None, resource_version: int, now: float
    ) -> list[Message]:
        reports = self._ask(old if known.seen else None, known.item, now)
        known.seen, known.failed = True, reports is None
        messages = []
        for report in reports or ():
            before, payload = known.said.get(report.key, (self._floor, b""))
            again = report.key in known.said and payload == report.payload
            if again and not self._every:
                continue
            version = max(resource_version, before if again else before + 1)
            known.said[report.key] = version, report.payload
            messages.append(self._message(report, version, now))
        return messages

    def _remove(self, last: T, resource_version: int, now: float) -> list[Message]:
        known = self._known.pop(last.metadata.uid, None)
        if known is None:
            return []
        messages = []
        for report in self._ask(last, None, now) or ():
            before, _ = known.said.get(report.key, (self._floor, b""))
            version = max(resource_version, before + 1)
            self._floor = max(self._floor, version)
            messages.append(self._message(report, version, now))
        return messages

    def _ask(self, old: T | None, new: T | None, now: float) -> list[Report] | None:
        """What the function says; None if it raises."""
        try:
            return [_checked(report) for report in self._report(old, new, now)]
        except Exception as exc:  # noqa: BLE001 - the function is somebody else's
            self.failures += 1
            error = f"{type(exc).__name__}: {exc}"
            if error not in self._logged:
                if len(self._logged) >= FAILURES:
                    self._logged.clear()
                self._logged.add(error)
                item = new or old
                name = "" if item is None else f"{item.metadata.namespace}/{item.metadata.name}"
                logger.warning("%s of %s cannot be reported: %s", self._kind, name, error)
            return None

    def _message(self, report: Report, version: int, now: float) -> Message:
        if self._counted is not None:
            self._counted.add(report.key)
        where = Version(self._epoch, version)
        return Message(self._kind, report.key, where, new_id(), now, report.payload, report.final)


def _checked(report: object) -> Report:
    match report:
        case Report(str(), bytes(), bool()):
            return report
    raise TypeError(f"{report!r:.200} is no Report of a key, a payload in bytes, and whether final")
