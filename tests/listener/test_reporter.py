"""The reporter: every change becomes a message, every new epoch a snapshot, in one order."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import msgspec
from msgspec.structs import astuple
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from osmo_listener.informer.store import Change, ChangeType
from osmo_listener.listeners.objects import Pod
from osmo_listener.listeners.workflow import WorkflowListener
from osmo_listener.reporter import Reporter
from osmo_reports.bodies import decode_body
from osmo_runtime.operations.tracing import open_tracing
from osmo_transport import (
    BackoffConfig,
    Client,
    ClientConfig,
    Limits,
    Message,
    Refusal,
    Server,
    ServerConfig,
    SessionConfig,
    connect,
    encode_message,
    listen,
)
from osmo_transport.message import Version, new_id
from tests.helpers import eventually

CONFIG = ClientConfig(backoff=BackoffConfig(base=0.0, maximum=0.0), drain_timeout=0.0)


def pod(name: str, version: int, phase: str = "Running", **status: object) -> Pod:
    return msgspec.convert(
        {
            "metadata": {
                "name": name,
                "namespace": "osmo",
                "uid": f"uid-{name}",
                "resourceVersion": str(version),
                "labels": {"osmo.workflow_uuid": "w", "osmo.task_uuid": name},
            },
            "status": {"phase": phase, **status},
        },
        Pod,
    )


def added(item: Pod) -> Change[Pod]:
    return Change(ChangeType.ADDED, None, item, int(item.metadata.resource_version))


class Lists(WorkflowListener):
    """Has something to report of every further list."""

    def listed(
        self, objects: Iterable[Pod], resource_version: int, now: float
    ) -> tuple[Message, ...]:
        names = " ".join(item.metadata.name for item in objects)
        version = Version(self._epoch, resource_version)
        return (Message("list", names, version, new_id(), now, b""),)


class World:
    """A reporter, and an operator that keeps and acknowledges what it gets."""

    def __init__(self, server: Server, client: Client) -> None:
        self.server = server
        self.client = client
        self.got: list[Message] = []
        self.batches: list[int] = []
        """Messages of each batch."""
        self.pods: list[Pod] = []
        self.now = 1000.0
        self.ticks: asyncio.Queue[None] = asyncio.Queue()
        self.listener = Lists()
        self.refusals: list[Refusal] = []
        self.reporter = Reporter(
            self.listener,
            client,
            instead=self._instead,
            clock=lambda: self.now,
            sleep=self._sleep,
        )
        self.reporter.read_from(lambda: self.pods)

    async def _sleep(self, _: float) -> None:
        await self.ticks.get()

    def _instead(self, refusal: Refusal, now: float) -> list[Message]:
        self.refusals.append(refusal)
        return self.listener.refused(refusal, now)

    async def receive(self) -> None:
        while incoming := await self.server.receive():
            for each in incoming:
                self.batches.append(len(each.encoded))
                self.got += each.messages
                each.acknowledge()

    async def change(self, *items: Pod) -> None:
        known = {p.metadata.name: p for p in self.pods}
        changes: Sequence[Change[Pod]] = [added(item) for item in items]
        known.update({item.metadata.name: item for item in items})
        self.pods = list(known.values())
        await self.reporter.changed(changes)

    def reports(self) -> list[tuple[int, int, str]]:
        """Epoch, resource version and task (or `end` and its count) of all messages."""
        return [(*astuple(m.version), self._name(m)) for m in self.got]

    @staticmethod
    def _name(message: Message) -> str:
        if message.kind == "list":
            return f"list {message.key}"
        body = decode_body(message.kind, message.payload)
        return f"end {body.count}" if message.kind == "snapshot_end" else body.task_uuid


@asynccontextmanager
async def world(*, message_bytes: int = 100_000) -> AsyncIterator[World]:
    limits = Limits(message_bytes=message_bytes)
    session = SessionConfig(limits=limits)
    client_config = ClientConfig(session=session, backoff=CONFIG.backoff, drain_timeout=0.0)
    async with (
        listen("memory://", config=ServerConfig(session=session)) as server,
        connect(server.url, backend="b", config=client_config) as client,
    ):
        made = World(server, client)
        tasks = [
            asyncio.create_task(made.receive()),
            asyncio.create_task(made.reporter.follow_epochs()),
            asyncio.create_task(made.reporter.keep_time()),
        ]
        try:
            yield made
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_changes_then_the_end_of_the_first_snapshot() -> None:
    """The first list is reported as it comes, and its end closes the snapshot, once; the listener
    is told of the next list when all its changes were."""
    async with world() as w:
        await w.change(pod("a", 1), pod("b", 2))
        await w.reporter.synced(2, 2)
        await w.change(pod("c", 3))
        await w.reporter.synced(3, 3)
        await w.client.flush()
        epoch = w.client.epoch
        assert w.reports() == [
            (epoch, 1, "a"),
            (epoch, 2, "b"),
            (epoch, 2, "end 2"),
            (epoch, 3, "c"),
            (epoch, 3, "list a b c"),
        ]


async def test_changes_that_come_together_leave_together() -> None:
    """The objects on a page reach the operator in one batch."""
    async with world() as w:
        await w.client.epoch_after(0)
        await w.change(*(pod(f"pod-{number}", number) for number in range(1, 86)))
        await w.client.flush()
        assert w.batches == [85]


async def test_a_new_epoch_brings_a_full_snapshot() -> None:
    """When the queue has lost its memory everything alive is reported again, then the end."""
    async with world() as w:
        await w.change(pod("a", 1), pod("b", 2))
        await w.reporter.synced(2, 2)
        await w.client.flush()
        first = w.client.epoch
        w.got.clear()
        w.client.renew_epoch()
        await eventually(lambda: len(w.got) == 3)
        second = w.client.epoch
        assert second > first
        assert sorted(w.reports()) == [(second, 1, "a"), (second, 2, "b"), (second, 2, "end 2")]
        assert w.got[-1].kind == "snapshot_end"


async def test_no_end_before_the_list_is_complete() -> None:
    """An epoch that comes in the middle of the first list does not end a half snapshot."""
    async with world() as w:
        await w.change(pod("a", 1))
        await w.client.flush()
        first = w.client.epoch
        w.client.renew_epoch()
        await w.client.epoch_after(first)
        await eventually(lambda: w.client.stats.connects == 2)
        await w.change(pod("b", 2))
        await w.reporter.synced(2, 2)
        await w.client.flush()
        ends = [m for m in w.got if m.kind == "snapshot_end"]
        assert [(m.version.epoch, World._name(m)) for m in ends] == [(w.client.epoch, "end 2")]
        assert (w.client.epoch, 1, "a") in w.reports()


async def test_a_list_that_a_new_epoch_follows() -> None:
    """What ends the list is the snapshot of the new epoch, and the next one is a further list."""
    async with world() as w:
        await w.change(pod("a", 1))
        await w.reporter.synced(1, 1)
        await w.client.flush()
        first = w.client.epoch
        w.client.renew_epoch()
        await w.client.epoch_after(first)
        await eventually(lambda: len(w.got) == 4)
        await w.reporter.synced(5, 1)
        await w.client.flush()
        second = w.client.epoch
        assert w.reports()[2:] == [(second, 1, "a"), (second, 1, "end 1"), (second, 5, "list a")]


async def test_what_is_asked_of_the_listener_takes_its_turn() -> None:
    """It gets the time, and its messages go between those of two changes."""
    async with world() as w:
        await w.change(pod("a", 1))
        await w.reporter.synced(1, 1)
        w.now += 5
        await w.reporter.report(lambda now: w.listener.listed(w.pods, 7, now))
        await w.change(pod("a", 8, "Succeeded"))
        await w.client.flush()
        assert [name for *_, name in w.reports()] == ["a", "end 1", "list a", "a"]
        assert w.got[2].timestamp == w.now


async def test_a_restored_cluster_gets_a_new_epoch() -> None:
    """Versions that went back are reported under a higher epoch, so that they count as newer."""
    async with world() as w:
        await w.change(pod("a", 90))
        await w.reporter.synced(90, 1)
        await w.client.flush()
        first = w.client.epoch
        w.got.clear()
        await w.reporter.regressed(10)
        await w.change(pod("a", 9, "Succeeded"))
        await w.reporter.synced(10, 1)
        await eventually(lambda: len(w.got) == 2)
        second = w.client.epoch
        assert second > first
        assert w.reports() == [(second, 9, "a"), (second, 10, "end 1")]


async def test_a_standby_is_warm_and_reports_nothing() -> None:
    """It follows the cluster, takes over with a snapshot of what is there by then, and stands by
    again when it was overtaken: then too nothing of what it sees is sent before its next epoch."""
    async with world() as w, AsyncExitStack() as stack:
        await w.client.placed()
        config = ClientConfig(backoff=CONFIG.backoff, takes_over=True)
        other = connect(w.server.url, backend="b", config=config)
        holder = await stack.enter_async_context(other)
        await eventually(lambda: w.client.holder is not None)
        await w.change(pod("a", 1), pod("b", 2))
        await w.reporter.synced(2, 2)
        await w.change(pod("a", 3, "Succeeded"))
        await w.reporter.regressed(2)
        await w.change(pod("c", 1))
        await w.reporter.synced(2, 3)
        assert (w.got, w.client.stats.waiting) == ([], 0)
        await stack.aclose()
        await eventually(lambda: len(w.got) == 4)
        epoch = w.client.epoch
        assert epoch > holder.epoch
        assert sorted(w.reports()) == [
            (epoch, 1, "c"),
            (epoch, 2, "b"),
            (epoch, 2, "end 3"),
            (epoch, 3, "a"),
        ]


async def test_the_first_change_does_not_wait_for_who_stands_by() -> None:
    """Another process has reported since before this one began."""
    async with listen("memory://") as server, connect(server.url, backend="b") as other:
        await other.epoch_after(0)
        async with connect(server.url, backend="b", config=CONFIG) as client:
            async with asyncio.timeout(20):
                await Reporter(WorkflowListener(), client).changed([added(pod("a", 1))])
            assert (client.epoch, client.stats.waiting) == (0, 0)


async def test_time_alone_makes_a_report() -> None:
    """A configuration error that lasts for ten minutes is reported without another change."""
    waiting = {"state": {"waiting": {"reason": "CreateContainerConfigError"}}, "name": "c"}
    ready = {"type": "Ready", "status": "False", "lastTransitionTime": "1970-01-01T00:16:40Z"}
    async with world() as w:
        stuck = pod("a", 1, "Pending", containerStatuses=[waiting], conditions=[ready])
        await w.change(stuck)
        w.ticks.put_nowait(None)
        await eventually(w.ticks.empty)
        w.now += 601
        w.ticks.put_nowait(None)
        await eventually(lambda: len(w.got) == 2)
        told = [decode_body("update_pod", message.payload).status for message in w.got]
        assert told == ["SCHEDULING", "FAILED_BACKEND_ERROR"]


async def test_a_report_that_is_too_large_is_cut() -> None:
    """What the operator takes is told, the status above all, and the version is the same."""
    async with world(message_bytes=1000) as w:
        await w.change(pod("a", 1, "Failed", message="x" * 200_000), pod("b", 2))
        await w.client.flush()
        assert [name for *_, name in w.reports()] == ["a", "b"]
        body = decode_body("update_pod", w.got[0].payload)
        assert (body.status, body.pod) == ("FAILED", "osmo/a")
        assert "characters left out" in body.message
        assert w.got[0].version == Version(w.client.epoch, 1)
        assert w.got[0].final
        assert (w.reporter.refused, w.refusals) == (0, [])


async def test_a_live_pod_whose_report_cannot_be_sent_exists() -> None:
    """Where nothing of a report can be sent, the end of the snapshot does not delete what it is
    about, nor wait for it."""
    async with world(message_bytes=220) as w:
        names = pod("a", 1), pod("b" * 40, 2, "Failed", message="m")
        await w.change(*names)
        await w.reporter.synced(2, 2)
        await w.client.flush()
        assert [
            (message.kind, name) for message, (*_, name) in zip(w.got, w.reports(), strict=True)
        ] == [
            ("update_pod", "a"),
            ("pod_exists", "b" * 40),
            ("snapshot_end", "end 1"),
        ]
        assert not decode_body("pod_exists", w.got[1].payload).deleted
        assert w.got[1].version == Version(w.client.epoch, 2)
        assert w.reporter.refused == 1


async def test_a_report_that_the_operator_refuses() -> None:
    """It is known later, and what the listener says instead is sent then, once."""
    async with world() as w:
        await w.change(pod("a", 1))
        epoch = w.client.epoch
        foreign = Version(epoch + 1, 7)
        await w.client.send(Message("update_pod", "w/a/0", foreign, new_id(), 0.0, b""))
        await w.client.flush()
        assert w.client.stats.refused == 1
        for _ in range(3):
            w.ticks.put_nowait(None)
        await eventually(w.ticks.empty)
        await eventually(lambda: len(w.refusals) == 1)
        assert [(each.key, each.version) for each in w.refusals] == [("w/a/0", foreign)]
        await w.client.send(Message("update_pod", "w/a/0", foreign, new_id(), 0.0, b""))
        w.listener.restart(epoch + 1)
        await w.client.flush()
        w.ticks.put_nowait(None)
        # What the listener says of it now has the foreign epoch too, and is refused as well.
        await eventually(lambda: len(w.client.refusals) == 3)
        assert [each.kind for each in w.client.refusals] == [
            "update_pod",
            "update_pod",
            "pod_exists",
        ]


async def test_a_refusal_that_comes_while_another_waits_for_its_turn() -> None:
    """Each is answered, and once: a snapshot, which takes a while, is what brings refusals."""
    async with world() as w:
        await w.change(pod("a", 1), pod("b", 2))
        foreign = Version(w.client.epoch + 1, 7)
        async with w.reporter._turn:
            for count, key in enumerate(("w/a/0", "w/b/0"), 1):
                await w.client.send(Message("update_pod", key, foreign, new_id(), 0.0, b""))
                await w.client.flush()
                assert w.client.stats.refused == count
                w.ticks.put_nowait(None)
                await eventually(lambda: count == 2 or w.ticks.empty())  # noqa: B023
                await asyncio.sleep(0)
        await eventually(w.ticks.empty)
        w.ticks.put_nowait(None)
        await eventually(w.ticks.empty)
        await eventually(lambda: len(w.refusals) == 2)
        assert [each.key for each in w.refusals] == ["w/a/0", "w/b/0"]


async def test_a_report_whose_names_are_too_long_hurts_no_other() -> None:
    """It is counted and left out; what follows is sent."""
    async with world() as w:
        await w.change(pod("a" * 2000, 1), pod("b", 2))
        await w.client.flush()
        assert [name for *_, name in w.reports()] == ["b"]
        assert w.reporter.refused == 2  # existence has the same name


async def test_a_message_of_another_kind_that_is_too_large_hurts_no_other() -> None:
    """What nobody here can cut is left out as a whole."""
    async with world(message_bytes=1000) as w:
        await w.change(pod("a", 1))
        large = Message("list", "x", Version(w.client.epoch, 1), new_id(), 0.0, b"x" * 2000)
        await w.reporter.report(lambda _: [large, msgspec.structs.replace(large, payload=b"")])
        await w.client.flush()
        assert [name for *_, name in w.reports()] == ["a", "list x"]
        assert w.reporter.refused == 1


async def test_a_trace_leaves_no_report_out() -> None:
    """One that fits without its trace alone is sent like that; and a span begins when the change
    was told, however long it waits for its turn."""
    exporter = InMemorySpanExporter()
    plain = Message("list", "x", Version(1, 1), new_id(), 0.0, b"x" * 600)
    async with (
        open_tracing("test", exporter) as (tracer, _),
        world(message_bytes=len(encode_message(plain)) + 10) as w,
    ):
        w.reporter._tracer = tracer
        await w.client.epoch_after(0)
        async with w.reporter._turn:
            waiting = asyncio.create_task(w.change(pod("a", 1)))
            await asyncio.sleep(0)
            w.now += 5
        await waiting
        large = msgspec.structs.replace(plain, version=Version(w.client.epoch, 1))
        await w.reporter.report(lambda _: [large])
        await w.client.flush()
        assert w.reporter.refused == 0
    assert [(message.kind, bool(message.traceparent)) for message in w.got] == [
        ("update_pod", True),
        ("list", False),
    ]
    assert [span.start_time for span in exporter.get_finished_spans()] == [
        1000 * 10**9,
        1005 * 10**9,
    ]


class _Asked(WorkflowListener):
    """Notes when it is asked what is due."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []

    def next_deadline(self) -> float | None:
        return 2000.0

    def due(self, now: float) -> list[Message]:
        self.asked.append(now)
        return []


