"""What the services have counted in all of their lives, against what was really done."""

import asyncio
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from osmo_reports.bodies import UpdatePod, encode_body
from osmo_transport import Client, Message, Version, connect, new_message
from osmo_transport.testing.ports import free_port
from osmo_transport.testing.redis_server import RedisServer
from tests.e2e.pipeline import BACKEND, IMPATIENT, read_queue, read_rows
from tests.e2e.programs import Program
from tests.e2e.proxy import Proxy
from tests.e2e.test_redis_links import ask
from tests.helpers import eventually

MANY = 120
"""Reports of each phase."""
BAD = 7
"""Reports that nobody can read."""
PODS = "{osmo}:stream:pods"
ROOM = 300
"""Entries that the queue may hold."""
PATIENCE = 60.0
TRIES = 600


class Counted:
    """A program, and what its counters have come to in all of its lives. A counter ends with its
    process, so it is read before that, when nothing moves."""

    def __init__(self, folder: Path, module: str, *arguments: str) -> None:
        options = ("--operations=127.0.0.1:0", "--check-interval=0.1", *IMPATIENT, *arguments)
        self.program = Program(folder / f"{module}.log", module, *options)
        self._past: Counter[str] = Counter()
        self._port = ""

    @contextmanager
    def running(self) -> Iterator[None]:
        with self.program:
            self._port = self.program.operations()
            yield

    def kill(self) -> None:
        """As it stands."""
        self._past = self._counters()
        self.program.kill()

    def start(self) -> None:
        self.program.start()
        self._port = self.program.operations()

    def total(self, name: str, **labels: str) -> int:
        """Of all lives, and of all values of the labels that are not given."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        counted = self._counters().items()
        return sum(
            n for key, n in counted if key.split("{")[0] == name and all(w in key for w in wanted)
        )

    def appended(self) -> int:
        return self.total("osmo_operator_appended_total")

    def outcomes(self, outcome: str) -> int:
        return self.total("osmo_backend_event_count_total", outcome=outcome)

    def superseded(self) -> int:
        return self.total("osmo_backend_event_superseded_total")

    def done(self) -> int:
        """Deliveries that will not come again."""
        return self.outcomes("handled") + self.superseded() + self.outcomes("rejected")

    def holding(self) -> int:
        return self._read()["osmo_worker_holding"]

    def reasons(self) -> str:
        """Why it is not ready."""
        return ask(self._port, "/readyz")[1].decode()

    def lives(self) -> bool:
        return ask(self._port, "/livez")[0] == 200

    def _counters(self) -> Counter[str]:
        return self._past + self._read()

    def _read(self) -> Counter[str]:
        text = ask(self._port, "/metrics")[1].decode()
        found = re.findall(r"^(osmo_\S+) (\S+)$", text, re.MULTILINE)
        return Counter({name: int(float(value)) for name, value in found})


class Scene:
    """An operator, a worker, and this test as their listener, which knows what it sent."""

    def __init__(self, folder: Path, redis: RedisServer) -> None:
        self.redis = redis
        self.database = folder / "osmo.db"
        self.port = free_port()
        queue = ("--queue", redis.url, f"--limits-max-entries={ROOM}")
        listen = f"--listen=ws://127.0.0.1:{self.port}"
        store = ("--store", f"sqlite:///{self.database}", "--store-limits-busy-timeout=0.1")
        self.operator = Counted(folder, "osmo_operator", *queue, listen)
        self.worker = Counted(folder, "osmo_worker", *queue, *store, "--name=worker")
        self.sent = 0
        self.keys: set[str] = set()

    async def report(self, client: Client, key: str, body: bytes = b"") -> None:
        self.sent += 1
        if not body:
            self.keys.add(key)
        await client.send(self._message(client.epoch, key, body))

    def _message(self, epoch: int, key: str, body: bytes) -> Message:
        body = body or encode_body(UpdatePod("flow", key, 0, "RUNNING"))
        version = Version(epoch, self.sent)
        return new_message("update_pod", UpdatePod.key("flow", key, 0), body, version=version)

    async def report_many(self, client: Client, name: str) -> None:
        for number in range(MANY):
            await self.report(client, f"{name}-{number}")

    def added(self) -> int:
        """Entries that Redis says were ever added since it lost its memory last."""
        answer = self.redis.command("XINFO", "STREAM", PODS)
        return int(dict(zip(answer[::2], answer[1::2], strict=True))[b"entries-added"])

    def left(self) -> int:
        """Entries that are not settled."""
        return int(self.redis.command("XLEN", PODS))

    async def nothing_left(self) -> None:
        await comes_to(0, self.left)

    @contextmanager
    def locked_store(self) -> Iterator[None]:
        """Nothing can be written: the worker holds what it has in hand."""
        with sqlite3.connect(self.database, isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            yield
            other.execute("ROLLBACK")
        other.close()


async def comes_to(wanted: int, read: Callable[[], int]) -> None:
    """Wait until a figure is what it has to be: it may be told somewhat late."""
    found = await asyncio.to_thread(read)
    for _ in range(TRIES):
        if found == wanted:
            return
        await asyncio.sleep(0.05)
        found = await asyncio.to_thread(read)
    pytest.fail(f"it is {found}, and has to be {wanted}")


async def cut_connections(scene: Scene, client: Client, proxy: Proxy) -> None:
    """While much is on its way."""
    for after in (1, 2000, 9000):
        proxy.cut(after)
        await scene.report_many(client, f"cut-{after}")
        await eventually(lambda: proxy.was_cut)
        await client.flush()


async def report_badly(scene: Scene, client: Client) -> None:
    """What nobody can read."""
    for number in range(BAD):
        await scene.report(client, f"bad-{number}", b"no body")
    await client.flush()
    await scene.nothing_left()
    status, _ = await asyncio.to_thread(read_queue, scene.redis.url)
    assert status.dead == BAD


async def kill_both(scene: Scene, client: Client) -> None:
    """The worker with much in hand, and the operator with more than there is room for."""
    operator, worker = scene.operator, scene.worker
    with scene.locked_store():
        await scene.report_many(client, "locked")
        await comes_to(1, worker.holding)
        await scene.report_many(client, "full")
        await scene.report_many(client, "fuller")
        await eventually(lambda: "the queue is full" in operator.reasons())
        await eventually(lambda: "is locked" in worker.reasons())
        assert operator.lives()
        assert worker.lives()
        await comes_to(scene.added(), operator.appended)
        operator.kill()
        worker.kill()
        operator.start()
    worker.start()
    await client.flush()
    await scene.nothing_left()


async def supersede(scene: Scene, client: Client) -> None:
    """By newer ones, what waits."""
    with scene.locked_store():
        for _ in range(9):
            await scene.report(client, "again")
            await client.flush()
    await scene.nothing_left()
    await comes_to(0, scene.worker.holding)


async def forget(scene: Scene, client: Client) -> int:
    """Let the queue lose its memory; how many entries no worker had been given by then."""
    with scene.locked_store():
        await scene.report(client, "held")
        await comes_to(1, scene.worker.holding)
        await scene.report_many(client, "forgotten")
        await client.flush()
        epoch = client.epoch
        status, _ = await asyncio.to_thread(read_queue, scene.redis.url)
        scene.redis.flush()
        await client.epoch_after(epoch)
    await scene.report_many(client, "forgotten")
    await client.flush()
    await scene.nothing_left()
    return sum(status.waiting.values())


@pytest.mark.timeout(120)
async def test_every_sum_is_what_really_happened(tmp_path: Path, redis_server: RedisServer) -> None:
    """Of what is sent, stored, handled, superseded and buried, while connections are cut, reports
    are bad, the store and the queue take nothing, processes are killed and the queue forgets."""
    scene = Scene(tmp_path, redis_server)
    operator, worker = scene.operator, scene.worker
    with Proxy(scene.port) as proxy, operator.running(), worker.running():
        async with (
            asyncio.timeout(PATIENCE),
            connect(f"ws://127.0.0.1:{proxy.port}", backend=BACKEND) as client,
        ):
            await client.epoch_after(0)
            await cut_connections(scene, client, proxy)
            await report_badly(scene, client)
            await kill_both(scene, client)
            await supersede(scene, client)
            added = scene.added() + 1 + MANY
            forgotten = await forget(scene, client)
            added += scene.added()
        stored = client.stats.acknowledged
        assert scene.sent == stored + client.stats.coalesced
        assert stored == added
        await comes_to(stored, operator.appended)
        await comes_to(1, lambda: operator.total("osmo_operator_resync_total"))
        await comes_to(stored - forgotten, worker.done)
        handled, superseded = worker.outcomes("handled"), worker.superseded()
        assert worker.outcomes("rejected") == worker.total("osmo_worker_buried_total") == BAD
        timed = worker.total("osmo_backend_event_processing_time_seconds_count")
        assert timed == handled + superseded
        assert worker.total("osmo_store_rows_total", table="tasks") == handled
        rows = await asyncio.to_thread(read_rows, scene.database)
        assert {row.task_uuid for row in rows} == scene.keys
        assert forgotten
        assert superseded
