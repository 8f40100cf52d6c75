"""Calls of which the peer is gone."""

import asyncio
from typing import Any

import pytest
from grpc import aio

from osmo_deployed.calls import ReportStream, StatusError


class GoneContext:
    """A call that nobody is at the other end of any more, which is found out by writing."""

    async def read(self) -> Any:
        await asyncio.Event().wait()

    async def send_initial_metadata(self, _: object) -> None:
        pass

    async def write(self, _: bytes) -> None:
        raise aio.InternalError("the batch failed")


async def test_a_write_that_fails_ends_the_call_as_broken() -> None:
    """And not as a defect of ours, though nobody had told of an end."""
    context: Any = GoneContext()
    feed: Any = None
    stream = ReportStream(context, 10, 1000, lambda _: ("", None), lambda *_: None)
    stream.stored(["a report"])
    with pytest.raises(StatusError, match="the stream broke"):
        await stream.serve(feed)