async def test_a_clock_that_was_set_back_is_noticed() -> None:
    """The listener is asked what is due, whatever it said before."""
    times = iter([1000.0, 1010.0, 900.0, 900.0, 910.0])
    listener, over = _Asked(), asyncio.Event()

    def clock() -> float:
        now = next(times, None)
        if now is None:
            over.set()
            return 910.0
        return now

    async with connect("memory://nobody", backend="b", config=CONFIG) as client:
        reporter = Reporter(listener, client, clock=clock, sleep=lambda _: asyncio.sleep(0))
        keeping = asyncio.create_task(reporter.keep_time())
        async with asyncio.timeout(5):
            await over.wait()
        keeping.cancel()
    assert listener.asked == [900.0]


async def test_the_first_change_waits_for_an_epoch() -> None:
    """Without an operator there is no version to report under, so the informer waits."""
    async with connect("memory://nobody", backend="b", config=CONFIG) as client:
        reporter = Reporter(WorkflowListener(), client)
        task = asyncio.create_task(reporter.changed([added(pod("a", 1))]))
        following = asyncio.create_task(reporter.follow_epochs())
        async with asyncio.timeout(5):
            while client.stats.connects == 0 and not task.done():
                await asyncio.sleep(0)
                async with listen("memory://nobody") as server:
                    await task
                    (incoming,) = await server.receive()
                    assert incoming.kinds[0]
                    incoming.acknowledge()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
