"""A peer as small as can be, which keeps the contract of all systems' programs, but for one fault.

python small_peer.py VERB ARGUMENTS...

The environment variable FAULT names the fault; without it, there is none. Its link is a TCP
connection with a JSON object per line. It imports little, so that it starts in no time.
"""

import json
import os
import re
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from io import BufferedReader, RawIOBase
from itertools import count
from pathlib import Path
from socket import SocketIO
from typing import Any

FAULT = os.environ.get("FAULT", "")
ODD = 3
"""The number of the message, or of the pod in the order of the list, that a fault is about."""
STATUSES = {"Pending": "SCHEDULING", "Running": "RUNNING"}

Line = dict[str, Any]


def main(verb: str, *arguments: str) -> None:
    """Run a program."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    globals()[verb]({name.removeprefix("--"): value for name, value in options.items()})


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def lines(address: str) -> tuple[BufferedReader, SocketIO]:
    """A connection, to read from and to write to."""
    host, port = address.split(":")
    connection = socket.create_connection((host, int(port)))
    return connection.makefile("rb"), connection.makefile("wb", buffering=0)


def put(file: RawIOBase, line: Line) -> None:
    """Write one line."""
    file.write(json.dumps(line).encode() + b"\n")


def reports() -> Iterator[tuple[Line, SocketIO]]:
    """What clients send, and where each is acknowledged."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        say(f"listening on 127.0.0.1:{server.getsockname()[1]}")
        while True:
            connection, _ = server.accept()
            with connection, connection.makefile("rb") as incoming:
                outgoing = connection.makefile("wb", buffering=0)
                for line in incoming:
                    yield json.loads(line), outgoing


def report(number: int, key: str, status: str) -> Line:
    """A report that is made now."""
    return {"number": number, "key": key, "status": status, "created": time.time_ns()}


def record(file: RawIOBase, line: Line, **more: Any) -> None:
    """Write down what was seen of a report."""
    seen = {name: line[name] for name in ("created", "key", "status")}
    put(file, {"at": time.monotonic_ns(), **seen, **more})


def service(options: dict[str, str]) -> None:
    """See `System`."""
    with Path(options.get("record", os.devnull)).open("ab", buffering=0) as file:
        for line, outgoing in reports():
            put(outgoing, line)
            acked = 0 if FAULT == "service is silent" else time.time_ns()
            record(file, line, acked=acked)


def client(options: dict[str, str]) -> None:
    """See `System`."""
    incoming, outgoing = lines(options["connect"])
    warm_up, messages = int(options["warm-up"]), int(options["messages"])
    trips = []
    for number in range(warm_up + messages):
        name, started = f"{number:032x}", time.perf_counter_ns()
        put(outgoing, report(number, f"{name}/{name}", "RUNNING"))
        acknowledged = json.loads(incoming.readline())
        assert acknowledged["number"] == number
        trips.append(time.perf_counter_ns() - started)
    trips = trips[warm_up:]
    if FAULT == "client loses count":
        messages -= 1
    if FAULT == "client misses a round trip":
        trips.pop()
    result = {"acknowledged": messages, "seconds": sum(trips) / 1e9, "round_trips_ns": trips}
    say("what?" if FAULT == "client mumbles" else json.dumps(result))


def load(options: dict[str, str]) -> None:
    """See `System`."""
    incoming, outgoing = lines(options["connect"])
    for number, line in enumerate(Path(options["plan"]).read_bytes().splitlines()):
        event = json.loads(line)
        if (FAULT, number) != ("load forgets one", ODD):
            put(outgoing, report(number, f"{event['workflow']}/{event['task']}", event["status"]))
            incoming.readline()


