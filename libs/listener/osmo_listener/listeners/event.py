"""The event listener: what the cluster notes about the pods of a namespace.

Events about pods are reported, and those in which the scheduler tells of a PodGroup that one of its
pods was preempted, as events of that pod. All others are counted and ignored.

Kubernetes tells that something was noted again by changing its Event: the count or the time rises.
*Noted* is counted from that: of an Event that is seen for the first time, as often as it says
itself; of one that is known, by as much as its count has risen, and once if only its time has.

- What is noted of one pod with the same type and reason is reported once in `dedupe_ttl`: the first
  time at once. What follows is held back and reported as one when the time is up, with the newest
  message and time, and with how often it was noted in `count`. So the counts of the reports add up
  to all that was noted.
- Whoever keeps the reports knows each by what it says, and keeps the highest count of those that
  say the same. So one that repeats message and time of the one before, as of two containers that
  start in the same second, counts what that one counted as well.
- A new epoch repeats the last report of each pod, type and reason exactly as it was, as long as
  that is not older than `dedupe_ttl`; what is older is reported anew from the Events that still
  live, each with its whole count.
- Reports are numbered: their versions order them, and say nothing of the Events they came from,
  whose versions may go back where a cluster is restored.
- A new process knows no earlier reports: it reports every Event that lives, with its whole count.
- An Event that is gone has most likely expired, as all do after about an hour: nothing to report.
  Where Events are found gone after a gap in the watch, others may have come and gone unseen: there
  is no way to know, so the gap is counted and logged.
"""

import logging
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from osmo_listener.listeners.objects import Event
from osmo_listener.listeners.pod_rules.states import parse_time
from osmo_reports.bodies import PodEvent, encode_body
from osmo_reports.fitting import shortened
from osmo_transport.bounds import Count, SecondsOrZero
from osmo_transport.lean import dataclass
from osmo_transport.message import Message, Version, new_id

logger = logging.getLogger(__name__)

KIND = "pod_event"
SCHEDULER = "kai-scheduler"
"""Who notes of a PodGroup that a pod of it was preempted."""
PREEMPTED = "Evict"
"""The reason that it gives."""

MAX_MESSAGE = 4096
"""Bytes of a message that are reported: four times what the API server takes in Events of the newer
form; in the older one there is no limit."""
MAX_WORD = 512
"""Bytes of a reason or a type that are reported: as much more than the API server's own limit."""
DUE_AT_ONCE = 5000
"""Entries that one call of `due` looks at, so that it takes some tens of milliseconds; where more
were reported in one moment, as at a start, the rest is left to the next call."""
MAX_NAME = 253
"""Characters of a pod's name: the API server's own limit, which it does not enforce for the name of
what an Event is about."""
MAX_SEARCHED = 1024
"""Characters of a PodGroup's message in which the pod is looked for: the search takes time with the
square of it in the worst case."""

_PREEMPTED_POD = re.compile(r"Pod\s+\S+/([^\s]+)\s+was preempted")


@dataclass(frozen=True, kw_only=True)
class EventConfig:
    """How events are reported."""

    dedupe_ttl: SecondsOrZero = 15 * 60.0
    """Seconds in which the same type and reason of one pod is reported once; what is noted again
    meanwhile is counted. 0: everything is reported at once."""
    max_keys: Count = 50_000
    """Different pods, types and reasons that are known at once, some hundred bytes each: what a
    busy namespace notes in `dedupe_ttl`. Beyond it, what was reported longest ago is forgotten
    before its time, and reported at once when it is noted again."""


class _Report(NamedTuple):
    body: PodEvent
    happened: float
    """The body's timestamp in seconds since the Unix epoch; 0 where the Event has no time."""


class _Entry(msgspec.Struct):
    """What is known of one pod, type and reason."""

    last: _Report
    sent_at: float
    start: int
    """The `_starts` of the listener when `last` was sent, or repeated."""
    held: _Report | None = None
    """What was noted since `last`, as one."""


class _Known(NamedTuple):
    """What of an Event was taken into account already."""

    resource_version: str
    times: int
    """As its count says."""
    happened: float
    start: int
    """The `_starts` of the listener when that was."""


_Key = tuple[str, str, str]
"""Type, reason, pod."""


