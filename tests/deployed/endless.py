"""A deployed listener that reports without end, for a test to kill.

python -m tests.deployed.endless HOST:PORT
"""

import sys
from collections.abc import Iterator
from itertools import count

import grpc

from tests.deployed.harness import pod


def reports() -> Iterator[bytes]:
    """Without end."""
    for number in count():
        yield pod(str(number)).SerializeToString()


def main(target: str) -> None:
    """Send until killed."""
    with grpc.insecure_channel(target) as channel:
        call = channel.stream_stream("/operator.ListenerService/ListenerStream")
        for _ in call(reports(), metadata=(("backend-name", "old"),)):
            pass


if __name__ == "__main__":
    main(sys.argv[1])
