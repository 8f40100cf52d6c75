"""What it costs an operator to know who reports: listeners that all connect at once, and messages.

python -m osmo_benchmarks.parts.authentication [--rounds N] [--listeners N] [--messages N]

The operator is a process with its Redis, the listeners are clients in this one. Each kind of
credential is measured in turns beside `none`, over ws, and `mtls` beside TLS alone. The storm is
from the moment that all connect until the last one is let in; a message is sent by one of them,
as many as its window holds at a time. Afterwards nobody reports for some seconds: what is then
used is for heartbeats, and for looking at credentials again. `kubernetes` needs a real API server,
in the folder that KUBEBUILDER_ASSETS names.
"""

import argparse
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import jwt
import msgspec
import uvloop
from cryptography.hazmat.primitives.asymmetric import rsa

from osmo_benchmarks.parts.certificates import Authority
from osmo_benchmarks.parts.common import Stopwatch, cpu_seconds, program, read_url, spread
from osmo_benchmarks.programs.client import report
from osmo_credentials.tokens import NamedToken, TokenFile, hash_of, new_token
from osmo_simulator import api_server
from osmo_transport import Client, ClientConfig, TlsConfig, TokenConfig, connect
from osmo_transport.testing.redis_server import RedisServer

AUDIENCE, ISSUER = "osmo", "https://id.example"


@dataclass
class Kind:
    """A way to be known."""

    name: str
    arguments: tuple[str, ...] = ()
    """What the operator is told beside its addresses."""
    scheme: str = "ws"
    clients: list[ClientConfig] = field(default_factory=list)
    """Of each listener."""
    storms: list[float] = field(default_factory=list)
    admissions: list[float] = field(default_factory=list)
    """CPU seconds of the operator for each listener."""
    messages: list[float] = field(default_factory=list)
    """CPU seconds of the operator for each message."""
    idle: list[float] = field(default_factory=list)
    """CPU seconds of the operator in each second, while nobody reports."""


def tokens(folder: Path, count: int) -> Kind:
    """A file of named tokens."""
    made = [new_token() for _ in range(count)]
    now = datetime.now(UTC)
    named = tuple(
        NamedToken(f"t{number}", hash_of(token), (backend(number),), now)
        for number, token in enumerate(made)
    )
    file = folder / "tokens.json"
    file.write_bytes(msgspec.json.encode(TokenFile(named)))
    return Kind("token", ("--auth", f"token?file={file}"), clients=presented(folder, "token", made))


def jwts(folder: Path, count: int) -> Kind:
    """Tokens of one issuer, signed with RS256."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    file = folder / "keys.json"
    file.write_text(json.dumps({"keys": [{**public, "kid": "one"}]}))
    claims = {"aud": AUDIENCE, "iss": ISSUER, "exp": time.time() + 3600.0}
    made = [
        jwt.encode({**claims, "sub": backend(number)}, key, "RS256", {"kid": "one"})
        for number in range(count)
    ]
    entry = f"jwt?issuer={ISSUER}&audience={AUDIENCE}&keys={file}"
    return Kind("jwt", ("--auth", entry), clients=presented(folder, "jwt", made))


def accounts(folder: Path, count: int, cluster: api_server.RealCluster) -> Kind:
    """A service account of each listener, and a token that is bound to an audience."""
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(cluster.kubeconfig())
    path = "/api/v1/namespaces/default/serviceaccounts"
    spec = {"audiences": [AUDIENCE], "expirationSeconds": 3600}
    made = []
    with cluster.session() as session:
        for name in map(backend, range(count)):
            session.request("POST", path, {"metadata": {"name": name}})
            token = session.request("POST", f"{path}/{name}/token", {"spec": spec})
            made.append(token["status"]["token"])
    pattern = "system:serviceaccount:default:{backend}"
    entry = f"kubernetes?audience={AUDIENCE}&kubeconfig={kubeconfig}&pattern={pattern}"
    return Kind("kubernetes", ("--auth", entry), clients=presented(folder, "account", made))


def presented(folder: Path, name: str, made: Sequence[str]) -> list[ClientConfig]:
    """Clients that have a file of their own each."""
    found = []
    for number, token in enumerate(made):
        file = folder / f"{name}-{number}"
        file.write_text(token)
        found.append(ClientConfig(token=TokenConfig(file=file)))
    return found


def certificates(folder: Path, count: int) -> tuple[Kind, Kind]:
    """TLS alone, and with a certificate of each listener."""
    authority = Authority(folder)
    server = authority.write("server")
    secure = (
        *("--server-tls-cert-file", str(server.cert_file)),
        *("--server-tls-key-file", str(server.key_file)),
    )
    asks = (*secure, "--server-tls-ca-file", str(authority.file), "--auth", "mtls")
    alone = [ClientConfig(tls=TlsConfig(ca_file=authority.file)) for _ in range(count)]
    known = [ClientConfig(tls=authority.write(backend(number))) for number in range(count)]
    return Kind("none, TLS", secure, "wss", alone), Kind("mtls", asks, "wss", known)


def backend(number: int) -> str:
    """The name of a listener's backend."""
    return f"backend-{number}"


