"""How long a change takes until its row is written, as the workers tell it."""

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import accumulate
from math import ceil, inf
from typing import NamedTuple

import aiohttp

WINDOW = 60
"""Looks that the percentiles are about, a second each."""

METRIC = "osmo_pipeline_end_to_end_seconds_bucket"

SCRAPE_TIMEOUT = 2.0
"""Seconds that a worker has to answer."""
SCRAPE_BYTES = 4 * 1024 * 1024
"""Of an answer, what is read."""
SCRAPES = 8
"""Workers that are asked at a time."""

_SAMPLE = re.compile(rf'^{METRIC}\{{[^}}]*\ble="([^"]+)"[^}}]*\}} ([0-9.eE+]+)', re.MULTILINE)

Buckets = Mapping[float, float]
"""By upper bound in seconds, how many took no longer, ever."""
Read = Callable[[], Awaitable[Buckets]]


class Percentiles(NamedTuple):
    """Of what was written lately, in seconds."""

    p50: float
    p99: float


class Latency:
    """The percentiles of the last `WINDOW` looks."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._looks: deque[Buckets] = deque(maxlen=WINDOW)

    async def look(self) -> None:
        """Ask once more."""
        buckets = await self._read()
        if self._looks and any(buckets.get(bound, 0) < n for bound, n in self._looks[-1].items()):
            # A worker began anew, or is away.
            self._looks.clear()
        if buckets:
            self._looks.append(buckets)

    @property
    def percentiles(self) -> Percentiles | None:
        """None while nothing is written, or nobody tells it."""
        if len(self._looks) < 2:
            return None
        first, last = self._looks[0], self._looks[-1]
        counts = [(bound, n - first.get(bound, 0)) for bound, n in sorted(last.items())]
        if not counts or counts[-1][1] <= 0:
            return None
        return Percentiles(_percentile(counts, 50), _percentile(counts, 99))


def cumulated(bounds: Sequence[float], counts: Sequence[int]) -> Buckets:
    """The buckets of a histogram of this process."""
    return dict(zip((*bounds, inf), accumulate(counts), strict=True))


def scraping(session: aiohttp.ClientSession, urls: Sequence[str]) -> Read:
    """Asks the operations ports of workers."""

    async def read() -> Buckets:
        total: dict[float, float] = {}
        for first in range(0, len(urls), SCRAPES):
            some = urls[first : first + SCRAPES]
            for buckets in await asyncio.gather(*(_scrape(session, url) for url in some)):
                total = {
                    bound: total.get(bound, 0.0) + buckets.get(bound, 0.0)
                    for bound in total.keys() | buckets.keys()
                }
        return total

    return read


async def _scrape(session: aiohttp.ClientSession, url: str) -> dict[float, float]:
    timeout = aiohttp.ClientTimeout(total=SCRAPE_TIMEOUT)
    try:
        async with session.get(f"{url.rstrip('/')}/metrics", timeout=timeout) as answer:
            text = bytearray()
            async for chunk in answer.content.iter_chunked(65_536):
                text += chunk
                if len(text) > SCRAPE_BYTES:
                    return {}
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return {}
    return in_text(text.decode(errors="replace"))


def in_text(text: str) -> dict[float, float]:
    """The buckets in Prometheus' text."""
    total: dict[float, float] = {}
    for bound, count in _SAMPLE.findall(text):
        try:
            total[float(bound)] = total.get(float(bound), 0.0) + float(count)
        except ValueError:
            continue
    return total


def _percentile(counts: Sequence[tuple[float, float]], percent: float) -> float:
    wanted = ceil(counts[-1][1] * percent / 100)
    longest = max((bound for bound, _ in counts if bound < inf), default=0.0)
    return next((bound for bound, n in counts if n >= wanted and bound < inf), longest)
