"""What links to Redis do on ordinary days: resets, a few megabits, no answers."""

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from osmo_reports.bodies import UpdatePod, encode_body
from osmo_transport import Client, Message, Version, connect, new_message
from osmo_transport.testing.redis_server import RedisServer
from tests.e2e.pipeline import BACKEND, read_queue, wait_for_rows
from tests.e2e.programs import Program, wait_until
from tests.e2e.proxy import Proxy
from tests.helpers import eventually

RESETS = 50
SLOW = 1.5e6 / 8
"""Bytes per second of the slowest link that is promised to work: 1.5 Mbit/s."""
LARGE = 10_000
"""Bytes of a report of a pod with many conditions."""
MANY = 150
"""Reports that take longer over the slow link than one exchange with Redis may."""
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SOON = 15.0
PATIENCE = 60.0


class Services:
    """An operator and a worker whose Redis is behind `proxy`."""

    def __init__(self, folder: Path, proxy: Proxy, scheme: str = "ws", *more: str) -> None:
        self.database = folder / "osmo.db"
        queue = ("--queue", f"redis://127.0.0.1:{proxy.port}/0", "--backoff-maximum=0.2")
        listen = (f"--listen={scheme}://127.0.0.1:0", *(more or ("--check-interval=0.05",)))
        store = ("--store", f"sqlite:///{self.database}")
        self.operator = Program(folder / "operator.log", "osmo_operator", *listen, *queue)
        self.worker = Program(folder / "worker.log", "osmo_worker", *queue, *store, *more)

    def stores(self, rows: int, timeout: float) -> None:
        """Wait until so many rows are there."""
        wait_for_rows(self.database, lambda found: len(found) == rows, timeout)

    @contextmanager
    def running(self) -> Iterator[str]:
        """Both at work; the operator's URL."""
        with self.operator as operator, self.worker:
            yield operator.url()
            assert self.operator.running
            assert self.worker.running


def report(task: str, epoch: int, text: str = "") -> Message:
    body = UpdatePod("flow", task, 0, "RUNNING", message=text)
    key = UpdatePod.key("flow", task, 0)
    return new_message("update_pod", key, encode_body(body), version=Version(epoch, 1))


async def epoch_of(client: Client) -> int:
    async with asyncio.timeout(PATIENCE):
        return await client.epoch_after(0)


def test_idle_connections_that_are_reset_end_nothing(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """Load balancers and fail-overs reset them every day; both programs connect again, and what is
    reported then arrives."""
    with Proxy(redis_server.port) as proxy:
        services = Services(tmp_path, proxy)
        with services.running() as url:
            for _ in range(RESETS):
                before = proxy.connections
                proxy.reset()
                wait_until(lambda made=before: proxy.connections >= made + 2, SOON)  # type: ignore[misc]

            async def send() -> None:
                async with asyncio.timeout(PATIENCE), connect(url, backend=BACKEND) as client:
                    await client.send(report("after", await epoch_of(client)))
                    await client.flush()

            asyncio.run(send())
            services.stores(1, SOON)


def test_over_a_slow_link_everything_arrives(tmp_path: Path, redis_server: RedisServer) -> None:
    """Though all of it takes longer than one exchange may: nothing is buried, and who reports
    little waits for who reports much no longer than for a few exchanges."""
    with Proxy(redis_server.port, rate=SLOW) as proxy:
        services = Services(tmp_path, proxy)
        with services.running() as url:

            async def send() -> None:
                async with (
                    asyncio.timeout(PATIENCE),
                    connect(url, backend=BACKEND) as much,
                    connect(url, backend="other") as little,
                ):
                    epoch = await epoch_of(much)
                    for number in range(MANY):
                        text = os.urandom(LARGE // 2).hex()
                        await much.send(report(f"much-{number}", epoch, text))
                    await eventually(lambda: much.stats.in_flight)
                    await little.send(report("little", await epoch_of(little)))
                    await little.flush()
                    assert much.stats.in_flight, "who reports little waited for all the rest"
                    await much.flush()

            asyncio.run(send())
            services.stores(MANY, PATIENCE)
    status, letters = read_queue(redis_server.url)
    assert not letters
    assert not status.dead


def test_while_redis_hangs_nobody_is_ready_and_everybody_lives(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """The operator and the worker say so to who asks for their readiness, and the operator to who
    asks for its health as well, nobody is restarted for it, and they are ready again when Redis
    answers, with what was reported meanwhile."""
    seen = ("--operations=127.0.0.1:0", "--check-interval=0.2")
    with Proxy(redis_server.port) as proxy:
        services = Services(tmp_path, proxy, "grpc", *seen)
        with services.operator as operator, services.worker as worker:
            ports = [operator.operations(), worker.operations()]
            url = operator.url()
            channel = grpc.insecure_channel(url.partition("//")[2])

            def health() -> int:
                stub = health_pb2_grpc.HealthStub(channel)
                answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=SOON)
                return int(answer.status)

            def ready() -> list[int]:
                assert [ask(port, "/livez")[0] for port in ports] == [200, 200]
                return [ask(port, "/readyz")[0] for port in ports]

            async def send() -> None:
                async with asyncio.timeout(PATIENCE), connect(url, backend=BACKEND) as client:
                    epoch = await epoch_of(client)
                    redis_server.hang()
                    await client.send(report("meanwhile", epoch))
                    await eventually(lambda: ready() == [503, 503])
                    await eventually(lambda: health() == NOT_SERVING)
                    for port in ports:
                        checks = json.loads(ask(port, "/readyz")[1])["checks"]
                        assert "has not answered for" in checks["queue"]["reason"]
                        assert checks["queue"]["age"] > 0
                    redis_server.resume()
                    await client.flush()
                    await eventually(lambda: ready() == [200, 200])
                    await eventually(lambda: health() == SERVING)

            with channel:
                wait_until(lambda: ready() == [200, 200], SOON)
                wait_until(lambda: health() == SERVING, SOON)
                asyncio.run(send())
            services.stores(1, SOON)


def ask(port: str, path: str) -> tuple[int, bytes]:
    """What an operations port answers."""
    try:
        with urlopen(f"{port}{path}", timeout=SOON) as answer:
            return answer.status, answer.read()
    except HTTPError as exc:
        return exc.code, exc.read()
