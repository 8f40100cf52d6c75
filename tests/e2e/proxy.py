"""A TCP proxy between programs, with verbs for what networks do."""

import contextlib
import socket
import threading
from itertools import cycle
from types import TracebackType
from typing import Self


class Proxy:
    """Forwards each connection to the first of `ports` that answers, beginning with another one
    each time. Use as `with`."""

    def __init__(self, *ports: int) -> None:
        self._ports = ports
        self._turns = cycle(range(len(ports)))
        self._server = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._swallowing: set[socket.socket] = set()
        self._left: int | None = None
        self.port: int = self._server.getsockname()[1]

    def reset(self) -> None:
        """Break every connection."""
        for pair in self._pairs:
            _shut(*pair)

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
                for source, target in ((client, server), (server, client)):
                    _start(self._pump, source, target)

    def _dial(self) -> socket.socket | None:
        turn = next(self._turns)
        for port in self._ports[turn:] + self._ports[:turn]:
            with contextlib.suppress(OSError):
                return socket.create_connection(("127.0.0.1", port))
        return None

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
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
