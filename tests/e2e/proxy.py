"""A TCP proxy between programs, with verbs for what networks do."""

import contextlib
import socket
import struct
import threading
import time
from itertools import cycle
from types import TracebackType
from typing import Self

PIECE = 8192
"""Bytes that a slow link carries at a time."""

RESET = struct.pack("ii", 1, 0)
"""Lets a socket that is closed answer with a reset, not with a goodbye."""

BUFFER = 65536
"""Bytes that the kernel keeps on each side of it, so that a sender notices how slow it is."""


class Proxy:
    """Forwards each connection to the first of `ports` that answers, beginning with another one
    each time. With `rate`, all connections together carry so many bytes per second in each
    direction. Use as `with`."""

    def __init__(self, *ports: int, rate: float = 0) -> None:
        self._ports = ports
        self._rate = rate
        self._lanes = (threading.Lock(), threading.Lock())
        self._turns = cycle(range(len(ports)))
        self._server = socket.create_server(("127.0.0.1", 0))
        if rate:
            self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._swallowing: set[socket.socket] = set()
        self._left: int | None = None
        self.port: int = self._server.getsockname()[1]

    @property
    def connections(self) -> int:
        """How many have been made."""
        return len(self._pairs)

    def reset(self) -> None:
        """Break every connection, as a load balancer does that has forgotten it."""
        for pair in self._pairs:
            for one in pair:
                with contextlib.suppress(OSError):
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    one.shutdown(socket.SHUT_RD)
                one.close()

    def cut(self, after: int) -> None:
        """Break the connection that carries the byte number `after` from now on, after it."""
        self._left = after

    @property
    def was_cut(self) -> bool:
        """Whether the last `cut` has happened."""
        return self._left is None

    def swallow(self) -> None:
        """Let the connections of now be half-open for ever: nobody is told, nothing arrives."""
        for pair in self._pairs:
            self._swallowing.update(pair)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                server = self._dial()
                if server is None:
                    client.close()
                    continue
                self._pairs.append((client, server))
                _start(self._pump, client, server, self._lanes[0])
                _start(self._pump, server, client, self._lanes[1])

    def _dial(self) -> socket.socket | None:
        turn = next(self._turns)
        for port in self._ports[turn:] + self._ports[:turn]:
            with contextlib.suppress(OSError):
                server = socket.create_connection(("127.0.0.1", port))
                if self._rate:
                    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
                return server
        return None

    def _pump(self, source: socket.socket, target: socket.socket, lane: threading.Lock) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(PIECE if self._rate else 65536):
                if self._rate:
                    with lane:
                        time.sleep(len(data) / self._rate)
                if source in self._swallowing:
                    continue
                if self._left is not None:
                    data, rest = data[: self._left], len(data) - self._left
                    self._left = None if rest >= 0 else -rest
                    target.sendall(data)
                    if rest >= 0:
                        break
                else:
                    target.sendall(data)
        if source not in self._swallowing:
            _shut(source, target)

    def __enter__(self) -> Self:
        _start(self._accept)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _shut(self._server)
        self._server.close()
        for pair in self._pairs:
            _shut(*pair)
            for one in pair:
                one.close()


def _start(target: object, *arguments: object) -> None:
    assert callable(target)
    threading.Thread(target=target, args=arguments, daemon=True).start()


def _shut(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
