"""When each side of a session pings, and when it gives up."""

import pytest

from osmo_transport import (
    ConnectionLostError,
    PeerError,
    SessionConfig,
)
from osmo_transport.frames import (
    Frame,
    Occupied,
    Ping,
    Pong,
    Stored,
)
from osmo_transport.queues.leases import Holder
from osmo_transport.session import ServerSession
from tests.transport.builders import (
    FRESH,
    batches,
    client_session,
    event,
    greeted,
    introduce,
    server_session,
)


def test_a_silent_server_is_asked_and_then_given_up() -> None:
    """One ping after the interval, the end after the timeout."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    said = {now: client.tick(float(now)) for now in range(15)}
    assert [now for now, ping in said.items() if ping is not None] == [5]
    with pytest.raises(ConnectionLostError):
        client.tick(15.0)


def test_a_silent_client_is_asked_and_then_given_up() -> None:
    """One ping after the interval, the end after the timeout."""
    server = greeted()
    said = {now: server.tick(float(now)) for now in range(15)}
    assert [now for now, ping in said.items() if ping is not None] == [5]
    with pytest.raises(ConnectionLostError):
        server.tick(15.0)


def test_any_frame_is_a_sign_of_life() -> None:
    """A pong, like every other frame, starts the silence anew."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    for now in range(0, 200, 10):
        client.tick(float(now))
        client.receive(Pong(), float(now))
    assert client.tick(194.0) is None
    assert client.tick(195.0) == Ping()


def test_a_process_that_slept_asks_before_it_gives_up() -> None:
    """After a suspended process wakes up, the peer gets its time to answer a ping."""
    client, server = client_session(), greeted()
    introduce(client, server_session(), FRESH)
    assert client.tick(1000.0) == Ping()
    assert server.tick(1000.0) == Ping()
    assert client.tick(1009.0) is None
    client.receive(Pong(), 1009.5)
    assert client.tick(1011.0) is None
    with pytest.raises(ConnectionLostError):
        server.tick(1010.0)


def test_a_server_that_acknowledges_nothing_is_given_up() -> None:
    """Also one that answers pings, once it has had time to acknowledge; every acknowledgement, and
    having nothing in flight, gives it that time anew."""
    client, now = client_session(), 0.0
    introduce(client, server_session(), FRESH)

    def passes(seconds: int) -> None:
        nonlocal now
        for _ in range(seconds):
            now += 1.0
            client.receive(Pong(), now)
            client.tick(now)

    passes(100)
    for key in "abc":
        client.put(event(key))
    batches(client)
    passes(59)
    client.receive(Stored(1), now)
    passes(60)
    client.receive(Stored(3), now)
    passes(100)
    client.put(event("d"))
    batches(client)
    passes(59)
    with pytest.raises(ConnectionLostError, match="acknowledged nothing for 60 s"):
        passes(1)
    client.disconnect()
    introduce(client, server_session(), FRESH._replace(sequence=3), now)
    batches(client)
    passes(59)


def test_a_process_that_slept_reads_before_it_gives_up() -> None:
    """The acknowledgements that came while it was suspended have still to be read."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    client.put(event("a"))
    batches(client)
    client.tick(1000.0)
    client.receive(Stored(1), 1000.0)
    client.tick(1001.0)


def test_a_ping_is_answered() -> None:
    """By either side."""
    client, server = client_session(), greeted()
    introduce(client, server_session(), FRESH)
    answers: list[Frame] = []
    server.receive(Ping(), 0.0, answers.append)
    assert answers == [Pong()]
    assert client.receive(Ping(), 0.0) == Pong()


def test_a_stranger_must_introduce_itself() -> None:
    """Neither a silent client nor a silent server may hold a connection for ever."""
    with pytest.raises(PeerError, match="no hello"):
        ServerSession(SessionConfig(), 0.0, hello_by=10.0).tick(10.0)
    client = client_session()
    client.connect(100.0)
    assert client.tick(114.0) == Ping()
    with pytest.raises(ConnectionLostError, match="welcome"):
        client.tick(115.0)


def test_who_stands_by_waits_without_an_end() -> None:
    """Neither for its welcome nor for what was on its way when it was overtaken does it give up a
    server that is there; one that is silent it does."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    client.put(event("a"))
    batches(client)
    client.disconnect()
    client.connect(0.0)
    client.receive(Occupied("other", "there", 1.0), 1.0)
    for now in range(2, 500):
        client.tick(float(now))
        client.receive(Pong(), float(now))
    assert client.holder == Holder("other", "there", 1.0)
    assert client.next_batch() is None
    client.tick(505.0)
    with pytest.raises(ConnectionLostError, match="silent"):
        client.tick(520.0)
    client.connect(600.0)
    assert client.holder is not None
    with pytest.raises(ConnectionLostError, match="welcome"):
        client.tick(615.0)


def test_the_tick_is_fine_enough_for_its_times() -> None:
    """One second by default, less for shorter heartbeats."""
    assert SessionConfig().tick == 1.0
    assert SessionConfig(heartbeat_interval=0.4).tick == 0.1
    assert SessionConfig(heartbeat_timeout=0.2).tick == 0.05


def test_frames_after_the_end_are_ignored() -> None:
    """What arrives late from a connection that was given up changes nothing."""
    client = client_session()
    introduce(client, server_session(), FRESH)
    client.put(event("a"))
    batches(client)
    client.disconnect()
    assert client.receive(Stored(1), 0.0) is None
    assert client.tick(1000.0) is None
    assert client.unsettled == 1


def test_who_is_not_read_is_not_given_up_and_hears_of_the_server() -> None:
    """A ping in each interval while its connection is paused, since an answer of its would not be
    heard; after the pause it has its time to be silent again."""
    server = greeted()
    said = {now: server.tick(float(now), paused=True) for now in range(100)}
    assert [now for now, ping in said.items() if ping is not None] == list(range(0, 100, 5))
    said = {now: server.tick(float(now)) for now in range(100, 114)}
    assert [now for now, ping in said.items() if ping is not None] == [104]
    with pytest.raises(ConnectionLostError):
        server.tick(114.0)
