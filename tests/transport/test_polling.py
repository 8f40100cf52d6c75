"""Whether an event loop is kept awake, for whom, and for how long."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osmo_transport import ClientConfig, ServerConfig, SessionConfig, connect, listen, new_message
from osmo_transport._polling import MAX_FAILURES, BusyPoll

SPAN = 0.0002
TURN = 0.00001
"""Seconds that a turn of the loop takes."""


class Turns:
    """An event loop that counts its turns."""

    def __init__(self) -> None:
        self.now = 0.0
        self.taken = 0
        self._ready: deque[Callable[[], object]] = deque()

    def call_soon(self, callback: Callable[[], object]) -> None:
        self._ready.append(callback)

    def clock(self) -> float:
        return self.now

    def turn(self) -> bool:
        """Take one, unless the loop would sleep."""
        if not self._ready:
            return False
        self.taken += 1
        self.now += TURN
        for _ in range(len(self._ready)):
            self._ready.popleft()()
        return True

    def run_until_asleep(self) -> None:
        while self.turn():
            pass


def poll_on(turns: Turns, span: float = SPAN, cpus: int = 2) -> BusyPoll:
    loop = cast("asyncio.AbstractEventLoop", turns)
    return BusyPoll(loop, span, clock=turns.clock, cpus=cpus)


def test_it_is_awake_for_the_span_and_no_longer() -> None:
    """Then it sleeps, as if nobody had expected anything."""
    turns = Turns()
    poll_on(turns).expect()
    turns.run_until_asleep()
    assert turns.now == pytest.approx(SPAN, abs=2 * TURN)


def test_it_sleeps_as_soon_as_it_came() -> None:
    """A turn looks, and the next one is not asked for."""
    turns = Turns()
    poll = poll_on(turns)
    poll.expect()
    turns.turn()
    poll.met()
    turns.run_until_asleep()
    assert turns.taken == 2


def test_an_expectation_while_it_is_awake_begins_the_span_anew() -> None:
    """One at a time: the next is expected as soon as the last has come."""
    turns = Turns()
    poll = poll_on(turns)
    poll.expect()
    while turns.now < SPAN / 2:
        turns.turn()
    poll.met()
    poll.expect()
    turns.run_until_asleep()
    assert turns.now == pytest.approx(1.5 * SPAN, abs=3 * TURN)


@pytest.mark.parametrize(("span", "cpus"), [(0.0, 2), (SPAN, 1)])
def test_it_is_never_awake_where_it_is_switched_off_or_has_one_cpu(span: float, cpus: int) -> None:
    """On one CPU it would keep the one that is to answer from running."""
    turns = Turns()
    poll_on(turns, span, cpus).expect()
    assert not turns.turn()


def test_one_that_came_in_time_makes_up_for_all_that_did_not() -> None:
    """Before that, after each failure twice as many go by as before."""
    turns = Turns()
    poll = poll_on(turns)

    def polled() -> bool:
        before = turns.taken
        poll.expect()
        turns.run_until_asleep()
        return turns.taken > before

    assert [polled() for _ in range(6)] == [True, False, True, False, False, False]
    poll.expect()
    poll.met()
    turns.run_until_asleep()
    assert [polled() for _ in range(3)] == [True, False, True]


@given(st.integers(2**MAX_FAILURES, 5 * 2**MAX_FAILURES))
def test_where_nothing_comes_in_time_hardly_anything_is_polled_for(expectations: int) -> None:
    """One of 256, once that is known."""
    turns = Turns()
    poll = poll_on(turns)
    for _ in range(expectations):
        poll.expect()
        turns.run_until_asleep()
    while_learning = MAX_FAILURES + 1
    assert turns.now <= (SPAN + 2 * TURN) * (while_learning + expectations / 2**MAX_FAILURES)


@given(st.lists(st.sampled_from(["expect", "met", "turn"]), max_size=200))
def test_it_falls_asleep_whatever_happens(events: list[str]) -> None:
    """In whatever order it is expected, comes, and is looked for."""
    turns = Turns()
    poll = poll_on(turns)
    steps: dict[str, Callable[[], object]]
    steps = {"expect": poll.expect, "met": poll.met, "turn": turns.turn}
    for event in events:
        steps[event]()
    before = turns.now
    turns.run_until_asleep()
    assert turns.now - before <= SPAN + 3 * TURN


@pytest.mark.parametrize(("url", "polls"), [("ws://127.0.0.1:0", True), ("memory://", False)])
async def test_who_waits_for_another_process_is_polled_for(
    url: str, polls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop of one test has both ends, so each of them is asked for itself."""
    spans: list[float] = []

    class Watched(BusyPoll):
        def __init__(self, loop: asyncio.AbstractEventLoop, span: float, **_: Any) -> None:
            super().__init__(loop, span, cpus=2)

        def expect(self) -> float:
            spans.append(self._span)
            return super().expect()

    monkeypatch.setattr("osmo_transport._uplink.BusyPoll", Watched)
    monkeypatch.setattr("osmo_transport._hub.BusyPoll", Watched)
    async with (
        listen(url, config=ServerConfig(session=SessionConfig(busy_poll=0.0001))) as server,
        connect(
            server.url, backend="b", config=ClientConfig(session=SessionConfig(busy_poll=0.0002))
        ) as client,
    ):
        await client.epoch_after(0)
        await client.send(new_message("update_pod", "k", b"{}"))
        flushed = asyncio.create_task(client.flush())
        for incoming in await server.receive():
            incoming.acknowledge()
        await flushed
    assert set(spans) == ({0.0001, 0.0002} if polls else set())


async def test_what_comes_ends_the_wait_at_either_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The acknowledgement at the client, and the next report at the server."""
    answered: dict[float, int] = {}

    class Watched(BusyPoll):
        def __init__(self, loop: asyncio.AbstractEventLoop, span: float, **_: Any) -> None:
            super().__init__(loop, span, cpus=2)

        def met(self, *arguments: Any) -> None:
            waited = self._expecting
            super().met(*arguments)
            if waited and not self._expecting:
                answered[self._span] = answered.get(self._span, 0) + 1

    monkeypatch.setattr("osmo_transport._uplink.BusyPoll", Watched)
    monkeypatch.setattr("osmo_transport._hub.BusyPoll", Watched)
    server_config = ServerConfig(session=SessionConfig(busy_poll=1.0))
    client_config = ClientConfig(session=SessionConfig(busy_poll=2.0))
    async with (
        listen("ws://127.0.0.1:0", config=server_config) as server,
        connect(server.url, backend="b", config=client_config) as client,
    ):
        await client.epoch_after(0)
        for _ in range(2):
            await client.send(new_message("update_pod", "k", b"{}"))
            flushed = asyncio.create_task(client.flush())
            for incoming in await server.receive():
                incoming.acknowledge()
            await flushed
    assert answered == {2.0: 2, 1.0: 1}


def test_others_run_between_two_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for each turn that is taken for nothing."""
    let = 0

    def count() -> None:
        nonlocal let
        let += 1

    monkeypatch.setattr("osmo_transport._polling.let_others_run", count)
    turns = Turns()
    poll_on(turns).expect()
    turns.run_until_asleep()
    assert let == turns.taken - 1
