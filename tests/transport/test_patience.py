"""A test that waits for what does not come is told so, and why it does not."""

import asyncio

import pytest

from osmo_transport import publish
from osmo_transport.testing import make_message, pair
from osmo_transport.testing.contracts.suite import AsyncSuite
from osmo_transport.testing.patience import patience
from osmo_transport.testing.plugin import QueueUnderTest, TransportUnderTest

BRIEF = 0.2


@pytest.fixture
def transport() -> TransportUnderTest:
    """What the fixture of users gives, of one transport."""
    transport = TransportUnderTest("memory", "memory://")
    transport.patience = BRIEF
    return transport


async def test_what_coalesced_is_named(transport: TransportUnderTest) -> None:
    """Of two reports of one key that leave together one arrives; who waits for both reads so."""
    arrived = 0

    async def wait_for_both() -> None:
        nonlocal arrived
        async with transport.listen() as server, transport.connect(server) as client:
            await client.send(make_message("key"))
            await client.send(make_message("key"))
            while arrived < 2:
                arrived += sum(len(incoming.messages) for incoming in await server.receive())

    with pytest.raises(AssertionError) as failure:
        await wait_for_both()
    assert arrived == 1
    text = str(failure.value)
    assert text.startswith("waited 0.2 s for `arrived += sum(")
    assert "(test_patience.py:" in text
    assert "messages of backend/client: 0 acknowledged, 1 sent and not acknowledged" in text
    assert "1 coalesced with a newer one of their key" in text
    assert "memory://" in text


async def test_a_missing_acknowledgement_is_named(transport: TransportUnderTest) -> None:
    """And what nobody received."""

    async def wait_for_it() -> None:
        async with transport.listen() as server, transport.connect(server) as client:
            await client.send(make_message("key"))
            await client.flush()

    with pytest.raises(AssertionError) as failure:
        await wait_for_it()
    text = str(failure.value)
    assert "waited 0.2 s for `await client.flush()`" in text
    assert "1 sent and not acknowledged" in text
    assert ": 0 bytes" not in text


async def test_a_server_that_is_not_there_is_named(transport: TransportUnderTest) -> None:
    """The client was never welcomed."""
    with pytest.raises(AssertionError, match="never welcomed, 0 acknowledged"):
        async with transport.connect("memory://nowhere") as client:
            await client.epoch_after(0)


async def test_a_pair_has_a_limit_too() -> None:
    """With the same words."""

    async def wait_for_it() -> None:
        async with pair(within=BRIEF) as (client, _):
            await client.send(make_message("key"))
            await client.flush()

    with pytest.raises(
        AssertionError, match=r"client\.flush\(\)` .*: messages: 0 acknowledged, 1 s"
    ):
        await wait_for_it()


async def test_what_a_queue_holds_is_named() -> None:
    """When nothing more comes out of it."""
    queue = QueueUnderTest("memory", "memory://patience")
    queue.patience = BRIEF

    async def wait_for_more() -> None:
        async with queue.open() as opened, opened.consumer("workers", "one") as consumer:
            await publish(opened, [make_message("key")], backend="backend")
            while True:
                await consumer.receive(1)

    with pytest.raises(AssertionError) as failure:
        await wait_for_more()
    text = str(failure.value)
    assert "waited 0.2 s for `await consumer.receive(1)`" in text
    assert "0 entries that no consumer was given, 1 that one has" in text


async def test_a_test_of_a_contract_that_hangs_fails() -> None:
    """Whatever it waits for: it says which line."""

    class Hanging(AsyncSuite):
        patience = BRIEF

        async def test_hangs(self) -> None:
            """Nobody sets this event."""
            await asyncio.Event().wait()

    with pytest.raises(AssertionError, match=r"0\.2 s for `await asyncio\.Event\(\)\.wait\(\)`"):
        await Hanging().test_hangs()


async def test_other_timeouts_are_left_as_they_are() -> None:
    """One of the test's own, and a cancellation, end nothing but what they are of."""
    with pytest.raises(TimeoutError):
        async with patience(30.0), asyncio.timeout(0.0):
            await asyncio.Event().wait()

    async def wait() -> None:
        async with patience(30.0):
            await asyncio.Event().wait()

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()


async def test_who_does_not_answer_when_the_time_is_over_is_told_of() -> None:
    """As a queue that is away by then."""

    async def stands() -> str:
        raise ConnectionError("it is away")

    with pytest.raises(AssertionError, match="cannot be told: ConnectionError it is away"):
        async with patience(0.0, "the end of time", stands):
            await asyncio.Event().wait()
