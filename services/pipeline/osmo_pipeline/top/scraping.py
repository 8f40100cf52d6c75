"""Reading the figures of services from their operations ports."""

import asyncio
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from osmo_pipeline.top.figures import Figures
from osmo_runtime.masking import mask_text
from osmo_transport import MissingExtraError, UsageError

try:
    from aiohttp import ClientError, ClientSession, ClientTimeout
    from prometheus_client.parser import text_string_to_metric_families
    from prometheus_client.samples import Sample
except ModuleNotFoundError as exc:
    raise MissingExtraError(
        "the figures of services need aiohttp: pip install 'osmo-pipeline[operations]'"
    ) from exc

MAX_BYTES = 8 * 1024 * 1024
"""Of one answer: ten times the figures of a worker that knows 10 000 backends."""


def add(figures: Figures, text: str) -> None:
    """Add what one service tells.

    Raises:
        ValueError: it cannot be read; what stands before that is added.
    """
    for sample in _samples(text):
        bound = sample.labels.get("le")
        if bound is None:
            figures.values[sample.name] += sample.value
        elif sample.name.endswith("_bucket"):
            counts = figures.buckets[sample.name.removesuffix("_bucket")]
            counts[float(bound)] += sample.value


def _samples(text: str) -> Iterator[Sample]:
    try:
        for family in text_string_to_metric_families(text):
            yield from family.samples
    except IndexError as exc:
        # So the parser fails at labels that end too early.
        raise ValueError("its labels cannot be read") from exc


class Scraper:
    """Asks services for their figures. Use as `async with`.

    Args:
        places: URLs of operations ports; `host:port` is enough.
        timeout: seconds that one may take.

    Raises:
        UsageError: one of them is no such URL.
    """

    def __init__(self, places: Sequence[str], timeout: float) -> None:
        self._urls = [_metrics_of(place) for place in places]
        self._timeout = ClientTimeout(total=timeout)
        self._session: ClientSession

    async def ask(self) -> Figures:
        """The figures of this moment."""
        answers = await asyncio.gather(*(self._text_of(url) for url in self._urls))
        figures = Figures()
        for url, answer in zip(self._urls, answers, strict=True):
            try:
                if isinstance(answer, Exception):
                    raise answer
                add(figures, answer)
            except (ClientError, OSError, ValueError, TimeoutError) as exc:
                figures.failures[mask_text(url)] = mask_text(str(exc) or type(exc).__name__)
        return figures

    async def _text_of(self, url: str) -> str | Exception:
        try:
            async with self._session.get(url) as response:
                response.raise_for_status()
                content = await response.content.read(MAX_BYTES + 1)
                while len(content) <= MAX_BYTES and not response.content.at_eof():
                    content += await response.content.read(MAX_BYTES + 1 - len(content))
        except (ClientError, OSError, TimeoutError) as exc:
            return exc
        if len(content) > MAX_BYTES:
            return ValueError(f"it tells more than {MAX_BYTES} bytes")
        return content.decode(errors="replace")

    async def __aenter__(self) -> Self:
        self._session = ClientSession(timeout=self._timeout)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._session.close()


def _metrics_of(place: str) -> str:
    url = place if "://" in place else f"http://{place}"
    try:
        parts = urlsplit(url)
        there = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        (parts.hostname or "").encode("idna")
    except ValueError:
        there = None
    if not there:
        shown = mask_text(place)
        raise UsageError(f"{shown!r} is no operations port: say host:port, or http://host:port")
    return url if parts.path.strip("/") else parts._replace(path="/metrics").geturl()