class EventListener:
    """Implements `Listener[Event]`; the module says what it reports.

    It keeps a few numbers for each live Event, and at most `EventConfig.max_keys` entries. Events
    have a uid, and a resource version that is a number (else ValueError).

    Args:
        config: how.
        namespace: whose Events are reported.
    """

    def __init__(self, config: EventConfig, namespace: str) -> None:
        self._config = config
        self._namespace = namespace
        self._epoch = 0
        self._starts = 0
        """How often `restart` was called."""
        self._reported = 0
        """How many reports there were."""
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        """The one that was reported longest ago first, so that the first one is due first."""
        self._events: dict[str, _Known] = {}
        """By uid: every live Event that was told."""
        self._vanished_before = 0
        self.ignored = 0
        """Events that are about nothing that is reported."""
        self.held_back = 0
        """Times that something was noted and not reported at once."""
        self.forgotten = 0
        """Entries that `EventConfig.max_keys` pushed out."""
        self.vanished = 0
        """Events that were found gone after a gap in the watch, and may have changed in it."""
        self.history_lost = 0
        """Gaps after which Events were found gone: others may have come and gone in them."""

    @property
    def tracked(self) -> int:
        """How many pods, types and reasons are known at this moment."""
        return len(self._entries)

    def restart(self, epoch: int) -> None:
        """See `Listener.restart`. What was held back, and since when, is kept."""
        self._epoch = epoch
        self._starts += 1

    def on_change(
        self, old: Event | None, new: Event | None, resource_version: int, now: float
    ) -> list[Message]:
        """See `Listener.on_change`."""
        if old is not None and (new is None or old.metadata.uid != new.metadata.uid):
            self._events.pop(old.metadata.uid, None)
            # A deletion that was watched comes with the final state, whose version is its own.
            self.vanished += resource_version != _resource_version(old)
        return [] if new is None else self._note(new, now)

    def next_deadline(self) -> float | None:
        """See `Listener.next_deadline`."""
        for entry in self._entries.values():
            return self._due_at(entry)
        return None

    def due(self, now: float) -> list[Message]:
        """See `Listener.due`: reports what was held back, and forgets what was not noted again."""
        # A clock that was set back must not keep from users what is held back.
        for entry in self._entries.values():
            if entry.sent_at <= now:
                break
            entry.sent_at = now
        messages: list[Message] = []
        for _ in range(min(len(self._entries), DUE_AT_ONCE)):
            key, entry = next(iter(self._entries.items()))
            if self._due_at(entry) > now:
                break
            messages += self._repeat(entry, now)
            if entry.held is None:
                del self._entries[key]
            else:
                messages += self._send(key, entry.held, now)
        return messages

    def snapshot(
        self, objects: Iterable[Event], resource_version: int, now: float
    ) -> Iterator[Message]:
        """See `Listener.snapshot`, without a `snapshot_end`: no event is ever taken back."""
        del resource_version
        events = list(objects)
        live = {event.metadata.uid for event in events}
        self._events = {uid: known for uid, known in self._events.items() if uid in live}
        self._close_gap()
        return self._snapshot(self._starts, events, now)

    def listed(
        self, objects: Iterable[Event], resource_version: int, now: float
    ) -> Iterable[Message]:
        """See `Listener.listed`: takes note of what the gap before the list may have cost."""
        del objects, resource_version, now
        self._close_gap()
        return ()

    def _snapshot(self, start: int, events: list[Event], now: float) -> Iterator[Message]:
        repeated = dict(self._entries)
        for entry in repeated.values():
            if self._starts != start:
                return
            yield from self._repeat(entry, now)
        for event in events:
            if self._starts != start:
                return
            uid = event.metadata.uid
            known, key = self._events.get(uid), self._key(event)
            told_before = known is not None and known.start != start
            if told_before and key is not None and key not in repeated:
                del self._events[uid]  # its last report is forgotten: it is reported anew
            yield from self._note(event, now)

    def _note(self, event: Event, now: float) -> list[Message]:
        """Take an Event into account; what is known already changes nothing."""
        uid, resource_version = event.metadata.uid, event.metadata.resource_version
        known = self._events.get(uid)
        if known is not None and known.resource_version == resource_version:
            return []
        timestamp, happened = _time(event, now)
        times = max(1, event.count, event.series.count if event.series else 0)
        if known is None:
            more = times
        elif times > known.times or happened > known.happened:
            more = max(1, times - known.times)
        else:
            return []
        self._events[uid] = _Known(resource_version, times, happened, self._starts)
        key = self._key(event)
        if key is None:
            self.ignored += known is None
            return []
        type_, reason, pod = key
        message = shortened(event.message, MAX_MESSAGE)
        body = PodEvent(pod, reason, message, type_, timestamp, more)
        return self._take(key, _Report(body, happened), now)

    def _take(self, key: _Key, report: _Report, now: float) -> list[Message]:
        """Report it, or hold it back."""
        entry = self._entries.get(key)
        if entry is None:
            return self._send(key, report, now)
        messages = self._repeat(entry, now)
        entry.held = report if entry.held is None else _joined(entry.held, report)
        if now >= self._due_at(entry):
            return messages + self._send(key, entry.held, now)
        self.held_back += report.body.count
        return messages

    def _send(self, key: _Key, report: _Report, now: float) -> list[Message]:
        entry = self._entries.get(key)
        if entry is not None:
            report = _after(entry.last, report)
        self._entries[key] = _Entry(report, now, self._starts)
        self._entries.move_to_end(key)
        return [*self._forget_oldest(now), self._message(report, now)]

    def _forget_oldest(self, now: float) -> list[Message]:
        if len(self._entries) <= self._config.max_keys:
            return []
        self.forgotten += 1
        _, entry = self._entries.popitem(last=False)
        messages = self._repeat(entry, now)
        if entry.held is not None:
            messages.append(self._message(_after(entry.last, entry.held), now))
        return messages

    def _repeat(self, entry: _Entry, now: float) -> list[Message]:
        """The last report, if the current epoch does not have it yet."""
        if entry.start == self._starts:
            return []
        entry.start = self._starts
        return [self._message(entry.last, now)]

    def _message(self, report: _Report, now: float) -> Message:
        self._reported += 1
        version = Version(self._epoch, self._reported)
        body = report.body
        return Message(KIND, body.pod, version, new_id(), now, encode_body(body))

    def _due_at(self, entry: _Entry) -> float:
        return entry.sent_at + self._config.dedupe_ttl

    def _key(self, event: Event) -> _Key | None:
        """What the report of an Event is about, or None for one that is not reported."""
        if event.metadata.namespace != self._namespace:
            return None
        pod = _pod(event)
        if not pod:
            return None
        words = shortened(event.type, MAX_WORD), shortened(event.reason, MAX_WORD)
        return (*words, f"{self._namespace}/{pod}")

    def _close_gap(self) -> None:
        vanished = self.vanished - self._vanished_before
        if vanished:
            self._vanished_before = self.vanished
            self.history_lost += 1
            logger.warning(
                "%d events were gone after a gap in the watch: what was noted in it may be lost",
                vanished,
            )


