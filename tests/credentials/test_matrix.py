"""Each kind of credential, over each transport, in each way that it may be wrong: what becomes of
it, with nothing appended and nobody fenced or replaced where it is refused."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from cryptography import x509
from grpc import aio

from osmo_credentials import open_authenticator
from osmo_credentials.kubernetes import AccountAuthenticator, Review
from osmo_credentials.tokens import NamedToken, TokenFile, hash_of, new_token
from osmo_deployed import DeployedConfig, ListenerServiceCompanion
from osmo_protos import listener_service_pb2 as pb
from osmo_transport import (
    Authenticator,
    BackoffConfig,
    Client,
    ClientConfig,
    CredentialRefusedError,
    Server,
    ServerConfig,
    TlsConfig,
    TokenConfig,
    Transport,
    connect,
    listen,
    transport_for,
)
from osmo_transport.testing import make_message
from osmo_transport.transports.websocket.transport import WebSocketTransport
from tests.credentials.issuers import AUDIENCE, ISSUER, Authority, JwtIssuer, Reviewer
from tests.deployed.harness import pod
from tests.helpers import eventually
from tests.transport.engines import ENGINES

ACCOUNT = "system:serviceaccount:osmo:{backend}"
DENIED, EXPIRED, NO_CONNECTION = "denied", "expired", "no connection"

QUICK = BackoffConfig(base=0.01, maximum=0.05)


@dataclass(frozen=True)
class Way:
    """A transport."""

    scheme: str
    engine: str = ""

    @property
    def transport(self) -> Transport:
        if self.engine:
            return WebSocketTransport(ENGINES[self.engine])
        return transport_for(f"{self.scheme}://")

    @property
    def url(self) -> str:
        return "memory://" if self.scheme == "memory" else f"{self.scheme}://127.0.0.1:0"

    @property
    def is_secure(self) -> bool:
        return self.scheme in ("wss", "grpcs")


WAYS = {
    "memory": Way("memory"),
    "ws": Way("ws"),
    **{f"wss {engine}": Way("wss", engine) for engine in ENGINES},
    "grpc": Way("grpc"),
    "grpcs": Way("grpcs"),
}
SECURE = {name: way for name, way in WAYS.items() if way.is_secure}


class Kind(ABC):
    """A kind of tokens: what knows them, and the ways in which one may be wrong."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def authenticator(self) -> Authenticator:
        """What knows them."""

    @abstractmethod
    def right(self, backend: str = "a") -> str:
        """One that is good for the backend."""

    @abstractmethod
    def wrong(self) -> Mapping[str, tuple[str, str]]:
        """By what is wrong, the token and what becomes of it."""


class Tokens(Kind):
    """Named tokens: they have no audience, no issuer and no algorithm to be wrong about."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.tokens = {name: new_token() for name in ("a", "b", "old", "revoked")}
        now = datetime.now(UTC)
        self.file = folder / "tokens.json"
        found = [
            NamedToken("a", hash_of(self.tokens["a"]), ("a",), now),
            NamedToken("b", hash_of(self.tokens["b"]), ("b",), now),
            NamedToken("old", hash_of(self.tokens["old"]), ("a",), now, now - timedelta(1)),
        ]
        self.file.write_bytes(msgspec.json.encode(TokenFile(tuple(found))))

    def authenticator(self) -> Authenticator:
        return open_authenticator((f"token?file={self.file}",))

    def right(self, backend: str = "a") -> str:
        return self.tokens[backend]

    def wrong(self) -> Mapping[str, tuple[str, str]]:
        return {
            "absent": ("", DENIED),
            "malformed": (f"{self.tokens['a']}.x", DENIED),
            "expired": (self.tokens["old"], EXPIRED),
            "other backend": (self.tokens["b"], DENIED),
            "revoked": (self.tokens["revoked"], DENIED),
        }


class Jwts(Kind):
    """JSON Web Tokens: they cannot be revoked but with their key, and they can be replayed."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.issuer = JwtIssuer(folder)
        self.stranger = JwtIssuer(folder, "two")

    def authenticator(self) -> Authenticator:
        entry = f"jwt?issuer={ISSUER}&audience={AUDIENCE}&keys={self.issuer.file}"
        return open_authenticator((entry,))

    def right(self, backend: str = "a") -> str:
        return self.issuer.token(backend)

    def wrong(self) -> Mapping[str, tuple[str, str]]:
        issuer = self.issuer
        return {
            "absent": ("", DENIED),
            "malformed": (issuer.token()[:-40], DENIED),
            "expired": (issuer.token(lasts=-60.0), EXPIRED),
            "other audience": (issuer.token(audience="other"), DENIED),
            "other issuer": (issuer.token(issuer="https://other.example"), DENIED),
            "other key": (issuer.token(key=self.stranger.key), DENIED),
            "other backend": (issuer.token("b"), DENIED),
            "revoked key": (self.stranger.token(), DENIED),
            "confused": (issuer.confused(), DENIED),
            "unsigned": (issuer.unsigned(), DENIED),
        }


