"""Where a queue in Redis is: its URL, with credentials and TLS, and who is asked for the server."""

import asyncio
import logging
import ssl
import subprocess
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis.asyncio import Sentinel
from redis.asyncio.connection import AbstractConnection, SSLConnection

from osmo_runtime.masking import mask_text
from osmo_transport.errors import QueueError, QueueRefusedError, QueueUnavailableError, UsageError
from osmo_transport.queues.abc import QueueConfig
from osmo_transport.queues.delivery import Ack
from osmo_transport.queues.redis.address import Address
from osmo_transport.queues.redis.queue import RedisQueue, open_queue
from osmo_transport.testing.contracts.queue_suite import drain, figures
from osmo_transport.testing.feeder import Feeder, report
from osmo_transport.testing.ports import free_port
from osmo_transport.testing.redis_server import RedisServer, redis_programs
from tests.documents import rights
from tests.queues.harness import cluster_of_one, current
from tests.queues.way import way_to
from tests.transport.certificates import authority

CONFIG = QueueConfig(claim_interval=0.02, retry_base=0.02, max_attempts=3)


@pytest.mark.parametrize(
    ("url", "name", "queue", "asked"),
    [
        ("redis://h", "redis://h:6379/0", ("osmo", "own"), {"username": None, "password": None}),
        ("valkey://", "valkey://localhost:6379/0", ("osmo", "own"), {"db": 0}),
        (
            "redis://u:s%40same@h:1/2",
            "redis://h:1/2",
            ("osmo", "own"),
            {"host": "h", "port": 1, "db": 2, "username": "u", "password": "s@same"},
        ),
        ("redis://:sesame@h", "redis://h:6379/0", ("osmo", "own"), {"password": "sesame"}),
        ("rediss://h?namespace=a", "rediss://h:6379/0", ("a", "own"), {"port": 6379}),
        (
            "valkeys://h/1?layout=osmo&ssl_cert_reqs=none&namespace=a",
            "valkeys://h:6379/1",
            ("a", "osmo"),
            {"db": 1},
        ),
    ],
)
async def test_reads_its_url(
    url: str, name: str, queue: tuple[str, str], asked: dict[str, object]
) -> None:
    """Host, port, database, credentials and options; what is printed has no password."""
    address = Address.of(url)
    assert (str(address), (address.namespace, address.layout)) == (name, queue)
    connection = await address.connection()
    found = {"host": connection.host, "port": connection.port, **address._options}
    assert {name: found[name] for name in asked} == asked
    assert isinstance(connection, SSLConnection) is name.startswith(("rediss", "valkeys"))
    if isinstance(connection, SSLConnection):
        assert (connection.cert_reqs is ssl.CERT_NONE) is ("=none" in url)
    assert "same" not in f"{address!r} {address}"


async def test_reads_several_hosts() -> None:
    """Which are Sentinels or some of a cluster, or one too many."""
    address = Address.of("redis://:sesame@h,i:7/?sentinel=main")
    assert str(address) == "redis://h:6379,i:7/0"
    with pytest.raises(UsageError, match=r"sentinel=NAME, or cluster=true"):
        Address.of("redis://h,i")
    with pytest.raises(UsageError, match="choose one"):
        Address.of("redis://h,i?sentinel=main&cluster=true")
    with pytest.raises(UsageError, match="cluster in the queue's URL is 'maybe'"):
        Address.of("redis://h,i?cluster=maybe")


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:sesame@h:port",
        "redis://u:sesame@h/db",
        "redis://u:sesame@h/-1",
        "redis://u:sesame@h?x=1",
        "redis://u:sesame@h#x",
        "redis://u:sesame@h?ssl_ca_certs=/ca.pem",
        "rediss://u:sesame@h?ssl_ca_certs=/nowhere/ca.pem",
        "redis://h?x",
        "other://u:sesame@h",
    ],
)
async def test_refuses_a_wrong_url(url: str) -> None:
    """A URL that cannot be read is refused without being shown."""
    with pytest.raises(UsageError) as caught:
        await open_queue(url, current(CONFIG))
    assert "sesame" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("namespace", ["a{b", "a b", "ä"])
