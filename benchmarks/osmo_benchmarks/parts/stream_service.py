"""`operator.ListenerService` that acknowledges each report at once.

python -m osmo_benchmarks.parts.stream_service
"""

import uvloop

from osmo_benchmarks.programs._record import Recorder
from osmo_benchmarks.programs.service import acknowledge_all, records
from osmo_deployed import DeployedConfig, ListenerServiceCompanion
from osmo_runtime import runner
from osmo_transport import listen


async def serve() -> None:
    """Until it is ended."""
    companion = ListenerServiceCompanion(DeployedConfig())
    async with listen("grpc://127.0.0.1:0", companions=(companion,)) as server:
        runner.announce(server.url)
        await acknowledge_all(server, Recorder(None, records))


if __name__ == "__main__":
    uvloop.run(serve())
