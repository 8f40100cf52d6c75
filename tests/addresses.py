"""A host of two addresses, the first of which may be dead."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

NAME = "two.test"
"""The host."""


@contextmanager
def two_addresses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`NAME` is `::1` and `127.0.0.1`, in this order."""
    resolve = socket.getaddrinfo

    def found(host: object, port: int | str, *rest: int, **more: int) -> object:
        if host not in (NAME, NAME.encode()):
            return resolve(host, port, *rest, **more)  # type: ignore[arg-type]
        kind = socket.SOCK_STREAM
        return [
            (socket.AF_INET6, kind, 6, "", ("::1", int(port), 0, 0)),
            (socket.AF_INET, kind, 6, "", ("127.0.0.1", int(port))),
        ]

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", found)
        yield


@contextmanager
def black_hole(port: int) -> Iterator[None]:
    """`::1` takes no connection at this port: who tries waits for ever."""
    with socket.socket(socket.AF_INET6) as server:
        server.bind(("::1", port))
        server.listen(0)
        waiting = [socket.socket(socket.AF_INET6) for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("::1", port))
        try:
            yield
        finally:
            for each in waiting:
                each.close()
