"""The feed: a connection of our own without a wire."""

import asyncio
from collections.abc import Sequence

import pytest

from osmo_deployed.feed import Feed, FeedOwner
from osmo_transport import (
    Limits,
    ServerConfig,
    SessionConfig,
    encode_message,
    listen,
    new_message,
    read_message,
)
from osmo_transport.credentials import Presented
from osmo_transport.errors import (
    ClosedError,
    ConnectionLostError,
    TransportError,
    UnsendableError,
)
from osmo_transport.frames import (
    Batch,
    Frame,
    Goodbye,
    GoodbyeCode,
    Hello,
    Ping,
    Pong,
    Push,
    Refused,
    Stored,
    Welcome,
)
from osmo_transport.transports.abc import Connection, FrameSink
from tests.helpers import eventually


class Owner(FeedOwner[str]):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def welcomed(self) -> None:
        self.told.append("welcomed")

    def stored(self, tokens: Sequence[str]) -> None:
        self.told.append(list(tokens))

    def rejected(self, token: str, reason: str) -> None:
        self.told.append((token, reason))

    def pushed(self, push: Push) -> None:
        self.told.append(push)

    def ended(self, goodbye: Goodbye, tokens: Sequence[str]) -> None:
        self.told.append((goodbye, list(tokens)))


