"""The queue that a service is told to use."""

from typing import Literal

QueueLayout = Literal["own", "osmo"]
"""How a queue in Redis keeps its messages; osmo: as the operators and workers already deployed do,
together with which ours then work."""


def queue_url(url: str, layout: QueueLayout) -> str:
    """The URL of a queue, in another layout if it is not our own."""
    if layout == "own":
        return url
    return f"{url}{'&' if '?' in url else '?'}layout={layout}"
