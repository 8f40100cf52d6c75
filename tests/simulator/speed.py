"""How fast the simulator serves: `python -m tests.simulator.speed`. Measures, and asserts nothing.

The server runs in a process of its own; this one reads its sockets and parses only what it must.
"""

import asyncio
import json
import multiprocessing
import socket
import statistics
import sys
import time
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import urlsplit

from osmo_simulator.builders import make_pod, task_labels
from osmo_simulator.server import Simulator

PODS = 10_000
EVENTS = 40_000
PAGE = 500
ROUNDS = 5
PADDING = 11_400
"""Makes each pod 14 kB."""
_BETWEEN_YIELDS = 16


def main() -> None:
    """Print events per second to one watcher, and the seconds of a list in pages."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.Process(target=_serve, args=(theirs,), daemon=True)
    server.start()
    url, size = ours.recv()
    _print(f"{PODS} pods of {size} bytes")
    parts = urlsplit(url)
    address = (parts.hostname or "", parts.port or 0)
    rates = [_watch(address, ours) for _ in range(ROUNDS)]
    _print(f"watch, {EVENTS} events: {_summary([rate for rate, _ in rates])} events/s")
    _print(f"  server's CPU per event: {_summary([cpu * 1e6 for _, cpu in rates])} µs")
    lists = [_list(address) for _ in range(ROUNDS)]
    _print(f"list in pages of {PAGE}: {_summary(lists, 3)} s")
    ours.send(None)
    server.join()


def _serve(pipe: Connection) -> None:
    asyncio.run(_serve_until_told(pipe))


async def _serve_until_told(pipe: Connection) -> None:
    async with Simulator() as sim:
        for number in range(PODS):
            labels = task_labels(f"{number // 8:032x}", f"{number:032x}")
            pod = make_pod(f"pod-{number:05}", labels=labels, padding=PADDING)
            sim.cluster.create("pods", pod)
        pipe.send((sim.url, sim.cluster.store("pods").current()[0].size))
        while await asyncio.to_thread(pipe.recv):
            used = time.process_time()
            for number in range(EVENTS):
                status = {"phase": "Running", "podIP": f"10.{number >> 16}.0.{number & 0xFFFF}"}
                name = f"pod-{number % PODS:05}"
                sim.cluster.patch_status("pods", name, status, namespace="osmo")
                if number % _BETWEEN_YIELDS == 0:
                    await asyncio.sleep(0)
            pipe.send(used)
            await asyncio.to_thread(pipe.recv)
            pipe.send(time.process_time() - used)


def _watch(address: tuple[str, int], pipe: Connection) -> tuple[float, float]:
    version = _get(address, "limit=1")["metadata"]["resourceVersion"]
    with socket.create_connection(address) as connection:
        connection.sendall(
            f"GET /api/v1/pods?watch=1&resourceVersion={version} HTTP/1.1\r\n"
            "Host: simulator\r\n\r\n".encode()
        )
        connection.recv(65536)
        pipe.send(True)
        started = time.perf_counter()
        events, tail = 0, b""
        marker = b'{"type":"MODIFIED"'
        while events < EVENTS:
            received = connection.recv(1 << 20)
            assert received, f"the watch ended after {events} events"
            data = tail + received
            events += data.count(marker)
            tail = data[-len(marker) + 1 :]
        seconds = time.perf_counter() - started
    pipe.recv()
    pipe.send(True)
    return EVENTS / seconds, pipe.recv() / EVENTS


def _list(address: tuple[str, int]) -> float:
    started = time.perf_counter()
    token, count = "", 0
    while True:
        page = _get(address, f"limit={PAGE}&continue={token}", whole=False)
        count += PAGE
        token = page["metadata"].get("continue", "")
        if not token:
            break
    assert count == PODS, f"{count} pods listed"
    return time.perf_counter() - started


def _get(address: tuple[str, int], query: str, *, whole: bool = True) -> Any:
    with socket.create_connection(address) as connection:
        connection.sendall(
            f"GET /api/v1/pods?{query} HTTP/1.1\r\nHost: simulator\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        chunks = []
        while chunk := connection.recv(1 << 20):
            chunks.append(chunk)
    body = b"".join(chunks).split(b"\r\n\r\n", 1)[1]
    if whole:
        return json.loads(body)
    head = body[: body.index(b',"items"')]
    return json.loads(head + b"}")


def _summary(values: list[float], digits: int = 0) -> str:
    median, least, most = statistics.median(values), min(values), max(values)
    return f"median {median:.{digits}f} (min {least:.{digits}f}, max {most:.{digits}f})"


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
