"""Tasks that run beside something else."""

import asyncio

import pytest

from osmo_runtime.tasks import beside


class Work:
    """Runs until it is cancelled, or told to fail."""

    def __init__(self) -> None:
        self.failing = asyncio.Event()
        self.running = False

    async def run(self) -> None:
        """Until then."""
        self.running = True
        try:
            await self.failing.wait()
        finally:
            self.running = False
        raise ZeroDivisionError


async def test_works_run_until_the_context_is_left() -> None:
    """All of them."""
    works = [Work(), Work()]
    async with beside(work.run() for work in works):
        await asyncio.sleep(0)
        assert all(work.running for work in works)
    assert not any(work.running for work in works)


async def test_what_a_work_raises_ends_the_context_and_the_others() -> None:
    """In a group."""
    works = [Work(), Work()]

    async def wait() -> None:
        async with beside(work.run() for work in works):
            works[0].failing.set()
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as failed:
        await wait()
    assert failed.group_contains(ZeroDivisionError)
    assert not any(work.running for work in works)


async def test_what_the_context_raises_ends_the_works() -> None:
    """In a group, too."""
    work = Work()

    async def fail() -> None:
        async with beside([work.run()]):
            await asyncio.sleep(0)
            raise KeyError

    with pytest.raises(ExceptionGroup) as failed:
        await fail()
    assert failed.group_contains(KeyError)
    assert not work.running
