"""What the programs say and do about wrong starts, broken peers and messages nobody can read."""

import asyncio
import json
import re
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from osmo_reports.bodies import UpdatePod, encode_body
from osmo_simulator.api_server import Session
from osmo_transport import Client, MessageTooLargeError, Version, connect, new_message
from osmo_transport.testing.ports import free_port
from osmo_transport.testing.redis_server import RedisServer
from tests.e2e.backends import Churn
from tests.e2e.pipeline import BACKEND, IMPATIENT, read_queue, wait_for_cluster
from tests.e2e.programs import Program, wait_until

PASSWORD = "s3cret-of-the-queue"
TOKEN = "cluster-token"
SOON = 60.0
"""Seconds within which a test expects what takes one or two, on however slow a machine."""

HANDLERS = """
import asyncio
from osmo_transport import Ack

async def raises_or_hangs(delivery):
    if delivery.message.key == "raises":
        raise ValueError("cannot do this one")
    if delivery.message.key == "hangs":
        await asyncio.sleep(3600)
    return Ack()
"""


def complaint(program: Program) -> str:
    """The error that ended a program; fails if a user would see a traceback."""
    errors = [json.loads(line) for line in program.log().splitlines() if '"ERROR"' in line]
    assert not [error for error in errors if "stack" in error]
    return str(errors[-1]["message"])


@pytest.mark.parametrize(
    ("module", "arguments", "code", "said"),
    [
        ("osmo_operator", "--listen http://127.0.0.1:0", 2, "'http': the URL starts with one of"),
        ("osmo_operator", "--queue kafka://here", 2, "'kafka': the URL starts with one of"),
        ("osmo_operator", "--queue memory:// --listen ws://{busy}", 1, "the port is in use; stop"),
        ("osmo_operator", "--queue memory:// --listen grpc://{busy}", 1, "the port is in use"),
        ("osmo_simulator", "--listen {busy}", 1, "choose another (0: any)"),
        ("osmo_worker", "--store mysql://here/osmo", 2, "'mysql': use sqlite:///PATH, postgres"),
        ("osmo_worker", "--store sqlite:///{diary}", 2, "file is not a database (name another"),
        ("osmo_worker", "--handler broken_handlers:x", 2, "cannot be imported: ZeroDivisionErr"),
        ("osmo_listener", "--kubeconfig {absent}", 2, "absent cannot be read: No such file"),
        ("osmo_listener", "--listeners nodes", 2, "no listener is called 'nodes': there are even"),
    ],
)
def test_a_wrong_start_ends_with_what_to_change(
    module: str,
    arguments: str,
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One line that names the setting and the way out, and an exit code for scripts."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "broken_handlers.py").write_text("1 / 0")
    (tmp_path / "diary").write_text("dear diary\n" * 100)
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        places = {
            "busy": f"127.0.0.1:{other.getsockname()[1]}",
            "diary": tmp_path / "diary",
            "absent": tmp_path / "absent",
        }
        command = arguments.format_map(places).split()
        with Program(tmp_path / "log", module, *command) as program:
            assert program.wait(SOON) == code
            assert said in complaint(program)


@dataclass(frozen=True)
class Running:
    """A whole pipeline at work, with a password at the queue and a token at the cluster."""

    folder: Path
    session: Session
    churn: Churn
    redis: RedisServer
    queue: str
    url: str
    kubeconfig: Path
    operator: Program
    worker: Program
    listener: Program

    @property
    def database(self) -> Path:
        return self.folder / "osmo.db"

    def keeps_working(self) -> None:
        """Fail unless changes of the cluster arrive as ever."""
        self.churn.step(5)
        wait_for_cluster(self.session, self.database, SOON)

    def listen(self, *arguments: str) -> Program:
        """Another listener, that does not start by itself."""
        log = self.folder / f"listener-{free_port()}.log"
        common = ("--connect", self.url, "--kubeconfig", str(self.kubeconfig))
        return Program(log, "osmo_listener", *common, *arguments)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("running")
    kubeconfig = folder / "kubeconfig"
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(appendonly="yes", requirepass=PASSWORD))
        queue = redis.url.replace("//", f"//:{PASSWORD}@")
        start = stack.enter_context
        cluster = ("--listen=127.0.0.1:0", "--workflows=0", "--token", TOKEN)
        out = ("--kubeconfig-out", str(kubeconfig))
        simulator = start(Program(folder / "simulator.log", "osmo_simulator", *cluster, *out))
        parts = urlsplit(simulator.url())
        connection = HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        stack.enter_context(closing(connection))
        session = Session(connection, TOKEN)
        churn = Churn(session, seed=5)
        churn.create(20)
        debug = ("--log-level", "DEBUG")
        shared = ("--queue", queue, *debug, *IMPATIENT, "--limits-retry-base=0.02")
        url = f"ws://127.0.0.1:{free_port()}"
        log = folder / "operator.log"
        operator = start(Program(log, "osmo_operator", "--listen", url, *shared))
        store = ("--store", f"sqlite:///{folder}/osmo.db", "--store-limits-busy-timeout=0.2")
        worker = start(Program(folder / "worker.log", "osmo_worker", *shared, *store))
        follow = ("--backend", BACKEND, "--connect", url, "--kubeconfig", str(kubeconfig))
        listener = start(Program(folder / "listener.log", "osmo_listener", *follow, *debug))
        running = Running(
            folder=folder,
            session=session,
            churn=churn,
            redis=redis,
            queue=queue,
            url=url,
            kubeconfig=kubeconfig,
            operator=operator,
            worker=worker,
            listener=listener,
        )
        running.keeps_working()
        yield running
        for program in (listener, worker, operator):
            assert program.stop() == 0


