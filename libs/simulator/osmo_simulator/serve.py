"""The simulator as a program's one task: serve, play a scenario, go on serving."""

import asyncio
from collections.abc import Callable

from osmo_simulator.scenario import Scenario, ScenarioConfig
from osmo_simulator.server import Simulator, SimulatorConfig


async def serve(
    config: SimulatorConfig,
    scenario: ScenarioConfig,
    stop: asyncio.Event,
    started: Callable[[Simulator, Scenario], None] = lambda *_: None,
) -> None:
    """Serve until `stop` is set, whether the scenario is over or not.

    `started` is called once, when the server listens and before anything happens in it.

    Raises:
        AddressInUseError: another program listens there.
    """
    async with Simulator(config) as simulator:
        played = Scenario(simulator.cluster, scenario)
        started(simulator, played)
        async with asyncio.TaskGroup() as tasks:
            playing = tasks.create_task(played.run())
            await stop.wait()
            playing.cancel()
