"""The fault tool does what its verbs say."""

import asyncio

import pytest

from osmo_transport import ConnectionLostError, transport_for
from osmo_transport.frames import Frame, Stored
from osmo_transport.testing import FaultyTransport, Way, make_message, pair
from osmo_transport.testing.contracts.transport_suite import Accepted, Recorder, TransportSuite
from osmo_transport.transports.abc import Connection
from tests.helpers import eventually


class Bench(TransportSuite):
    """A connection through a `FaultyTransport`, and both of its ends."""

    def __init__(self) -> None:
        self.broken = FaultyTransport(transport_for(self.url))
        self.accepted: list[Accepted] = []
        self.recorder = Recorder()
        self.connection: Connection

    async def dial_through(self, url: str) -> None:
        config = self.connection_config(tls=self.client_tls, limits=self.limits, max_connections=1)
        self.connection = await self.broken.dial(url, self.recorder, config)

    def send_both(self, *numbers: int) -> None:
        for number in numbers:
            self.connection.send(Stored(number))
            self.accepted[-1].connection.send(Stored(number))

    @property
    def arrived(self) -> tuple[list[Frame], list[Frame]]:
        """At the accepting and at the dialling side."""
        return self.accepted[-1].frames, self.recorder.frames


async def settle() -> None:
    """Let everything arrive that is not kept back."""
    for _ in range(5):
        await asyncio.sleep(0)


def frames(*numbers: int) -> list[Frame]:
    return [Stored(number) for number in numbers]


async def test_without_a_fault_everything_passes() -> None:
    """It is the wrapped transport then."""
    bench = Bench()
    async with bench.endpoint(bench.accepted) as endpoint:
        await bench.dial_through(endpoint.url)
        bench.send_both(1, 2)
        await settle()
        assert bench.arrived == (frames(1, 2), frames(1, 2))
        assert bench.broken.connections == 1
        bench.connection.close()
        await bench.connection.wait_closed()
        assert bench.broken.connections == 0
        assert len(bench.recorder.ends) == 1


async def test_drop_swallows_so_many_frames() -> None:
    """In the ways that are named; without a number all, until it is taken back."""
    bench = Bench()
    async with bench.endpoint(bench.accepted) as endpoint:
        await bench.dial_through(endpoint.url)
        bench.broken.drop(2, Way.OUT)
        bench.send_both(1, 2, 3)
        await settle()
        assert bench.arrived == (frames(3), frames(1, 2, 3))
        bench.broken.drop()
        bench.send_both(4)
        await settle()
        bench.broken.drop(0)
        bench.send_both(5)
        await settle()
        assert bench.arrived == (frames(3, 5), frames(1, 2, 3, 5))
        assert bench.broken.dropped == 4


async def test_hold_keeps_frames_back_in_order() -> None:
    """One way or both; release lets them pass."""
    bench = Bench()
    async with bench.endpoint(bench.accepted) as endpoint:
        await bench.dial_through(endpoint.url)
        bench.broken.hold(Way.IN)
        bench.send_both(1, 2)
        await settle()
        assert bench.arrived == (frames(1, 2), [])
        bench.broken.hold()
        bench.send_both(3)
        bench.broken.release(Way.IN)
        await settle()
        assert bench.arrived == (frames(1, 2), frames(1, 2, 3))
        bench.broken.release()
        await settle()
        assert bench.arrived == (frames(1, 2, 3), frames(1, 2, 3))


async def test_delay_is_kept_and_the_order_too() -> None:
    """Also when it is taken back while frames are on their way."""
    bench = Bench()
    loop = asyncio.get_running_loop()
    async with bench.endpoint(bench.accepted) as endpoint:
        await bench.dial_through(endpoint.url)
        begun = loop.time()
        bench.broken.delay(0.05)
        bench.send_both(1, 2)
        await settle()
        bench.broken.delay(0.0)
        bench.send_both(3)
        await settle()
        assert bench.arrived == ([], [])
        await eventually(lambda: all(len(frames) == 3 for frames in bench.arrived))
        assert bench.arrived == (frames(1, 2, 3), frames(1, 2, 3))
        assert loop.time() - begun >= 0.05


async def test_reset_breaks_every_connection_at_once() -> None:
    """What was on its way is lost, and each side is told once."""
    bench = Bench()
    async with bench.endpoint(bench.accepted) as endpoint:
        await bench.dial_through(endpoint.url)
        bench.broken.delay(10.0)
        bench.send_both(1)
        bench.broken.reset()
        bench.connection.send(Stored(2))
        await settle()
        assert isinstance(bench.recorder.ends[0], ConnectionLostError)
        await eventually(lambda: bench.accepted[0].ended)
        assert bench.arrived == ([], [])
        assert not bench.recorder.too_late


async def test_refuse_lets_every_attempt_fail() -> None:
    """Until accept."""
    bench = Bench()
    async with bench.endpoint(bench.accepted) as endpoint:
        bench.broken.refuse()
        with pytest.raises(ConnectionLostError, match="refused"):
            await bench.dial_through(endpoint.url)
        bench.broken.accept()
        await bench.dial_through(endpoint.url)
        assert bench.broken.dialled == 2
        bench.connection.close()


async def test_a_close_delivers_what_was_delayed() -> None:
    """As a transport promises; what is held stays away."""
    bench = Bench()
    async with bench.endpoint(bench.accepted) as endpoint:
        await bench.dial_through(endpoint.url)
        bench.broken.delay(10.0)
        bench.connection.send(Stored(1))
        bench.connection.close()
        await eventually(lambda: bench.accepted[0].ended)
        assert bench.arrived[0] == frames(1)


async def test_a_pair_survives_its_faults() -> None:
    """The tools together, as a user has them."""
    faults = FaultyTransport(transport_for("memory://"))
    async with pair(transport=faults) as (client, server):
        await client.epoch_after(0)
        faults.refuse()
        faults.reset()
        await client.send(make_message("kept"))
        await eventually(lambda: faults.dialled >= 3)
        assert not client.stats.connected
        faults.accept()
        (incoming,) = await server.receive()
        assert [m.key for m in incoming.messages] == ["kept"]
        incoming.acknowledge()
        await client.flush()
