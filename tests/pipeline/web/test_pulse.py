"""How it goes, and how it went a moment ago."""

from collections.abc import Mapping

from osmo_pipeline.fleet import Patience
from osmo_pipeline.top.figures import Figures
from osmo_pipeline.top.watching import Sources, Watch
from osmo_pipeline.web.pulse import Moment, Pulse
from osmo_reports.directory import open_directory
from osmo_transport import NEW, Producer, Queue, batch_of, open_queue
from osmo_worker import figures
from osmo_worker.store import open_store
from tests.worker.harness import BACKEND, report


class Clock:
    """A clock that stands still until it is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Services:
    """Workers that tell these durations, one look after the other."""

    def __init__(self, *looks: Mapping[float, float]) -> None:
        self._looks = iter(looks)

    async def ask(self) -> Figures:
        return Figures(buckets={figures.END_TO_END.exposed: dict(next(self._looks))})


async def send(queue: Queue, first: int, count: int) -> None:
    """Append reports as one producer does that goes on."""
    producer = Producer(BACKEND, "workflow")
    state = await queue.open_producer(producer, "one", NEW)
    await queue.append([batch_of(producer, state, first, [report(f"{i}") for i in range(count)])])


async def test_the_curves_are_about_what_was_known() -> None:
    """Rates are those of the time between two looks; while the queue is away there are none."""
    clock = Clock()
    async with (
        await open_queue("memory://") as queue,
        await open_directory("memory://") as directory,
        open_store("memory://") as store,
    ):
        sources = Sources(place="memory://", queue=queue, directory=directory, store=store)
        pulse = Pulse(Watch(sources, Patience(60.0, 95.0), clock=clock, wall=lambda: 0.0))
        await send(queue, 1, 5)
        await pulse.beat()
        clock.now += 2
        await send(queue, 6, 8)
        await pulse.beat()
        await queue.aclose()
        await pulse.beat()
    assert list(pulse.moments) == [Moment(None, 5), Moment(4.0, 13), Moment(None, None)]


async def test_latencies_are_those_of_many_looks() -> None:
    """So that there is something to see where little happens."""
    async with (
        await open_queue("memory://") as queue,
        await open_directory("memory://") as directory,
        open_store("memory://") as store,
    ):
        workers = Services({1.0: 7.0}, {1.0: 9.0}, {1.0: 9.0})
        sources = Sources(
            place="memory://", queue=queue, directory=directory, store=store, services=workers
        )
        pulse = Pulse(Watch(sources, Patience(60.0, 95.0), window=5))
        for _ in range(3):
            await pulse.beat()
        assert pulse.board.latencies["change to row"].p99 == 0.99