class Side(FrameSink):
    """The server's side, which does what the test says."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.lost: list[TransportError] = []

    def accept(self, connection: Connection) -> FrameSink:
        self.connection = connection
        return self

    def frame_received(self, frame: Frame) -> None:
        self.frames.append(frame)

    def writing_resumed(self) -> None:
        pass

    def connection_lost(self, error: TransportError) -> None:
        self.lost.append(error)


SMALL = len(encode_message(new_message("kind", "a", b"")))
"""Bytes of a message without a payload."""

LIMITS = Limits(batch_bytes=4 * SMALL, window_messages=3)


def opened(limits: Limits = LIMITS) -> tuple[Feed[str], Owner, Side]:
    owner, side = Owner(), Side()
    feed = Feed(Presented(address="a listener"), limits, owner)
    feed.open(side.accept, "backend", "source")
    return feed, owner, side


def put(feed: Feed[str], *names: str, payload: bytes = b"") -> None:
    for name in names:
        feed.put(new_message("kind", name, payload), name)


async def turn() -> None:
    """Let everything run that is due."""
    for _ in range(5):
        await asyncio.sleep(0)


def keys(frame: Frame) -> tuple[int, list[str]]:
    assert isinstance(frame, Batch)
    return frame.first, [read_message(data).key for data in frame.messages]


async def test_a_paused_feed_sends_nothing() -> None:
    """What is put meanwhile leaves when the pause is over, and a ping is answered all the same."""
    feed, owner, side = opened()
    feed.send(Welcome("q", 1, 0, LIMITS))
    feed.pause()
    put(feed, "a")
    feed.send(Ping())
    await turn()
    assert side.frames[1:] == [Pong()]
    assert feed.held == 1
    feed.resume()
    feed.resume()
    await turn()
    assert keys(side.frames[-1]) == (1, ["a"])
    put(feed, "b")
    feed.pause()
    feed.send(Stored(1))
    await turn()
    assert len(side.frames) == 3
    feed.send(Goodbye(GoodbyeCode.CLOSING, "bye"))
    feed.close()
    await feed.wait_closed()
    assert owner.told[-1] == (Goodbye(GoodbyeCode.CLOSING, "bye"), ["b"])


async def test_it_says_hello_as_one_who_knows_nothing() -> None:
    """With a fresh name each time."""
    (_, _, one), (_, _, two) = opened(), opened()
    (hello,), (other,) = one.frames, two.frames
    assert isinstance(hello, Hello)
    assert isinstance(other, Hello)
    assert (hello.backend, hello.source, hello.epoch, hello.sequence) == ("backend", "source", 0, 0)
    assert hello.instance != other.instance


async def test_messages_wait_for_the_welcome() -> None:
    """And continue its sequence."""
    feed, owner, side = opened()
    put(feed, "a", "b")
    await turn()
    assert len(side.frames) == 1
    feed.send(Welcome("queue", 1, 7, LIMITS))
    await turn()
    assert keys(side.frames[1]) == (8, ["a", "b"])
    assert owner.told == ["welcomed"]


async def test_one_batch_is_on_its_way() -> None:
    """What comes meanwhile is in the next one, within the limits of a batch."""
    feed, owner, side = opened()
    feed.send(Welcome("queue", 1, 0, LIMITS))
    put(feed, "a")
    await turn()
    put(feed, "b", "c", "d", "e", "f")
    put(feed, "g", "h", payload=bytes(2 * SMALL))
    put(feed, "l", payload=bytes(9 * SMALL))
    put(feed, "i")
    await turn()
    assert [keys(f) for f in side.frames[1:]] == [(1, ["a"])]
    for sequence, batches in ((1, 2), (2, 2), (4, 3), (6, 4), (7, 5), (8, 6), (9, 7)):
        feed.send(Stored(sequence))
        await turn()
        assert len(side.frames) - 1 == batches  # not while a part of one is on its way
    sent = [keys(frame)[1] for frame in side.frames[1:]]
    assert sent == [["a"], ["b", "c", "d"], ["e", "f"], ["g"], ["h"], ["l"], ["i"]]
    assert owner.told[1:] == [["a"], ["b"], ["c", "d"], ["e", "f"], ["g"], ["h"], ["l"]]
    assert (feed.held, feed.held_bytes) == (1, SMALL)


async def test_what_no_server_would_take_is_not_put() -> None:
    """Its owner is told at once, and nothing else is affected."""
    feed, _, side = opened()
    feed.send(Welcome("queue", 1, 0, LIMITS))
    with pytest.raises(UnsendableError):
        put(feed, "n" * 2000)
    put(feed, "a")
    await turn()
    assert (feed.held, feed.held_bytes) == (1, SMALL)
    assert keys(side.frames[1]) == (1, ["a"])


async def test_answers_are_told_by_token() -> None:
    """A rejected message at once, and again when those before it are stored."""
    feed, owner, _ = opened()
    feed.send(Welcome("queue", 1, 0, LIMITS))
    put(feed, "a", "b", "c")
    await turn()
    feed.send(Refused(2, "no"))
    feed.send(Stored(3))
    push = Push("kind", 1, b"")
    feed.send(push)
    assert owner.told[1:] == [("b", "no"), ["a", "b", "c"], push]
    assert feed.held == 0


async def test_pings_are_answered() -> None:
    """In another turn: the server is not called from within its own call."""
    feed, _, side = opened()
    feed.send(Ping())
    assert len(side.frames) == 1
    await turn()
    assert side.frames[1:] == [Pong()]


async def test_a_goodbye_is_told_once_with_what_is_open() -> None:
    """Also if it came before the owner had his feed; what is put after it is not lost sight of."""
    feed, owner, side = opened()
    put(feed, "a")
    goodbye = Goodbye(GoodbyeCode.RESYNC, "why")
    feed.send(goodbye)
    feed.close()
    feed.send(Stored(1))
    put(feed, "b")
    assert owner.told == []
    await feed.wait_closed()
    assert owner.told == [(goodbye, ["a", "b"])]
    put(feed, "c")
    feed.leave()
    await turn()
    assert len(owner.told) == 1
    assert len(side.frames) == 1
    (error,) = side.lost
    assert isinstance(error, ClosedError)


async def test_closing_says_why() -> None:
    """For an endpoint that closes by itself."""
    feed, owner, side = opened()
    feed.close()
    await turn()
    ((goodbye, tokens),) = owner.told  # type: ignore[misc]
    assert (goodbye.code, tokens) == (GoodbyeCode.CLOSING, [])  # type: ignore[has-type]
    assert len(side.lost) == 1


async def test_a_listener_that_leaves_is_told_nothing() -> None:
    """The server is told that it left."""
    feed, owner, side = opened()
    feed.send(Welcome("queue", 1, 0, LIMITS))
    put(feed, "a")
    feed.leave()
    feed.send(Stored(1))
    await turn()
    assert owner.told == ["welcomed"]
    (error,) = side.lost
    assert isinstance(error, ConnectionLostError)
    assert len(side.frames) == 1


async def test_a_silent_feed_is_not_given_up() -> None:
    """Whether its listener is alive, the feed's owner finds out."""
    config = SessionConfig(heartbeat_interval=0.02, heartbeat_timeout=0.02)
    owner = Owner()
    feed = Feed(Presented(address="a listener"), LIMITS, owner)
    async with listen("memory://", config=ServerConfig(session=config)) as server:
        hub = server._hub
        feed.open(hub.accept, "backend", "source")
        (peer,) = hub.peers
        end = hub.now() + 5 * (config.heartbeat_interval + config.heartbeat_timeout)
        await eventually(lambda: peer.session._heartbeat.heard > end or not server.connections)
        assert server.connections == 1
    await turn()
    assert owner.told[0] == "welcomed"
