"""python -m legacy service|client|listener|load [options]"""

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path

import websockets

from legacy.client import run_client
from legacy.listener import run_listener
from legacy.load import run_load
from legacy.service import run_service


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="legacy")
    verbs = parser.add_subparsers(dest="verb", required=True)
    service = verbs.add_parser("service", help="handle and acknowledge every message")
    service.add_argument("--listen", default="127.0.0.1:0", help="HOST:PORT")
    service.add_argument("--record", type=Path, help="file of what was received")
    service.add_argument("--cost-ms", type=float, default=0.0, help="what handling one takes")
    client = verbs.add_parser("client", help="measure how fast messages are acknowledged")
    client.add_argument("--connect", required=True, help="URL of the service")
    client.add_argument("--messages", type=int, default=1)
    client.add_argument("--warm-up", type=int, default=0)
    client.add_argument("--window", type=int, default=1)
    listener = verbs.add_parser("listener", help="report the pods of a namespace")
    listener.add_argument("--connect", required=True, help="URL of the service")
    listener.add_argument("--kubeconfig", required=True)
    listener.add_argument("--namespace", default="osmo")
    load = verbs.add_parser("load", help="send the reports of a plan")
    load.add_argument("--connect", required=True, help="URL of the service")
    load.add_argument("--plan", type=Path, required=True)
    return parser.parse_args()


async def run(options: argparse.Namespace) -> None:
    """Do what was asked for, until it is done or SIGTERM comes."""
    match options.verb:
        case "service":
            work = run_service(options.listen, options.record, options.cost_ms / 1000)
        case "client":
            work = run_client(options.connect, options.messages, options.warm_up, options.window)
        case "listener":
            work = run_listener(options.connect, options.kubeconfig, options.namespace)
        case _:
            work = run_load(options.connect, options.plan)
    task = asyncio.create_task(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def main() -> int:
    """Run the program; returns its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # A line for each connection and each frame is nobody's wish.
    logging.getLogger("websockets").setLevel(logging.WARNING)
    options = arguments()
    try:
        asyncio.run(run(options))
    except (OSError, ValueError, RuntimeError, websockets.WebSocketException) as exc:
        sys.stderr.write(f"legacy {options.verb}: {exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
