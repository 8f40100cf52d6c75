"""What may stand between a worker and PostgreSQL: a link that carries nothing, a pooler."""

import itertools
import selectors
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

PROTOCOL = 196608
"""Version 3.0, the code of a startup message."""

REFUSED = b"SFATAL\0VFATAL\0C08P01\0Munsupported startup parameter: options\0\0"


class Link:
    """A TCP proxy on loopback. Closed, it closes its connections."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self.target = parts.hostname, parts.port
        self.accepted = 0
        """Connections so far."""
        self._dead: set[socket.socket] = set()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = url.replace(f":{self.target[1]}", f":{port}")
        """The same as `url`, over this link."""
        self._threads = [self._start(self._accept)]

    def swallow(self) -> None:
        """Let the connections of now stay open and carry nothing any more."""
        self._dead.update(self._open)

    def close(self) -> None:
        """End everything."""
        # Only closing it would leave the thread in `accept`.
        self._listener.shutdown(socket.SHUT_RDWR)
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in (self._listener, *self._open):
            each.close()

    def serve(self, client: socket.socket) -> None:
        """Carry what a client and the server say."""
        server = self.connect()
        pair = {client: server, server: client}
        with selectors.DefaultSelector() as selector:
            for each in pair:
                selector.register(each, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    source: socket.socket = key.fileobj  # type: ignore[assignment]
                    data = source.recv(65536)
                    if not data:
                        if source not in self._dead:
                            pair[source].shutdown(socket.SHUT_RDWR)
                        return
                    if source not in self._dead:
                        pair[source].sendall(data)

    def connect(self) -> socket.socket:
        """A connection to the server."""
        server = socket.create_connection(self.target)
        self._keep(server)
        return server

    def _keep(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open.append(connection)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.accepted += 1
                self._keep(client)
                self._threads.append(self._start(self._serve, client))

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError):
            self.serve(client)
        with suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _start(target: object, *args: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=args)  # type: ignore[arg-type]
        thread.start()
        return thread


class Pooler(Link):
    """As PgBouncer in transaction mode: it refuses the startup parameter `options`, and each
    transaction of a client runs in the other one of two sessions of the server."""

    def serve(self, client: socket.socket) -> None:
        """See `Link`."""
        startup = _startup(client)
        if startup is None:
            return
        sessions = itertools.cycle([self._session(startup, client), self._session(startup, None)])
        session, unanswered = next(sessions), 0
        while True:
            with selectors.DefaultSelector() as selector:
                for each in (client, session):
                    selector.register(each, selectors.EVENT_READ)
                ready = [key.fileobj for key, _ in selector.select()]
            for source in ready:
                kind, message = _message(source)  # type: ignore[arg-type]
                if source is client:
                    unanswered += kind in {b"S", b"Q"}
                    session.sendall(message)
                else:
                    client.sendall(message)
                    unanswered -= kind == b"Z"
                    if kind == b"Z" and message.endswith(b"I") and not unanswered:
                        session = next(sessions)
                        break

    def _session(self, startup: bytes, client: socket.socket | None) -> socket.socket:
        server = self.connect()
        server.sendall(startup)
        kind = b""
        while kind != b"Z":
            kind, message = _message(server)
            if client is not None:
                client.sendall(message)
        return server


@contextmanager
def linked(url: str, link: type[Link] = Link) -> Iterator[Link]:
    """A link to the database at `url`."""
    opened = link(url)
    try:
        yield opened
    finally:
        opened.close()


def _startup(client: socket.socket) -> bytes | None:
    """A client's startup message, None where it is refused."""
    while True:
        size, code = struct.unpack("!II", _exactly(client, 8))
        rest = _exactly(client, size - 8)
        if code == PROTOCOL:
            break
        client.sendall(b"N")  # neither TLS nor GSS
    words = rest.rstrip(b"\0").split(b"\0")
    if b"options" in words[::2]:
        client.sendall(b"E" + struct.pack("!I", len(REFUSED) + 4) + REFUSED)
        return None
    return struct.pack("!II", size, code) + rest


def _message(source: socket.socket) -> tuple[bytes, bytes]:
    head = _exactly(source, 5)
    return head[:1], head + _exactly(source, struct.unpack("!I", head[1:])[0] - 4)


def _exactly(source: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = source.recv(size - len(data))
        if not more:
            raise ConnectionError("closed by the peer")
        data += more
    return data
