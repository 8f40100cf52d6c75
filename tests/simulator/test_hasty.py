"""Clients that ask and are gone before they are answered."""

import asyncio
import socket
import struct

import pytest

from osmo_simulator.server import Simulator

REQUESTS = 50
RESET_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: what closes the socket sends a reset."""


@pytest.mark.parametrize("target", ["/api/v1/pods?watch=1", "/api/v1/pods"])
async def test_they_leave_no_trace(target: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing went wrong in the simulator, and its log says so."""
    async with Simulator() as simulator:
        port = int(simulator.url.rsplit(":", 1)[1])
        for _ in range(REQUESTS):
            with socket.create_connection(("127.0.0.1", port)) as hasty:
                hasty.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                hasty.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_ONCE)
            await asyncio.sleep(0)
        # One that waits for its answer: those before it are over.
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"200" in await reader.read()
        writer.close()
        await writer.wait_closed()
    assert caplog.text == ""
