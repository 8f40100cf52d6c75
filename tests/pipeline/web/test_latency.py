"""How long a change takes, as workers tell it."""

from collections.abc import Mapping
from math import inf

import aiohttp
from aiohttp import web

from osmo_pipeline.web.latency import METRIC, Latency, Percentiles, cumulated, in_text, scraping

TEXT = f"""\
# HELP osmo_pipeline_end_to_end_seconds Times.
# TYPE osmo_pipeline_end_to_end_seconds histogram
{METRIC}{{le="0.01"}} 1.0
{METRIC}{{le="0.1",otel_scope_name="x"}} 3.0
{METRIC}{{otel_scope_name="x",le="+Inf"}} 4.0
osmo_pipeline_end_to_end_seconds_count 4.0
{METRIC}{{le="a lot"}} 4.0
"""


def told(*looks: Mapping[float, float]) -> Latency:
    """Of workers that tell these, one after the other."""
    left = list(looks)

    async def read() -> Mapping[float, float]:
        return left.pop(0)

    return Latency(read)


async def test_what_was_written_meanwhile_counts() -> None:
    """Not what was before the first look."""
    latency = told({0.01: 100, 0.1: 100, inf: 100}, {0.01: 101, 0.1: 103, inf: 104})
    await latency.look()
    assert latency.percentiles is None
    await latency.look()
    assert latency.percentiles == Percentiles(0.1, 0.1)


async def test_nothing_is_said_of_nothing() -> None:
    """While nothing is written, or nobody tells."""
    for look in ({0.01: 5.0, inf: 5.0}, {}):
        latency = told(look, look)
        await latency.look()
        await latency.look()
        assert latency.percentiles is None


async def test_a_worker_that_began_anew_is_no_time_machine() -> None:
    """Its counts are lower than before: those that follow are compared with them."""
    latency = told({0.01: 100, inf: 100}, {0.01: 3, inf: 3}, {0.01: 5, inf: 5})
    for _ in range(3):
        await latency.look()
    assert latency.percentiles == Percentiles(0.01, 0.01)


def test_the_text_of_a_worker() -> None:
    """Whatever other labels there are, and what is no number."""
    assert in_text(TEXT) == {0.01: 1, 0.1: 3, inf: 4}
    assert cumulated((0.01, 0.1), (1, 2, 1)) == {0.01: 1, 0.1: 3, inf: 4}


async def test_workers_are_asked_together() -> None:
    """One that is away tells nothing, and holds up nobody."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=TEXT)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession() as session:
        found = await scraping(session, [url, f"{url}/", "http://127.0.0.1:1", "no url"])()
    await runner.cleanup()
    assert found == {0.01: 2, 0.1: 6, inf: 8}