def test_a_token_that_the_cluster_refuses_is_told(running: Running, tmp_path: Path) -> None:
    """The listener ends and says what to renew; the token itself stays out of the log."""
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(running.kubeconfig.read_text().replace(TOKEN, "another-token"))
    with running.listen("--backend=other", "--kubeconfig", str(kubeconfig)) as listener:
        assert listener.wait(SOON) == 1
        assert "does not accept the credentials" in complaint(listener)
        assert "another-token" not in listener.log()


def test_a_namespace_that_is_absent_is_told(running: Running) -> None:
    """The listener ends and names it: an empty cluster would look the same for ever."""
    with running.listen("--backend=other", "--namespace=nowhere") as listener:
        assert listener.wait(SOON) == 1
        assert "no namespace 'nowhere'" in complaint(listener)


def test_a_backend_without_a_name_is_told(running: Running) -> None:
    """And the listener ends."""
    with running.listen("--backend", "") as listener:
        assert listener.wait(SOON) == 2
        assert "--backend: '' is not allowed" in listener.log()


def test_of_two_listeners_that_take_over_the_older_one_ends(running: Running) -> None:
    """It says why and by whom, and the newer one's reports count."""
    options = ("--backend=twice", "--client-takes-over")
    with running.listen(*options) as older:
        wait_until(lambda: "connected to" in older.log(), SOON)
        with running.listen(*options) as newer:
            assert older.wait(SOON) == 1
            told = complaint(older)
            assert "a newer client of this backend" in told
            instance = re.search(r"([0-9a-f]{32}) at 127\.0\.0\.1:", told)
            assert instance is not None
            wait_until(lambda: f" as {instance[1]}, epoch" in newer.log(), SOON)
            assert newer.stop() == 0


