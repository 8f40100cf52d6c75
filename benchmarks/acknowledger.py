"""A server that acknowledges everything at once: the far end of the transport's measurements.

python -m benchmarks.acknowledger URL
"""

import sys

import uvloop

from osmo_runtime import runner
from osmo_transport import listen


async def serve(url: str) -> None:
    """Until it is ended."""
    async with listen(url) as server:
        runner.announce(server.url)
        while incoming := await server.receive():
            for each in incoming:
                each.acknowledge()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
