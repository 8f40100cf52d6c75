"""What a program sees to before it serves."""

import asyncio
import logging
import resource
from collections.abc import Iterator

import pytest

from osmo_runtime.startup import OTHER_FILES, allow_connections, unless_stopped


@pytest.fixture(autouse=True)
def _limit_as_before() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def soft_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_the_limit_of_open_files_is_raised(caplog: pytest.LogCaptureFixture) -> None:
    """As far as the connections need it, beside the program's own files; in silence."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    allow_connections(200)
    assert soft_limit() == 200 + OTHER_FILES
    assert not caplog.records


def test_a_limit_that_is_high_enough_is_left_alone() -> None:
    """It may be somebody's wish."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
    allow_connections(100)
    assert soft_limit() == 300


def test_a_limit_that_cannot_be_raised_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """With both numbers, and what to do; it is raised as far as it goes."""
    caplog.set_level(logging.WARNING)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("this process may have any number of files open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    allow_connections(hard)
    (record,) = caplog.records
    assert soft_limit() == hard
    assert f"{hard} files open" in record.getMessage()
    assert f"{hard} connections" in record.getMessage()
    assert "ulimit -n" in record.getMessage()


async def answer(value: int | None = None) -> int:
    """The value; without one none ever comes."""
    if value is None:
        await asyncio.Event().wait()
    assert value is not None
    return value


async def test_the_answer_of_a_work_is_given() -> None:
    """Nothing is left behind."""
    assert await unless_stopped(answer(7), asyncio.Event()) == 7
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_a_work_raises_is_raised() -> None:
    """As it is, not in a group."""
    with pytest.raises(AssertionError):
        await unless_stopped(fail(), asyncio.Event())


async def fail() -> int:
    raise AssertionError


@pytest.mark.parametrize("before", [True, False])
async def test_a_stop_ends_a_work(before: bool) -> None:
    """Whether it comes before or meanwhile."""
    stop = asyncio.Event()
    if before:
        stop.set()
    else:
        asyncio.get_running_loop().call_soon(stop.set)
    assert await unless_stopped(answer(), stop) is None
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_who_is_cancelled_leaves_no_work_behind() -> None:
    """It has ended by then."""
    waiting = asyncio.create_task(unless_stopped(answer(), asyncio.Event()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert asyncio.all_tasks() == {asyncio.current_task()}