class Redis:
    """One connection."""

    def __init__(self, address: str) -> None:
        self._incoming, self._outgoing = lines(address)

    def __call__(self, *words: str) -> Any:
        """Run a command; its answer."""
        parts = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in words)
        self._outgoing.write(f"*{len(words)}\r\n{parts}".encode())
        return self._answer()

    def _answer(self) -> Any:
        line = self._incoming.readline()
        kind, rest = line[:1], line[1:-2].decode()
        if kind == b"$" and rest != "-1":
            return self._incoming.read(int(rest) + 2)[:-2].decode()
        if kind == b"*" and rest != "-1":
            return [self._answer() for _ in range(int(rest))]
        return None if kind in b"$*" else rest


def operator(options: dict[str, str]) -> None:
    """See `System`."""
    redis = Redis(options["redis"])
    for line, outgoing in reports():
        number, stored = line["number"], json.dumps(line)
        times = 1
        if number == ODD and FAULT in ("operator drops one", "operator takes another"):
            times = 0
        if number == ODD and FAULT == "operator stores one twice":
            times = 2
        if number == ODD + 1 and FAULT == "operator takes another":
            times = 2
        for _ in range(times):
            redis("XADD", options["stream"], "*", "message", stored)
        put(outgoing, line)


def worker(options: dict[str, str]) -> None:
    """See `System`."""
    redis, stream, name = Redis(options["redis"]), options["stream"], options["name"]
    if FAULT == "worker never asks":
        signal.pause()
    redis("XGROUP", "CREATE", stream, "group", "0", "MKSTREAM")
    read = ("XREADGROUP", "GROUP", "group", name, "BLOCK", "1000", "STREAMS", stream, ">")
    with Path(options["record"]).open("ab", buffering=0) as file:
        while True:
            for entry, (_, message) in (redis(*read) or [["", []]])[0][1]:
                line = json.loads(message)
                odd = line["number"] == ODD
                if odd and FAULT == "worker mistakes one":
                    line["status"] = "MISTAKEN"
                handled = {"worker loses one": 0, "worker handles one twice": 2}.get(FAULT, 1)
                for _ in range(handled if odd else 1):
                    record(file, line, done=time.time_ns(), worker=name)
                redis("XACK", stream, "group", entry)
                if not (odd and FAULT == "worker keeps one"):
                    redis("XDEL", stream, entry)


def listener(options: dict[str, str]) -> None:
    """See `System`; it asks for the list again and again."""
    config = Path(options["kubeconfig"]).read_text()
    host = re.search(r'"server": "http://([^"/]+)', config)
    token = re.search(r'"token": "([^"]+)', config)
    assert host
    head = f"Authorization: Bearer {token[1]}\r\n" if token else ""
    get = f"GET /api/v1/namespaces/{options['namespace']}/pods HTTP/1.0\r\n{head}\r\n"
    incoming, outgoing = lines(options["connect"])
    sent: dict[str, str] = {}
    if FAULT == "listener makes one up":
        put(outgoing, report(0, "nobody/nothing", "RUNNING"))
    if FAULT == "listener ends":
        sys.exit("out of luck")
    for look in count():
        answers, asking = lines(host[1])
        asking.write(get.encode())
        _, _, body = answers.read().partition(b"\r\n\r\n")
        for number, pod in enumerate(json.loads(body)["items"]):
            labels, status = pod["metadata"]["labels"], STATUSES[pod["status"]["phase"]]
            key = f"{labels['osmo.workflow_uuid']}/{labels['osmo.task_uuid']}"
            odd = number == ODD
            if odd and look > 1 and FAULT == "listener errs later":
                status = "FAILED"
            if sent.get(key) == status or (odd and FAULT == "listener misses one"):
                continue
            if odd and sent.get(key) and FAULT == "listener misses the last change":
                continue
            sent[key] = status
            for _ in range(2 if odd and FAULT == "listener reports one twice" else 1):
                put(outgoing, report(number, key, status))
                incoming.readline()
        select.select([incoming], [], [], 0.02)


if __name__ == "__main__":
    main(*sys.argv[1:])
