"""One run: hostile peers at one side of a transport, those that should not mind at the other."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from unittest import mock

from osmo_transport import (
    Client,
    ClientConfig,
    ClosedError,
    CredentialRefusedError,
    FencedError,
    Limits,
    Push,
    Queue,
    TransportError,
    UnsendableError,
    UsageError,
    connect,
    open_queue,
)
from osmo_transport._hub import Hub
from osmo_transport.session import client as client_session
from osmo_transport.testing import make_message
from osmo_transport.testing.kinds import EVENT, STATE
from tests.helpers import eventually
from tests.transport.fuzz.clients import attack
from tests.transport.fuzz.figures import DefectWatch, Figures, watched
from tests.transport.fuzz.operator import (
    CLIENT,
    CLIENT_LIMIT,
    CLIENTS,
    LIMITS,
    SERVER_LIMIT,
    operating,
    transport_of,
    url_of,
)
from tests.transport.fuzz.servers import DistantServer, HostileServer, hostile_server
from tests.transport.fuzz.wires import Damage

ANSWER = 10.0
"""Seconds after which what should be acknowledged counts as stuck."""


# The server's side


class Innocent:
    """A client that keeps to the protocol, and reports all the time."""

    def __init__(self, client: Client, figures: Figures) -> None:
        self._client = client
        self._figures = figures
        self._enough = False
        self.sent = 0
        self._running = asyncio.create_task(self._report())

    async def _report(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._enough:
            began = loop.time()
            for _ in range(10):
                self.sent += 1
                await self._client.send(make_message(f"key-{self.sent}", kind=EVENT), more=True)
            async with asyncio.timeout(ANSWER):
                await self._client.flush()
            self._figures.slowest = max(self._figures.slowest, loop.time() - began)
            await asyncio.sleep(0.005)

    async def aclose(self) -> None:
        """Everything has to be acknowledged, over one connection."""
        self._enough = True
        try:
            await self._running
        except (TimeoutError, TransportError) as exc:
            self._figures.stuck += 1
            self._figures.note(f"the innocent client: {exc!r}")
        stats = self._client.stats
        self._figures.acknowledged = stats.acknowledged
        self._figures.refused = stats.refused
        if (stats.connects, stats.refused, stats.acknowledged) != (1, 0, self.sent):
            self._figures.stuck += 1
            self._figures.note(f"the innocent client: {stats}")


Attacker = Callable[[str, int, int, Limits], Awaitable[Damage]]


async def attack_from_outside(url: str, frames: int, seed: int, limits: Limits) -> Damage:
    """From another process, so that this one's memory is the server's alone."""
    assert limits == LIMITS
    program = [sys.executable, "-m", "tests.transport.fuzz", "--attack", url]
    arguments = ["--frames", str(frames), "--seed", str(seed)]
    process = await asyncio.create_subprocess_exec(
        *program, *arguments, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    return Damage(**json.loads(said))


async def fuzz_server(scheme: str, frames: int, seed: int, attacker: Attacker = attack) -> Figures:
    """Hostile clients to a server that an innocent client reports to."""
    figures = Figures(scheme, "server", seed, SERVER_LIMIT)
    transport = transport_of(scheme)
    queue = await open_queue("memory://")
    async with queue, operating(queue, url_of(scheme), transport, figures) as operator:
        url = operator.server.url
        quiet = ClientConfig(drain_timeout=0.0)
        async with connect(url, backend="innocent", config=quiet, transport=transport) as client:
            await client.epoch_after(0)
            await attacker(url, frames // 20, seed + 10**6, LIMITS)  # what is made once
            async with watched(figures):
                innocent = Innocent(client, figures)
                figures.damage = await attacker(url, frames, seed, LIMITS)
                await innocent.aclose()
            await _settled(operator.server._hub, figures)
        operator.take()
        figures.lost = innocent.sent - operator.stored.get("innocent", 0)
    return figures


async def _settled(hub: Hub, figures: Figures) -> None:
    """Of those who are gone nothing is left."""
    try:
        await eventually(lambda: len(hub.peers) == 1, ANSWER)
    except AssertionError:
        figures.damage.kept += len(hub.peers) - 1
    left = len(hub._by_producer), len(hub._by_instance), len(hub._admissions)
    if left != (1, 1, 0):
        figures.defects += 1
        figures.note(f"left in the hub: {left}")


# The client's side


class Victim:
    """A client that reports to whoever listens at its address."""

    def __init__(self, number: int, url: str, scheme: str, figures: Figures) -> None:
        self._name = f"client {number}"
        self._figures = figures
        source, transport = f"s{number}", transport_of(scheme)
        self._context = connect(
            url, backend="victim", source=source, config=CLIENT, transport=transport
        )
        self.client: Client
        self._sent = 0

    async def open(self) -> None:
        """Begin."""
        self.client = await self._context.__aenter__()

    @property
    def failure(self) -> TransportError | None:
        """Why it goes on no more."""
        return self.client._uplink.failure

    async def report(self) -> None:
        """Some messages; one that is over the limit of whoever it spoke to last is refused."""
        for _ in range(5):
            self._sent += 1
            kind, size = (STATE, 3000) if self._sent % 2 else (EVENT, 10)
            size = 100_000 if self._sent % 200 == 0 else size
            message = make_message(f"key-{self._sent % 20}", kind=kind, payload=bytes(size))
            try:
                await self.client.send(message)
            except UnsendableError:
                self._figures.refused += 1
            except TransportError:
                return  # its failure, which is looked at later

    async def settle(self, watch: DefectWatch) -> bool:
        """Whether it is alive, and everything is acknowledged or refused."""
        try:
            async with asyncio.timeout(ANSWER):
                await self.client.flush()
        except TimeoutError:
            self._figures.stuck += 1
            self._figures.note(f"{self._name} is stuck: {watch.last}; {self.client.stats}")
            return False
        except TransportError as exc:
            self._figures.stopped += 1
            self._figures.note(f"{self._name} died: {exc!r} {exc.__cause__!r}")
            return False
        stats, session = self.client.stats, self.client._session
        assert stats.waiting == stats.in_flight == 0
        assert len(session.pushes) <= client_session.MAX_PUSHED_KINDS
        assert len(session.refusals) <= client_session.KEPT_REFUSALS
        return True

    async def stop(self) -> None:
        """It is told to stop: it does, and says so."""
        try:
            await eventually(lambda: self.failure, ANSWER)
            await self.client.flush()
        except (FencedError, UsageError, CredentialRefusedError):
            return
        except (AssertionError, ClosedError) as exc:
            self._figures.stopped += 1
            self._figures.note(f"{self._name}, told to stop: {exc!r}")

    async def close(self) -> None:
        """Its end; what it raises has been counted."""
        stats = self.client.stats
        self._figures.acknowledged += stats.acknowledged
        self._figures.refused += stats.refused
        with suppress(Exception):
            await self._context.__aexit__(None, None, None)


class Game:
    """Clients, and one server after the other at their address."""

    def __init__(
        self,
        scheme: str,
        hostile: HostileServer | DistantServer,
        queue: Queue,
        figures: Figures,
        watch: DefectWatch,
    ) -> None:
        self._scheme = scheme
        self._queue = queue
        self._figures = figures
        self._watch = watch
        self._hostile = hostile
        self._url = ""
        self._victims: list[Victim] = []

    async def begin(self) -> None:
        """Find an address, and let the clients connect to a good server once."""
        self._url = await self._hostile.open(url_of(self._scheme))
        await self._hostile.close()
        self._victims = [await self._victim(number) for number in range(CLIENTS)]
        await self._take_over(0)

    async def _victim(self, number: int) -> Victim:
        victim = Victim(number, self._url, self._scheme, self._figures)
        await victim.open()
        return victim

    async def play(self, number: int, frames: int) -> None:
        """A round of the hostile server, at the end of which a good one takes over."""
        hostile = self._hostile
        enough = await hostile.said() + frames
        await hostile.open(self._url)
        while await hostile.said() < enough and not all(v.failure for v in self._victims):
            for victim in self._victims:
                await victim.report()
            await asyncio.sleep(0.005)
        await hostile.close()
        await self._take_over(number)
        if number % 10 == 9:
            await self._stop_all()
            # Who has an epoch of a hostile server alone may be taken for an older client.
            await self._take_over(number)

    async def _take_over(self, version: int) -> None:
        """A good server; a client that does not recover makes way for another one."""
        transport = transport_of(self._scheme)
        async with operating(self._queue, self._url, transport, self._figures) as operator:
            operator.server.push("victim", Push("rules", version, b"rules"))
            for victim in self._victims:
                await victim.report()
            alive = await asyncio.gather(*[v.settle(self._watch) for v in self._victims])
        if not all(alive):
            for place, well in enumerate(alive):
                if not well:
                    await self._renew(place)
            await self._take_over(version)

    async def _stop_all(self) -> None:
        """A server that tells its clients to stop: they do, and say why."""
        await self._hostile.be_lethal(True)
        await self._hostile.open(self._url)
        await asyncio.gather(*[victim.stop() for victim in self._victims])
        await self._hostile.close()
        await self._hostile.be_lethal(False)
        for place in range(CLIENTS):
            await self._renew(place)

    async def _renew(self, place: int) -> None:
        await self._victims[place].close()
        self._victims[place] = await self._victim(place)

    async def end(self) -> None:
        """Everybody leaves."""
        for victim in self._victims:
            await victim.close()
        self._figures.damage = self._hostile.damage


async def fuzz_client(
    scheme: str, frames: int, seed: int, rounds: int = 0, *, distant: bool = False
) -> Figures:
    """Hostile servers to some clients, round after round; `distant`: in another process."""
    figures = Figures(scheme, "client", seed, CLIENT_LIMIT)
    wire = scheme.partition("-")[0]
    hostile = DistantServer(wire, str(seed)) if distant else hostile_server(wire, LIMITS, str(seed))
    rounds = rounds or max(1, frames // 2500)
    queue = await open_queue("memory://")
    # So that a server cannot keep a client away for a minute of this run.
    patience = mock.patch.object(client_session, "MAX_RETRY_AFTER", 0.01)
    async with queue, watched(figures) as watch:
        with patience:
            game = Game(scheme, hostile, queue, figures, watch)
            await game.begin()
            for number in range(rounds):
                await game.play(number, frames // rounds)
            await game.end()
    if isinstance(hostile, DistantServer):
        await hostile.end()
    return figures
