"""A bare stream of grpc.aio that answers each report at once: what gRPC itself costs.

python -m osmo_benchmarks.parts.stream_echo
"""

import asyncio
from collections import deque
from typing import Any

import grpc
import uvloop
from grpc import aio

from osmo_protos import listener_service_pb2 as pb
from osmo_runtime import runner


async def echo(_: object, context: Any) -> None:
    """Read and write at the same time, as a server does that stores in between."""
    answers: deque[bytes] = deque()
    filled = asyncio.Event()
    end = False

    async def write() -> None:
        while answers or not end:
            while answers:
                await context.write(answers.popleft())
            filled.clear()
            if not end:
                await filled.wait()

    writing = asyncio.create_task(write())
    while (data := await context.read()) is not aio.EOF:
        report = pb.ListenerMessage.FromString(data)
        answers.append(pb.AckMessage(ack_uuid=report.uuid).SerializeToString())
        filled.set()
    end = True
    filled.set()
    await writing


async def serve() -> None:
    """Until it is ended."""
    server = aio.server()
    method = grpc.stream_stream_rpc_method_handler(echo)
    handler = grpc.method_handlers_generic_handler(
        "operator.ListenerService", {"ListenerStream": method}
    )
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    runner.announce(f"grpc://127.0.0.1:{port}")
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve())