class Accounts(Kind):
    """Tokens of service accounts, as an API server would judge them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.issuer = JwtIssuer(folder)
        self.tokens = {
            name: self.issuer.token(name, jti=name)
            for name in ("a", "b", "expired", "revoked", "other audience", "other namespace")
        }
        users = {name: ACCOUNT.format(backend=name) for name in ("a", "b")}
        tokens = self.tokens
        self.reviewer = Reviewer(
            {
                tokens["a"]: Review(users["a"], (AUDIENCE,)),
                tokens["b"]: Review(users["b"], (AUDIENCE,)),
                tokens["other audience"]: Review(users["a"], ("other",)),
                tokens["other namespace"]: Review("system:serviceaccount:default:a", (AUDIENCE,)),
            }
        )

    def authenticator(self) -> Authenticator:
        return AccountAuthenticator(self.reviewer, AUDIENCE, ACCOUNT)

    def right(self, backend: str = "a") -> str:
        return self.tokens[backend]

    def wrong(self) -> Mapping[str, tuple[str, str]]:
        others = ("expired", "revoked", "other audience", "other namespace")
        return {
            "absent": ("", DENIED),
            "malformed": ("a.b.c", DENIED),
            "other issuer": (self.issuer.token(issuer="https://other.example"), DENIED),
            "other backend": (self.tokens["b"], DENIED),
            "confused": (self.issuer.confused(), DENIED),
            **{what: (self.tokens[what], DENIED) for what in others},
        }


KINDS: dict[str, type[Kind]] = {"token": Tokens, "jwt": Jwts, "kubernetes": Accounts}


class World:
    """A server, a client that reports as it should, and those who come besides."""

    def __init__(self, server: Server, way: Way, folder: Path) -> None:
        self.server = server
        self.way = way
        self.folder = folder
        self.appended = 0
        self.trust = TlsConfig()

    async def store(self) -> None:
        while taken := await self.server.receive():
            for incoming in taken:
                self.appended += len(incoming.encoded)
                incoming.acknowledge()

    def presenting(self, token: str, name: str) -> ClientConfig:
        file = None
        if token:
            file = self.folder / f"token-{name.replace(' ', '-')}"
            file.write_text(token)
        return ClientConfig(
            backoff=QUICK,
            drain_timeout=0.0,
            takes_over=True,
            tls=self.trust,
            token=TokenConfig(file=file),
        )

    @asynccontextmanager
    async def client(self, config: ClientConfig, backend: str = "a") -> AsyncIterator[Client]:
        async with connect(
            self.server.url, backend=backend, config=config, transport=self.way.transport
        ) as client:
            yield client

    async def outcome(self, config: ClientConfig) -> str:
        """What becomes of somebody who would report as the one who does."""
        expired = self.server.stats.refused["expired"]
        async with self.client(config) as client:
            await client.send(make_message("stolen"))
            uplink = client._uplink
            await eventually(lambda: uplink.failure or uplink._reasons or client.stats.acknowledged)
            if client.stats.acknowledged:
                return "let in"
            if isinstance(uplink.failure, CredentialRefusedError):
                return DENIED
            return EXPIRED if self.server.stats.refused["expired"] > expired else NO_CONNECTION


@asynccontextmanager
async def world(
    way: Way, folder: Path, authenticator: Authenticator, tls: TlsConfig, trust: TlsConfig
) -> AsyncIterator[World]:
    config = ServerConfig(tls=tls if way.is_secure else TlsConfig())
    companions = (ListenerServiceCompanion(DeployedConfig()),)
    async with (
        authenticator,
        listen(
            way.url,
            config=config,
            authenticator=authenticator,
            companions=companions,
            transport=way.transport,
        ) as server,
        AsyncExitStack() as stack,
    ):
        found = World(server, way, folder)
        found.trust = trust if way.is_secure else TlsConfig()
        storing = asyncio.create_task(found.store())
        stack.callback(storing.cancel)
        yield found


@asynccontextmanager
async def unharmed(world: World, config: ClientConfig) -> AsyncIterator[None]:
    """Somebody who may report does so, and is not disturbed by what happens meanwhile."""
    async with world.client(config) as honest:
        epoch = await honest.epoch_after(0)
        yield
        assert world.appended == 0
        assert world.server.stats.fenced == 0
        await honest.send(make_message("mine"))
        await honest.flush()
        assert (honest.epoch, honest.stats.connects, world.appended) == (epoch, 1, 1)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
async def test_tokens(kind: type[Kind], way: Way, tmp_path: Path) -> None:
    """Each way of being wrong of each kind."""
    tokens = kind(tmp_path)
    authority = Authority(tmp_path, "ca")
    localhost = x509.DNSName("localhost"), x509.IPAddress(ip("127.0.0.1"))
    cert, key = authority.signed("server", *localhost)
    server = TlsConfig(cert_file=cert, key_file=key)
    trust = TlsConfig(ca_file=authority.file)
    async with world(way, tmp_path, tokens.authenticator(), server, trust) as found:
        async with unharmed(found, found.presenting(tokens.right(), "right")):
            outcomes = {
                what: await found.outcome(found.presenting(token, what))
                for what, (token, _) in tokens.wrong().items()
            }
        assert outcomes == {what: outcome for what, (_, outcome) in tokens.wrong().items()}


def ip(text: str) -> Any:
    from ipaddress import ip_address

    return ip_address(text)


@pytest.mark.parametrize("way", SECURE.values(), ids=SECURE)
async def test_certificates(way: Way, tmp_path: Path) -> None:
    """They cannot be replayed, and one that TLS itself refuses makes no connection."""
    authority, stranger = Authority(tmp_path, "ca"), Authority(tmp_path, "stranger")
    localhost = x509.DNSName("localhost"), x509.IPAddress(ip("127.0.0.1"))
    cert, key = authority.signed("server", *localhost)
    server = TlsConfig(ca_file=authority.file, cert_file=cert, key_file=key)
    trust = TlsConfig(ca_file=authority.file)
    old = timedelta(seconds=-1)
    wrong: dict[str, tuple[tuple[Path, Path] | None, str]] = {
        "absent": (None, NO_CONNECTION),
        "other authority": (stranger.signed("a"), NO_CONNECTION),
        "expired": (authority.signed("a", lasts=old), NO_CONNECTION),
        "other backend": (authority.signed("b"), DENIED),
        "no backend": (authority.signed("no name at all!"), DENIED),
    }

    def presenting(files: tuple[Path, Path] | None) -> ClientConfig:
        tls = trust if files is None else replace(trust, cert_file=files[0], key_file=files[1])
        return ClientConfig(backoff=QUICK, drain_timeout=0.0, takes_over=True, tls=tls)

    async with world(way, tmp_path, open_authenticator(("mtls",)), server, trust) as found:
        async with unharmed(found, presenting(authority.signed("a"))):
            outcomes = {
                what: await found.outcome(presenting(files)) for what, (files, _) in wrong.items()
            }
        assert outcomes == {what: outcome for what, (_, outcome) in wrong.items()}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
async def test_deployed_listeners(kind: type[Kind], tmp_path: Path) -> None:
    """The service of the deployed systems lets in nobody else, in any of its calls."""
    tokens = kind(tmp_path)
    way = Way("grpc")
    async with (
        world(way, tmp_path, tokens.authenticator(), TlsConfig(), TlsConfig()) as found,
        aio.insecure_channel(found.server.url.removeprefix("grpc://")) as channel,
    ):
        method = channel.unary_unary(
            "/operator.ListenerService/SendListenerMessage",
            request_serializer=pb.ListenerMessage.SerializeToString,
            response_deserializer=pb.AckMessage.FromString,
        )
        init = channel.unary_unary(
            "/operator.ListenerService/InitBackend",
            request_serializer=pb.InitBackendRequest.SerializeToString,
            response_deserializer=pb.InitBackendResponse.FromString,
        )

        def carried(token: str) -> tuple[tuple[str, str], ...]:
            named = (("backend-name", "a"),)
            return (*named, ("authorization", f"Bearer {token}")) if token else named

        for what, (token, outcome) in tokens.wrong().items():
            with pytest.raises(grpc.RpcError) as caught:
                await method(pod("one"), metadata=carried(token), timeout=10)
            code = caught.value.code()
            expected = {
                DENIED: grpc.StatusCode.PERMISSION_DENIED,
                EXPIRED: grpc.StatusCode.UNAUTHENTICATED,
            }
            assert code is expected[outcome], what
            body = pb.InitBody(name="a", k8s_uid="uid", k8s_namespace="osmo")
            answer = await init(
                pb.InitBackendRequest(init_body=body), metadata=carried(token), timeout=10
            )
            assert not answer.success, what
        assert found.appended == 0
        answer = await method(pod("one"), metadata=carried(tokens.right()), timeout=10)
        assert answer.ack_uuid
        await eventually(lambda: found.appended == 1)


async def test_a_replayed_token_is_good_until_it_ends(tmp_path: Path) -> None:
    """Whoever holds a bearer token is its bearer: that is why it ends, and travels over TLS."""
    tokens = Jwts(tmp_path)
    async with world(
        Way("memory"), tmp_path, tokens.authenticator(), TlsConfig(), TlsConfig()
    ) as found:
        config = found.presenting(tokens.right(), "right")
        for _ in range(2):
            assert await found.outcome(config) == "let in"