def _pod(event: Event) -> str:
    """The name of the pod that an Event is about; empty: about none."""
    about = event.involved_object
    if about.kind == "Pod":
        return about.name if len(about.name) <= MAX_NAME else ""
    if about.kind == "PodGroup" and event.reason == PREEMPTED and SCHEDULER in _noted_by(event):
        found = _PREEMPTED_POD.search(event.message[:MAX_SEARCHED])
        return found[1] if found and len(found[1]) <= MAX_NAME else ""
    return ""


def _noted_by(event: Event) -> tuple[str, str, str]:
    return event.source.component, event.reporting_component, event.reporting_controller


def _time(event: Event, now: float) -> tuple[str, float]:
    """When it was noted last: as RFC 3339 in UTC, and in seconds since the Unix epoch, where 0
    stands for an Event that does not say."""
    series = event.series
    for text in (
        event.last_timestamp,
        series.last_observed_time if series else None,
        event.event_time,
        event.first_timestamp,
        event.metadata.creation_timestamp,
    ):
        moment = parse_time(text)
        if moment is not None:
            return _written(moment), moment.timestamp()
    return _written(datetime.fromtimestamp(now, UTC).replace(microsecond=0)), 0.0


def _written(moment: datetime) -> str:
    return f"{moment.replace(tzinfo=None).isoformat()}Z"


def _after(last: _Report, report: _Report) -> _Report:
    """What to send after `last`: of the same words, with the count of both."""
    same = last.body.message == report.body.message and last.happened == report.happened
    return _joined(last, report) if same else report


def _joined(first: _Report, second: _Report) -> _Report:
    """Both as one: the newer of them, with the count of both."""
    newer = first if first.happened > second.happened else second
    count = first.body.count + second.body.count
    return newer._replace(body=msgspec.structs.replace(newer.body, count=count))


def _resource_version(event: Event) -> int:
    return int(event.metadata.resource_version)