async def test_refuses_a_wrong_namespace(namespace: str) -> None:
    """A namespace that could not stand in a hash tag is refused."""
    with pytest.raises(UsageError, match="namespace"):
        await open_queue(f"redis://h?namespace={namespace}", current(CONFIG))


async def test_keeps_its_password(caplog: pytest.LogCaptureFixture) -> None:
    """The right password opens; a wrong one is refused; neither is ever shown."""
    caplog.set_level(logging.DEBUG)
    shown = []
    with RedisServer(requirepass="sesame") as server:
        for password in ("wrongword", ""):
            with pytest.raises(QueueRefusedError, match="password") as caught:
                await open_queue(server.url.replace("//", f"//:{password}@"), current(CONFIG))
            shown += traceback.format_exception(caught.value)
        async with await open_queue(
            server.url.replace("//", "//:sesame@"), current(CONFIG)
        ) as queue:
            await Feeder(queue).append(report("a"))
            assert await figures(queue) == (1, 0, 0)
            shown += [repr(queue), repr(queue._address)]
            server.kill()
            with pytest.raises(QueueError) as gone:
                await queue.status()
            shown += traceback.format_exception(gone.value)
    everything = caplog.text + "".join(shown)
    assert "sesame" not in everything
    assert "wrongword" not in everything


async def test_needs_few_permissions() -> None:
    """A user who may not read the configuration will do; one who may not write is told."""
    with RedisServer() as server:
        server.command("ACL", "SETUSER", "plain", "on", ">pw", "~*", "+@all", "-config")
        server.command("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+info", "+get")
        async with await open_queue(
            server.url.replace("//", "//plain:pw@"), current(CONFIG)
        ) as queue:
            await Feeder(queue).append(report("a"))
        with pytest.raises(QueueRefusedError, match="user"):
            await open_queue(server.url.replace("//", "//reader:pw@"), current(CONFIG))


async def test_reads_its_certificates_for_each_connection(tmp_path: Path) -> None:
    """So that new ones need no restart; those that are open keep theirs."""
    path = tmp_path / "ca.pem"
    authorities = []
    for name in ("one", "other"):
        folder = tmp_path / name
        folder.mkdir()
        authorities.append(authority(folder).ca_file.read_text())
    path.write_text(authorities[0])
    address = Address.of(f"rediss://h?ssl_ca_certs={path}")
    for text in authorities:
        path.write_text(text)
        connection = await address.connection()
        assert isinstance(connection, SSLConnection)
        found = connection.ssl_context.get().get_ca_certs(binary_form=True)
        trusted = [ssl.PEM_cert_to_DER_cert(each) in found for each in authorities]
        assert trusted == [each == text for each in authorities]


async def test_speaks_tls(redis_server: RedisServer, tmp_path: Path) -> None:
    """`rediss://` trusts the CA it is given, and no other; a server that it does not trust is not
    one that is away, which would be tried for ever."""
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    try:
        make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"]
        make += ["ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj", "/CN=redis"]
        make += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
        subprocess.run(make, check=True, capture_output=True)  # noqa: ASYNC221
    except FileNotFoundError:
        pytest.skip("no openssl to make a certificate with")
    redis_server.flush()
    # Few builds of a server speak TLS themselves.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    async with way_to(redis_server, context) as way:
        url = way.url
        with pytest.raises(QueueRefusedError, match="certificate is not trusted"):
            await open_queue(url, current(CONFIG))
        url += f"?ssl_ca_certs={certificate}"
        with pytest.raises(QueueRefusedError, match="connect to a host that it names"):
            await open_queue(url.replace("127.0.0.1", "localhost"), current(CONFIG))
        async with await open_queue(url, current(CONFIG)) as queue:
            await Feeder(queue).append(report("a"))
            assert await figures(queue) == (1, 0, 0)


# Who is asked for the server


