"""Hypothesis chooses what happens to a world, and makes what fails as short as it can."""

from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.model.virtual import VirtualLoop
from tests.model.world import KINDS, STATES, World

numbers = st.integers(0, 5)
kinds = st.sampled_from(KINDS)
states = st.sampled_from(list(STATES))
moments = st.sampled_from([0.0, 0.0, 0.001, 0.1, 1.0, 5.0])
"""Seconds until the next thing happens: often before anybody has noticed the one before."""

waits = st.sampled_from([10.0] * 4 + [30.0] * 4 + [100.0] * 2 + [700.0])
"""Seconds for which nothing happens: rarely so long that a pod counts as stuck."""


class WorldMachine(RuleBasedStateMachine):
    """Whatever happens, the store equals the cluster in the end."""

    steps: ClassVar[int] = 0
    runs: ClassVar[int] = 0
    virtual: ClassVar[float] = 0.0
    """What was done by all of them; seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(work)

    def step(self, after: float) -> None:
        """Count a step, and let time pass."""
        type(self).steps += 1
        self.run(self.world.pass_time(after))

    @initialize(seed=st.integers(0, 2**16), head_start=st.booleans())
    def begin(self, seed: int, head_start: bool) -> None:
        self.world = World(seed)
        self.run(self._begin(10.0 if head_start else 0.0))

    async def _begin(self, head_start: float) -> None:
        await self.world.start()
        await self.world.pass_time(head_start)

    # What the cluster does.

    @rule(task=numbers, state=states, node=numbers, after=moments)
    def set_pod(self, task: int, state: str, node: int, after: float) -> None:
        self.do(lambda: self.world.set_pod(task, state, node), after)

    @rule(task=numbers, state=states, node=numbers, after=moments)
    def replace_pod(self, task: int, state: str, node: int, after: float) -> None:
        def replace() -> None:
            self.world.delete_pod(task)
            self.world.set_pod(task, state, node)

        self.do(replace, after)

    @rule(task=numbers, after=moments)
    def delete_pod(self, task: int, after: float) -> None:
        self.do(lambda: self.world.delete_pod(task), after)

    @rule(number=numbers, ready=st.booleans(), unschedulable=st.booleans(), after=moments)
    def set_node(self, number: int, ready: bool, unschedulable: bool, after: float) -> None:
        self.do(
            lambda: self.world.set_node(number, ready=ready, unschedulable=unschedulable), after
        )

    @rule(number=numbers, after=moments)
    def delete_node(self, number: int, after: float) -> None:
        self.do(lambda: self.world.delete_node(number), after)

    @rule(kind=kinds)
    def back_up(self, kind: str) -> None:
        self.do(lambda: self.world.back_up(kind))

    @rule(kind=kinds, place=numbers, again=st.booleans(), state=states, after=moments)
    def restore(self, kind: str, place: int, again: bool, state: str, after: float) -> None:
        self.do(lambda: self.world.restore(kind, place), after)
        if again:  # as a controller does that misses its pods
            self.do(lambda: self.world.create_missing(state), after)

    # What goes wrong between the cluster and its readers.

    @rule(kind=kinds, after=moments)
    def compact(self, kind: str, after: float) -> None:
        self.do(self.world.etcd(kind).compact, after)

    @rule(kind=kinds, after=moments)
    def disturb(self, kind: str, after: float) -> None:
        self.do(lambda: self.world.etcd(kind).disturb(self.world.draw), after)

    @rule(kind=kinds, count=st.integers(1, 3))
    def change_others(self, kind: str, count: int) -> None:
        self.do(lambda: self.world.etcd(kind).change_others(count))

    @rule(kind=kinds, after=moments)
    def bookmark(self, kind: str, after: float) -> None:
        self.do(self.world.etcd(kind).bookmark, after)

    # What happens to processes and connections.

    @rule(kind=kinds, after=moments)
    def start_listener(self, kind: str, after: float) -> None:
        self.do(lambda: self.world.start_listener(kind), after)

    @rule(kind=kinds, number=numbers, kill=st.booleans(), after=moments)
    def end_listener(self, kind: str, number: int, kill: bool, after: float) -> None:
        self.run(self.world.end_listener(kind, number, kill=kill))
        self.step(after)

    @rule(kind=kinds, number=numbers, kill=st.booleans(), after=moments)
    def restart_listener(self, kind: str, number: int, kill: bool, after: float) -> None:
        self.run(self.world.end_listener(kind, number, kill=kill))
        self.do(lambda: self.world.start_listener(kind), after)

    @rule(number=numbers, state=states, again=st.booleans(), kill=st.booleans(), after=moments)
    def miss_a_pod(self, number: int, state: str, again: bool, kill: bool, after: float) -> None:
        """It goes, and may come again, while no listener runs: none tells that it went."""
        self.run(self.world.end_listeners("pods", kill=kill))
        self.do(lambda: self.world.delete_pod(number))
        if again:
            self.do(lambda: self.world.set_pod(number, state, number))
        self.do(lambda: self.world.start_listener("pods"), after)

    @rule(number=numbers, again=st.booleans(), kill=st.booleans(), after=moments)
    def miss_a_node(self, number: int, again: bool, kill: bool, after: float) -> None:
        """Likewise: an inventory alone tells of it."""
        self.run(self.world.end_listeners("nodes", kill=kill))
        self.do(lambda: self.world.delete_node(number))
        if again:
            self.do(lambda: self.world.set_node(number, ready=True, unschedulable=False))
        self.do(lambda: self.world.start_listener("nodes"), after)

    @rule(kind=kinds, number=numbers, after=moments)
    def cut_wire(self, kind: str, number: int, after: float) -> None:
        self.do(lambda: self.world.cut_wire(kind, number), after)

    @rule(kind=kinds, number=numbers, after=moments)
    def hold_wire(self, kind: str, number: int, after: float) -> None:
        self.do(lambda: self.world.hold_wire(kind, number), after)

    @rule(after=moments)
    def release_wires(self, after: float) -> None:
        self.do(self.world.release_wires, after)

    @rule(kill=st.booleans(), away=moments)
    def restart_operator(self, kill: bool, away: float) -> None:
        self.run(self.world.restart_operator(kill=kill, away=away))
        self.step(0.0)

    @rule(number=numbers, kill=st.booleans(), away=moments)
    def restart_worker(self, number: int, kill: bool, away: float) -> None:
        self.run(self.world.restart_worker(number, kill=kill, away=away))
        self.step(0.0)

    @rule(after=moments)
    def flush_queue(self, after: float) -> None:
        self.do(self.world.flush_queue, after)

    @rule(likely=st.sampled_from([0.0, 0.1, 0.5]))
    def disorder(self, likely: float) -> None:
        self.world.disorder.likely = likely
        self.step(0.0)

    @rule(seconds=waits)
    def wait(self, seconds: float) -> None:
        self.step(seconds)

    def do(self, what: Callable[[], object], after: float = 0.0) -> None:
        """A step: it happens within the loop, and then time passes."""

        async def work() -> None:
            what()
            await self.world.pass_time(after)

        type(self).steps += 1
        self.run(work())

    def teardown(self) -> None:
        if hasattr(self, "world"):
            try:
                self.run(self.world.settle())
                type(self).runs += 1
                type(self).virtual += self.loop.time()
            finally:
                self.run(self.world.close())
        self.loop.close()
