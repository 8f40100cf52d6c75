"""python -m legacy service|client|listener|load [options]"""

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import websockets

from legacy.client import run_client
from legacy.load import run_load
from legacy.service import run_service


def count(text: str) -> int:
    """A whole number from 1."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("it has to be 1 or more")
    return number


def count_or_zero(text: str) -> int:
    """A whole number from 0."""
    if (number := int(text)) < 0:
        raise argparse.ArgumentTypeError("it has to be 0 or more")
    return number


def seconds(text: str) -> float:
    """Of a time in milliseconds."""
    if not 0 <= (time := float(text) / 1000) < float("inf"):
        raise argparse.ArgumentTypeError("it has to be 0 or more milliseconds")
    return time


def address(text: str) -> tuple[str, int]:
    """HOST:PORT"""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(prog="legacy")
    verbs = parser.add_subparsers(dest="verb", required=True)
    service = verbs.add_parser("service", help="handle and acknowledge every message")
    service.add_argument("--listen", type=address, default="127.0.0.1:0", metavar="HOST:PORT")
    service.add_argument("--record", type=Path, metavar="FILE", help="of what was received")
    service.add_argument(
        "--cost-ms", dest="cost", type=seconds, default=0.0, help="what handling one takes"
    )
    client = verbs.add_parser("client", help="measure how fast messages are acknowledged")
    client.add_argument("--messages", type=count, required=True)
    client.add_argument("--warm-up", type=count_or_zero, default=0, help="messages before these")
    client.add_argument("--window", type=count, default=1, help="unacknowledged messages at most")
    listener = verbs.add_parser("listener", help="report the pods of a namespace")
    listener.add_argument("--kubeconfig", required=True, metavar="FILE")
    listener.add_argument("--namespace", default="osmo")
    load = verbs.add_parser("load", help="send the reports of a plan")
    load.add_argument("--plan", type=Path, required=True, metavar="FILE")
    for each in (client, listener, load):
        each.add_argument("--connect", required=True, metavar="URL", help="of the service")
    return parser.parse_args()


def work(options: argparse.Namespace) -> Coroutine[Any, Any, None]:
    """What was asked for."""
    match options.verb:
        case "service":
            host, port = options.listen
            return run_service(host, port, options.record, options.cost)
        case "client":
            return run_client(options.connect, options.messages, options.warm_up, options.window)
        case "load":
            return run_load(options.connect, options.plan)
        case _:
            from legacy.listener import run_listener  # noqa: PLC0415  (the Kubernetes client is large)

            return run_listener(options.connect, options.kubeconfig, options.namespace)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """The fastest there is: asyncio's own takes a fresh 256 kB for each read, and so two page
    faults for each message where the process is small."""
    try:
        import uvloop  # noqa: PLC0415  (optional)
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def run(options: argparse.Namespace) -> None:
    """Work until it is done, or a signal comes."""
    task = asyncio.create_task(work(options))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def main() -> int:
    """Run the program; returns its exit code."""
    options = arguments()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # A line for each connection is nobody's wish.
    logging.getLogger("websockets").setLevel(logging.WARNING)
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(run(options))
    except (OSError, ValueError, RuntimeError, websockets.WebSocketException) as exc:
        sys.stderr.write(f"legacy {options.verb}: {exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
