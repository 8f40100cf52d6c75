"""Reports of deployed listeners: what an operator takes for each, beside a bare gRPC stream.

python -m osmo_benchmarks.parts.listener_service [--rounds N] [--streams N]

The listener is the one in Go of `tests/deployed/go`, with its window of 100 reports for a stream,
and needs a Go toolchain. Two servers, each a process of its own, take turns: one answers at once
without more, the other is `operator.ListenerService`, which acknowledges at once. All reports must
be acknowledged, none sent twice, or the run fails.
"""

import argparse
import json
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

from osmo_benchmarks.parts.common import cpu_seconds, program, read_url, spread

MESSAGES = 20_000
WARM_UP = 2_000
GO = Path(__file__).parents[3] / "tests" / "deployed" / "go"
SERVERS = {
    "bare stream": ("osmo_benchmarks.parts.stream_echo",),
    "ListenerService": ("osmo_benchmarks.parts.stream_service",),
}


def send(listener: Path, url: str, messages: int, streams: int) -> float:
    """The seconds that it takes to send `messages` over `streams` streams at once."""
    command = [
        str(listener),
        f"-target={url.removeprefix('grpc://')}",
        f"-messages={messages // streams}",
        "-kinds=update_pod",
    ]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(streams)]
    done = [json.loads(process.communicate()[0].splitlines()[-1]) for process in running]
    if any(said["event"] != "done" or said["resent"] for said in done):
        raise RuntimeError(f"the ledger does not balance: {done}")
    return max(float(said["seconds"]) for said in done)


def measure(rounds: int, streams: int, stack: ExitStack) -> None:
    """Both servers in turn, and a line for each."""
    listener = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "listener"
    subprocess.run(["go", "build", "-o", listener, "."], cwd=GO, check=True)
    servers = {name: stack.enter_context(program(*module)) for name, module in SERVERS.items()}
    urls = {name: read_url(server) for name, server in servers.items()}
    rates: dict[str, list[float]] = {name: [] for name in servers}
    costs: dict[str, list[float]] = {name: [] for name in servers}
    for url in urls.values():
        send(listener, url, WARM_UP, streams)
    for _ in range(rounds):
        for name, server in servers.items():
            cpu = cpu_seconds(server.pid)
            rates[name].append(MESSAGES / send(listener, urls[name], MESSAGES, streams))
            costs[name].append((cpu_seconds(server.pid) - cpu) / MESSAGES)
    for name in servers:
        print(f"{name:16} {spread(rates[name])} reports/s, {spread(costs[name], 1e6)} µs of CPU")
    pairs = zip(*costs.values(), strict=True)
    print(f"ratio of CPU, round by round: {[round(ours / bare, 2) for bare, ours in pairs]}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=1)
    options = parser.parse_args()
    with ExitStack() as everything:
        measure(options.rounds, options.streams, everything)