async def once_there(opening: Callable[[], Awaitable[RedisQueue]]) -> RedisQueue:
    """What is opened, once whoever is asked has started and knows what he is asked for."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await opening()
            except QueueUnavailableError:
                await asyncio.sleep(0.01)


async def test_asks_a_cluster_for_the_node() -> None:
    """Any of its nodes that answers; everything works against the one that has the queue's slot."""
    with await cluster_of_one() as server:
        user = rights.allow(server, "own")["reader"]
        with pytest.raises(
            QueueRefusedError, match=r"run CLUSTER SLOTS: allow it \+cluster\|slots"
        ):
            await open_queue(f"{user}&cluster=true", current(CONFIG))
        server.command("ACL", "SETUSER", "osmo-reader", *rights.IN_A_CLUSTER)
        async with await open_queue(f"{user}&cluster=true", current(CONFIG)) as queue:
            await queue.status()
        assert not rights.denied(server) - {"cluster|slots", "set"}
        url = f"redis://127.0.0.1:1,127.0.0.1:{server.port}?cluster=true"
        async with (
            await open_queue(url, current(CONFIG)) as queue,
            queue.consumer("workers", "w1") as consumer,
        ):
            await Feeder(queue).append(report("a"))
            (delivery,) = await drain(consumer, 1)
            await consumer.settle([(delivery, Ack())])
            assert await figures(queue) == (0, 0, 0)


@contextmanager
def watching(server: RedisServer, folder: Path) -> Iterator[int]:
    """The port of a Sentinel that knows the server as `main`."""
    port = free_port()
    (folder / "sentinel.conf").write_text(
        f"bind 127.0.0.1\nport {port}\nsentinel monitor main 127.0.0.1 {server.port} 1\n"
        "sentinel auth-pass main sesame\n"
    )
    program = next(iter(redis_programs().values()))
    process = subprocess.Popen(
        [program, folder / "sentinel.conf", "--sentinel"], stdout=subprocess.DEVNULL
    )
    try:
        yield port
    finally:
        process.kill()
        process.wait()


async def test_asks_sentinels_for_the_master(tmp_path: Path) -> None:
    """Any that answers and knows it by the name; the credentials are for the master alone, and
    nothing is shown of them."""
    with RedisServer(requirepass="sesame") as server, watching(server, tmp_path) as port:
        url = f"redis://:sesame@127.0.0.1:1,127.0.0.1:{port}/3?sentinel="
        queue = await once_there(lambda: open_queue(f"{url}main", current(CONFIG)))
        async with queue:
            await Feeder(queue).append(report("a"))
            assert await figures(queue) == (1, 0, 0)
        with pytest.raises(QueueUnavailableError, match="other") as caught:
            await open_queue(f"{url}other", current(CONFIG))
        assert "sesame" not in "".join(traceback.format_exception(caught.value))


async def test_no_one_knows_the_server() -> None:
    """Then the queue is unavailable, as if the server were away."""
    for option in ("sentinel=main", "cluster=true"):
        with pytest.raises(QueueUnavailableError, match=r"redis://127\.0\.0\.1:1,"):
            await open_queue(f"redis://127.0.0.1:1,127.0.0.1:2?{option}", current(CONFIG))


@pytest.mark.parametrize(
    ("url", "part"),
    [
        (f"redis://{'a' * 70}:6379", "address"),
        ("redis://h:0", "address"),
        ("redis://h:99999", "address"),
        ("redis://h/path", "database"),
        ("redis://h/1/2", "database"),
        ("redis://h?x", "query"),
        ("redis://h#part", "more than it may"),
        ("redis://h/-1", "below 0"),
    ],
)
def test_the_part_that_is_wrong_is_named(url: str, part: str) -> None:
    """With the form that it should have, which no masking of passwords makes unreadable."""
    with pytest.raises(UsageError, match=part) as caught:
        Address.of(url)
    assert mask_text(str(caught.value)) == str(caught.value)


async def test_sentinels_are_asked_as_the_server_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over TLS where the scheme says so, with the URL's options."""
    asked: list[type[AbstractConnection]] = []
    checked: list[object] = []

    async def discover(self: Sentinel, name: str) -> tuple[str, int]:
        pool = self.sentinels[0].connection_pool
        asked.append(pool.connection_class)
        checked.append(pool.connection_kwargs.get("ssl_check_hostname"))
        return name, 1

    monkeypatch.setattr(Sentinel, "discover_master", discover)
    for url in ("rediss://h?sentinel=m&ssl_check_hostname=false", "redis://h?sentinel=m"):
        await Address.of(url).connection()
    assert [issubclass(kind, SSLConnection) for kind in asked] == [True, False]
    assert checked == [False, None]