def websocket_frame(payload: bytes, opcode: int = 2) -> bytes:
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + b"\0\0\0\0" + payload


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (websocket_frame(b"\xc1 is no MessagePack"), 1007),
        (websocket_frame(b"", opcode=15), 1002),
        (b"\x82\xff" + (1 << 40).to_bytes(8) + b"\0\0\0\0", 1009),
    ],
)
def test_a_malformed_frame_ends_its_connection_with_a_code(
    running: Running, sent: bytes, code: int
) -> None:
    """The others are unharmed."""
    handshake = (
        "GET / HTTP/1.1\r\nHost: operator\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    parts = urlsplit(running.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=SOON) as stranger:
        stranger.sendall(handshake.encode())
        assert b" 101 " in stranger.recv(4096)
        stranger.sendall(sent)
        answer = b"".join(iter(lambda: stranger.recv(4096), b""))
    assert code.to_bytes(2) in answer, answer
    running.keeps_working()


@pytest.mark.parametrize("scheme", ["ws", "grpc"])
def test_a_listener_is_told_that_its_url_leads_elsewhere(running: Running, scheme: str) -> None:
    """The queue's address in the place of the operator's: it ends at the first try, with who
    answered."""
    log = running.folder / f"lost-{scheme}.log"
    url = f"{scheme}://127.0.0.1:{running.redis.port}"
    options = ("--connect", url, "--kubeconfig", str(running.kubeconfig), "--backend", "lost")
    with Program(log, "osmo_listener", *options) as listener:
        assert listener.wait(SOON) == 1
        assert f"cannot connect to {url}: Redis answers there" in complaint(listener)


def test_what_cannot_be_applied_becomes_a_dead_letter_with_its_reason(running: Running) -> None:
    """A payload in no encoding, an unknown kind, and entries that somebody wrote into the stream
    by hand; a field of a newer version is ignored, and a message over the limit goes nowhere."""
    pod = UpdatePod(
        workflow_uuid="w", task_uuid="t", retry_id=0, status="RUNNING", pod="osmo/p", node="n"
    )
    newer = msgspec.msgpack.decode(encode_body(pod)) | {"of_a_newer_version": [1, 2]}

    async def send(client: Client) -> None:
        version = Version(await client.epoch_after(0), 1)
        # Of different tasks: of two reports about one, the older may be skipped unread.
        for task, kind, payload in (
            ("unreadable", "update_pod", b"\xc1 is no MessagePack"),
            ("t", "of_the_future", b"{}"),
            ("t", "update_pod", msgspec.msgpack.encode(newer)),
        ):
            key = UpdatePod.key("w", task, 0)
            await client.send(new_message(kind, key, payload, version=version))
        with pytest.raises(MessageTooLargeError, match=r"limits\.message_bytes"):
            await client.send(new_message("update_pod", "big", bytes(2**21), version=version))
        await client.flush()

    async def report() -> None:
        async with connect(running.url, backend="strange") as client:
            await send(client)

    asyncio.run(report())
    running.redis.command("XADD", "{osmo}:stream:pods", "*", "written", "by hand")
    wait_until(lambda: read_queue(running.queue)[0].dead == 3, SOON)
    letters = read_queue(running.queue)[1]
    reasons = sorted(letter.reason.split(":")[0] for letter in letters)
    assert reasons == [
        "cannot be read as a message",
        "payload of kind 'update_pod' cannot be decoded",
        "unknown kind 'of_the_future'",
    ]
    with closing(sqlite3.connect(running.database)) as database:
        query = "SELECT status, node FROM tasks WHERE backend = 'strange'"
        assert database.execute(query).fetchall() == [("RUNNING", "n")]
    running.keeps_working()


def test_a_locked_database_is_waited_for(running: Running) -> None:
    """The worker says who is in the way, and applies everything afterwards."""
    dead = read_queue(running.queue)[0].dead
    with closing(sqlite3.connect(running.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        running.churn.step(5)
        wait_until(lambda: "locked (another program holds its lock)" in running.worker.log(), SOON)
        other.execute("ROLLBACK")
    running.keeps_working()
    assert read_queue(running.queue)[0].dead == dead


def test_redis_that_goes_away_is_waited_for(running: Running) -> None:
    """The operator acknowledges nothing, nobody ends, and everything arrives afterwards."""
    running.redis.kill()
    running.churn.step(5)
    wait_until(lambda: "nothing is acknowledged; tries again" in running.operator.log(), SOON)
    running.redis.restart()
    running.keeps_working()


def test_an_operator_without_redis_is_not_ready(tmp_path: Path) -> None:
    """It opens no port before the queue has answered, and then it does by itself."""
    with RedisServer() as redis:
        redis.kill()
        port = free_port()
        options = ("--listen", f"ws://127.0.0.1:{port}", "--queue", redis.url)
        with Program(tmp_path / "log", "osmo_operator", *options) as operator:
            wait_until(lambda: "not ready" in operator.log(), SOON)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))
            redis.restart()
            assert operator.url() == f"ws://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ("allkeys-lru", "set maxmemory-policy noeviction"),
        ("noeviction", "refuses the user or pass"),
    ],
)
def test_a_redis_that_is_not_fit_is_refused(policy: str, said: str, tmp_path: Path) -> None:
    """One that may evict what was acknowledged, and one that does not know the password."""
    with RedisServer(maxmemory_policy=policy) as redis:
        url = redis.url.replace("//", f"//:{PASSWORD}@") if policy == "noeviction" else redis.url
        options = ("--listen=ws://127.0.0.1:0", "--queue", url, "--log-level=INFO")
        with Program(tmp_path / "log", "osmo_operator", *options) as operator:
            assert operator.wait(SOON) == 1
            assert said in complaint(operator)


def test_a_handler_that_raises_or_hangs_delays_its_own_reports_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are tried again with a growing delay, and become dead letters with the reason."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "handlers.py").write_text(HANDLERS)

    async def report(url: str) -> None:
        async with connect(url, backend=BACKEND) as client:
            version = Version(await client.epoch_after(0), 1)
            for key in ("raises", "hangs", "works"):
                await client.send(new_message("update_pod", key, b"", version=version))
            await client.flush()

    with RedisServer() as redis, ExitStack() as stack:
        options = ("--listen=ws://127.0.0.1:0", "--queue", redis.url)
        operator = stack.enter_context(Program(tmp_path / "o.log", "osmo_operator", *options))
        asyncio.run(report(operator.url()))
        times = ("--handler-timeout=0.3", "--store-limits-call-timeout=0.2")
        tries = ("--limits-retry-base=0.02", "--limits-max-attempts=4", *IMPATIENT)
        handler = ("--handler", "handlers:raises_or_hangs", "--queue", redis.url)
        worker = Program(tmp_path / "w.log", "osmo_worker", *handler, *times, *tries)
        stack.enter_context(worker)
        wait_until(lambda: read_queue(redis.url)[0].dead == 2, SOON)
        status, letters = read_queue(redis.url)
        assert sum(status.waiting.values()) + sum(status.pending.values()) == 0
        assert {(letter.reason, letter.attempt) for letter in letters} == {
            ("raises_or_hangs did not answer within 0.3 s", 4),
            ("raises_or_hangs raised ValueError: cannot do this one", 4),
        }
        assert worker.stop() == 0
        stacks = [line for line in worker.log().splitlines() if '"stack"' in line]
        # The other tries say the same within the same minute.
        (told,) = stacks
        assert "ValueError: cannot do this one" in told


def test_no_secret_is_in_any_log(running: Running) -> None:
    """Not at DEBUG either, and not after faults of every kind."""
    for program in (running.operator, running.worker, running.listener):
        log = program.log()
        assert '"DEBUG"' in log or "settings other than the defaults" in log
        assert PASSWORD not in log
        assert TOKEN not in log