@asynccontextmanager
async def connected(url: str, clients: Sequence[ClientConfig]) -> AsyncIterator[list[Client]]:
    """All of them at once, when the last one is let in."""
    async with AsyncExitStack() as open_ones:
        made = [
            await open_ones.enter_async_context(
                connect(url, backend=backend(number), config=config)
            )
            for number, config in enumerate(clients)
        ]
        async with anyio.create_task_group() as waiting:
            for client in made:
                waiting.start_soon(client.epoch_after, 0)
        yield made


async def round_of(kind: Kind, redis: RedisServer, messages: int, idle: float) -> None:
    """One storm, the messages of one listener after it, and then nothing for `idle` seconds."""
    redis.flush()
    operator = program(
        "osmo_operator",
        *("--listen", f"{kind.scheme}://127.0.0.1:0", "--queue", redis.url, "--layout", "own"),
        *kind.arguments,
    )
    with operator as process:
        url = read_url(process)
        # What is imported for the first one only is not what a storm costs.
        async with connected(url, kind.clients[:1]):
            pass
        cpu, watch = cpu_seconds(process.pid), Stopwatch()
        async with connected(url, kind.clients) as clients:
            kind.storms.append(watch.seconds())
            used = cpu_seconds(process.pid) - cpu
            kind.admissions.append(used / len(clients))
            reports = [report(number) for number in range(messages)]
            cpu = cpu_seconds(process.pid)
            for each in reports:
                await clients[0].send(each)
            await clients[0].flush()
            kind.messages.append((cpu_seconds(process.pid) - cpu) / messages)
            cpu, watch = cpu_seconds(process.pid), Stopwatch()
            await anyio.sleep(idle)
            kind.idle.append((cpu_seconds(process.pid) - cpu) / watch.seconds())


async def measure(rounds: int, listeners: int, messages: int, idle: float) -> None:
    """`rounds` rounds of each kind."""
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        folder = Path(stack.enter_context(TemporaryDirectory()))
        kinds = [
            Kind("none", clients=[ClientConfig() for _ in range(listeners)]),
            tokens(folder, listeners),
            jwts(folder, listeners),
            *certificates(folder, listeners),
        ]
        if api_server.assets() is not None:
            kinds.append(accounts(folder, listeners, stack.enter_context(api_server.start())))
        for _ in range(rounds):
            for kind in kinds:
                await round_of(kind, redis, messages, idle)
    for kind in kinds:
        print(
            f"{kind.name:10} {listeners} listeners in {spread(kind.storms, 1e3)} ms, operator"
            f" {spread(kind.admissions, 1e6)} µs of CPU each;"
            f" a message {spread(kind.messages, 1e9)} ns;"
            f" idle {spread(kind.idle, 1e3)} ms a second"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--listeners", type=int, default=1000)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--idle", type=float, default=11.0)
    options = parser.parse_args()
    uvloop.run(measure(options.rounds, options.listeners, options.messages, options.idle))
