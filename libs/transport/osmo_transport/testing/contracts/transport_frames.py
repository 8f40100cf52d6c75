"""The contract of `osmo_transport.transports.abc`, sentence by sentence."""

import asyncio
from typing import TypeVar

import pytest

from osmo_transport.credentials import MAX_TOKEN
from osmo_transport.errors import AddressInUseError, ClosedError, ConnectionLostError, PeerError
from osmo_transport.frames import (
    PROTOCOL,
    Batch,
    Credential,
    Frame,
    Goodbye,
    GoodbyeCode,
    Hello,
    Limits,
    Occupied,
    Ping,
    Pong,
    Refused,
    Stored,
    Welcome,
)
from osmo_transport.message import Message, Version, encode_message
from osmo_transport.testing.cancellation import cancel_at
from osmo_transport.testing.contracts.transport_suite import (
    PATIENCE,
    Accepted,
    Recorder,
    TransportSuite,
    batch,
    until,
)
from osmo_transport.testing.patience import patience
from osmo_transport.transports.abc import CLOSE_TIMEOUT, READ_AHEAD, WRITE_BUFFER, Connection

ODD = Limits(window_messages=1, window_bytes=2, message_bytes=3, batch_bytes=4)
NARROW = Limits(message_bytes=100_000, batch_bytes=50_000)

TOO_MANY = 1000
"""Frames of a quarter of `WRITE_BUFFER` that fit into no buffers between two sides, those of the
kernel included."""

EVERY_FRAME: tuple[Frame, ...] = (
    Hello(PROTOCOL, "b", "söurce", "l", "q", 2**40, 7, ODD, b"\x00\xff"),
    Hello(PROTOCOL, "b", "s", "l", "", 0, 0, Limits(), takes_over=True),
    Occupied("one", "söme host:7", 1_767_355_200.25),
    Welcome("q", 2**40, 2**50, Limits()),
    Credential("a-newer.token_"),
    Batch(
        2**50,
        (
            encode_message(
                Message("kind", "w/ä/0", Version(2**40, 2**60), "0" * 32, 1.5, bytes(range(256)))
            ),
            encode_message(
                Message("k", "x", Version(0, 0), "1" * 32, 0.0, b"", True, "00-" + "a" * 52)
            ),
            b"",
        ),
    ),
    Stored(2**50),
    Refused(5, "too long ✂"),
    Ping(),
    Pong(),
    Goodbye(GoodbyeCode.RESYNC, "the queue lost its memory", 1.25),
)


T = TypeVar("T")


class Frames(TransportSuite):
    """Tests of a connection, either side."""

    async def test_every_frame_arrives_whole_and_equal(self) -> None:
        """In both directions, each of its fields."""
        async with self.link() as (connection, recorder, accepted):
            for frame in EVERY_FRAME:
                connection.send(frame)
                accepted.connection.send(frame)
            await until(lambda: len(recorder.frames) == len(accepted.frames) == len(EVERY_FRAME))
            assert recorder.frames == accepted.frames == list(EVERY_FRAME)

    async def test_what_the_client_presents_is_known_before_its_first_frame(self) -> None:
        """Its token, of any length that one may have; nothing where nothing was presented."""
        if not self.carries_tokens:
            pytest.skip("this transport carries no tokens: servers that ask for one let nobody in")
        presented: list[str] = []

        def note(sink: Accepted) -> None:
            presented.append(sink.connection.presented.token)

        tokens = ["", "a.token_of-it~+/=", "x" * MAX_TOKEN]
        async with self.endpoint([], greet=note) as endpoint:
            for count, token in enumerate(tokens, 1):
                connection = await self.dial(endpoint.url, Recorder(), token=token)
                await until(lambda count=count: len(presented) == count)  # type: ignore[misc]
                connection.close()
                await connection.wait_closed()
        assert presented == tokens

    async def test_frames_arrive_in_the_order_of_send(self) -> None:
        """Two thousand in each direction at once, of sizes that cross each other."""
        frames = [batch(number, number * 37 % 3000) for number in range(2000)]
        async with self.link() as (connection, recorder, accepted):
            for number, frame in enumerate(frames):
                connection.send(frame)
                accepted.connection.send(frame)
                if number % 100 == 0:
                    await asyncio.sleep(0)
            await until(lambda: len(recorder.frames) == len(accepted.frames) == len(frames))
            assert recorder.frames == accepted.frames == frames

    async def test_a_message_may_have_any_size_up_to_the_limit(self) -> None:
        """From nothing to the limit itself, also where a length takes another byte."""
        limits = Limits(message_bytes=70_000)
        sizes = [0, 1, 30, 31, 32, 125, 126, 127, 255, 256, 16_383, 65_535, 65_536]
        sizes.append(limits.message_bytes)
        async with self.link(limits) as (connection, _, accepted):
            for first, size in enumerate(sizes):
                connection.send(batch(first, size))
            await until(lambda: len(accepted.frames) == len(sizes))
            got = [len(f.messages[0]) for f in accepted.frames if isinstance(f, Batch)]
            assert got == sizes

    async def test_the_largest_frame_that_a_session_makes_passes(self) -> None:
        """A full batch, and the message at the limit that overshoots it."""
        limits = Limits(message_bytes=100_000, batch_bytes=50_000)
        small = [100] * (limits.batch_bytes // 100)
        frame = batch(1, *small, limits.message_bytes)
        async with self.link(limits) as (connection, _, accepted):
            connection.send(frame)
            await until(lambda: accepted.frames)
            assert accepted.frames == [frame]

    async def test_send_buffers_and_says_when_it_is_enough(self) -> None:
        """`writable` falls when more than `WRITE_BUFFER` waits, and the sink is told when it rises;
        nothing is lost or blocked meanwhile."""
        frame = batch(1, WRITE_BUFFER // 4)
        async with self.link() as (connection, recorder, accepted):
            assert connection.writable
            count = 0
            # A socket's own buffers come on top.
            for _ in range(1000):
                if not connection.writable:
                    break
                connection.send(frame)
                count += 1
            assert count < 1000
            await until(lambda: len(accepted.frames) == count)
            await until(lambda: connection.writable)
            assert recorder.resumed

    async def test_a_paused_connection_takes_no_more(self) -> None:
        """The other side is held back and not lost: it is not `writable` when every buffer between
        is full, hears what is sent to it, and goes on when the pause is over. Either side may
        pause."""
        for accepting_side_pauses in (False, True):
            async with self.link(NARROW) as (connection, recorder, accepted):
                pausing, sink, sending, peer = connection, recorder, accepted.connection, accepted
                if accepting_side_pauses:
                    pausing, sink, sending, peer = sending, peer, pausing, sink
                pausing.pause()
                pausing.pause()
                frames: list[Frame] = []
                pings = full = 0
                while full < 20:
                    full += 1
                    while sending.writable:
                        assert len(frames) < TOO_MANY, "nothing holds it back"
                        frames.append(batch(len(frames), WRITE_BUFFER // 4))
                        sending.send(frames[-1])
                        full = 0
                    pausing.send(Ping())
                    pings += 1
                    await until(lambda peer=peer, pings=pings: len(peer.frames) == pings)  # type: ignore[misc]
                most = READ_AHEAD + NARROW.frame_bytes
                assert len(sink.frames) * (WRITE_BUFFER // 4) < most
                pausing.resume()
                pausing.resume()
                await until(lambda sink=sink, last=frames[-1]: last in sink.frames[-1:])  # type: ignore[misc]
                assert sink.frames == frames

    async def test_a_pause_outlives_no_end(self) -> None:
        """Who paused and closes says goodbye all the same, and hears of the end; whose peer closes
        hears of it after the pause, and of everything before it."""
        async with self.link() as (connection, recorder, accepted):
            connection.send(Ping())
            await until(lambda: accepted.frames)
            accepted.connection.pause()
            connection.send(batch(1, 10))
            accepted.connection.send(Goodbye(GoodbyeCode.CLOSING, "bye"))
            accepted.connection.close()
            async with asyncio.timeout(CLOSE_TIMEOUT / 2):
                await accepted.connection.wait_closed()
            await until(lambda: recorder.ended)
            assert recorder.frames == [Goodbye(GoodbyeCode.CLOSING, "bye")]
        async with self.link() as (connection, _, accepted):
            connection.send(Ping())
            await until(lambda: accepted.frames)
            accepted.connection.pause()
            frames = [batch(number, 10) for number in range(3)]
            for frame in frames:
                connection.send(frame)
            connection.close()
            accepted.connection.resume()
            await until(lambda: accepted.ended)
            assert accepted.frames == [Ping(), *frames]

    async def test_frames_sent_before_close_reach_the_peer(self) -> None:
        """Either side may send and close in one breath, also while the other is sending."""
        frames = [batch(number, 1000) for number in range(300)]
        for accepting_side_closes in (False, True):
            async with self.link() as (connection, recorder, accepted):
                closing, reading = connection, accepted.connection
                peer: Recorder = accepted
                if accepting_side_closes:
                    closing, reading, peer = reading, closing, recorder
                for frame in frames:
                    reading.send(frame)
                    closing.send(frame)
                closing.send(Goodbye(GoodbyeCode.CLOSING, "bye"))
                closing.close()
                await until(lambda peer=peer: peer.ended)  # type: ignore[misc]
                assert peer.frames == [*frames, Goodbye(GoodbyeCode.CLOSING, "bye")]

    async def test_each_side_is_told_the_end_once_and_why(self) -> None:
        """`ClosedError` for who closed it, `ConnectionLostError` for the other."""
        for accepting_side_closes in (False, True):
            async with self.link() as (connection, recorder, accepted):
                if accepting_side_closes:
                    accepted.connection.close()
                else:
                    connection.close()
                await until(lambda: recorder.ended and accepted.ended)
                ends = [type(recorder.ends[0]), type(accepted.ends[0])]
                if accepting_side_closes:
                    ends.reverse()
                assert ends == [ClosedError, ConnectionLostError]

    async def test_both_sides_may_close_at_once(self) -> None:
        """Each is told once."""
        async with self.link() as (connection, recorder, accepted):
            connection.close()
            accepted.connection.close()
            await until(lambda: recorder.ended and accepted.ended)
            assert len(recorder.ends) == len(accepted.ends) == 1

    async def test_nothing_comes_after_the_end(self) -> None:
        """`send` and `close` after the end do nothing, on both sides."""
        async with self.link() as (connection, recorder, accepted):
            connection.close()
            connection.send(Ping())
            connection.close()
            await until(lambda: recorder.ended and accepted.ended)
            for side in (connection, accepted.connection):
                side.send(Ping())
                side.close()
            await asyncio.sleep(0.02)
            assert recorder.frames == accepted.frames == []

    async def test_a_sink_may_close_from_within_a_frame(self) -> None:
        """The frame that made it close is the last one that it gets."""
        async with self.link() as (connection, _, accepted):
            accepted.on_frame = lambda _: accepted.connection.close()
            for first in range(10):
                connection.send(Stored(first))
            await until(lambda: accepted.ended)
            assert accepted.frames == [Stored(0)]

    async def test_no_sink_is_called_from_within_another(self) -> None:
        """Two that answer each frame with the next one do not call each other, at once or ever
        deeper."""
        async with self.link() as (connection, recorder, accepted):
            depths: list[int] = []
            inside = 0

            def answer(frame: Frame, answering: Connection) -> None:
                nonlocal inside
                inside += 1
                depths.append(inside)
                if isinstance(frame, Batch) and frame.first < 100:
                    answering.send(batch(frame.first + 1, 10))
                inside -= 1

            accepted.on_frame = lambda frame: answer(frame, accepted.connection)
            recorder.on_frame = lambda frame: answer(frame, connection)
            connection.send(batch(0, 10))
            await until(lambda: len(depths) == 101)
            assert set(depths) == {1}

    async def test_waiting_for_the_end_is_safe_to_cancel(self) -> None:
        """The connection does not notice, and whoever waits longer is told."""
        async with self.link() as (connection, recorder, _):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await connection.wait_closed()
            waiting = asyncio.create_task(connection.wait_closed())
            connection.send(Ping())
            connection.close()
            await waiting
            assert recorder.ended

    async def test_a_frame_over_the_limit_ends_its_connection_alone(self) -> None:
        """The sender is told why, and other connections do not notice."""
        small, large = Limits(message_bytes=1000, batch_bytes=1000), Limits()
        accepted: list[Accepted] = []
        async with self.endpoint(accepted, limits=small) as endpoint:
            recorder, bystander = Recorder(), Recorder()
            connection = await self.dial(endpoint.url, recorder, large)
            other = await self.dial(endpoint.url, bystander, large)
            await until(lambda: len(accepted) == 2)
            connection.send(batch(1, small.frame_bytes + 1))
            await until(lambda: recorder.ended)
            told = [f.reason for f in recorder.frames if isinstance(f, Goodbye)]
            assert any(str(small.frame_bytes) in text for text in [*told, str(recorder.ends[0])])
            other.send(Ping())
            await until(lambda: [Ping()] in (accepted[0].frames, accepted[1].frames))
            (ended,) = (sink for sink in accepted if sink.ended)
            assert isinstance(ended.ends[0], PeerError)
            assert ended.frames == []
            other.close()
            await other.wait_closed()
            await connection.wait_closed()

    async def test_few_words_may_come_before_the_first_frame(self) -> None:
        """Who begins with more is refused; behind the first frame others have the limit of each."""
        accepted: list[Accepted] = []
        async with self.endpoint(accepted, opening_bytes=2_000) as endpoint:
            long, short = Recorder(), Recorder()
            too_much = await self.dial(endpoint.url, long)
            too_much.send(batch(1, 5_000))
            await until(lambda: accepted and accepted[0].ended and long.ended)
            assert isinstance(accepted[0].ends[0], PeerError)
            assert not accepted[0].frames
            connection = await self.dial(endpoint.url, short)
            frames = [batch(1, 1_000), batch(2, 5_000)]
            for frame in frames:
                connection.send(frame)
            await until(lambda: len(accepted) == 2 and len(accepted[1].frames) == 2)
            assert accepted[1].frames == frames
            connection.close()
            await connection.wait_closed()

    async def test_both_sides_have_a_name_for_logs(self) -> None:
        """The other side's address."""
        async with self.link() as (connection, _, accepted):
            assert connection.peer
            assert accepted.connection.peer


class Endpoints(TransportSuite):
    """Tests of listening and dialling."""

    async def test_an_endpoint_picks_a_free_address(self) -> None:
        """Two of them do not clash, and say where they are."""
        first: list[Accepted] = []
        second: list[Accepted] = []
        async with self.endpoint(first) as one, self.endpoint(second) as other:
            assert one.url != other.url
            connection = await self.dial(other.url, Recorder())
            await until(lambda: second)
            assert not first
            connection.close()
            await connection.wait_closed()

    async def test_an_address_in_use_is_refused(self) -> None:
        """With an error that says what to do."""
        async with self.endpoint([]) as endpoint:
            config = self.connection_config(
                tls=self.server_tls, limits=self.limits, max_connections=1
            )
            with pytest.raises(AddressInUseError, match="in use"):
                await self.transport().listen(endpoint.url, Accepted, config)

    async def test_an_address_is_free_again_after_the_close(self) -> None:
        """At once, also when connections were open."""
        accepted: list[Accepted] = []
        async with self.endpoint(accepted) as endpoint:
            url = endpoint.url
            recorder = Recorder()
            await self.dial(url, recorder)
            await until(lambda: accepted)
        await until(lambda: recorder.ended)
        config = self.connection_config(tls=self.server_tls, limits=self.limits, max_connections=1)
        again = await self.transport().listen(url, Accepted, config)
        assert again.url == url
        await again.aclose()

    async def test_nobody_listens(self) -> None:
        """Dialling a closed endpoint is worth another try."""
        async with self.endpoint([]) as endpoint:
            url = endpoint.url
        with pytest.raises(ConnectionLostError):
            await self.dial(url, Recorder())

    async def test_closing_an_endpoint_ends_its_connections(self) -> None:
        """Idempotently, and without touching whoever listens there next."""
        accepted: list[Accepted] = []
        async with self.endpoint(accepted) as endpoint:
            recorder = Recorder()
            await self.dial(endpoint.url, recorder)
            await until(lambda: accepted)
            await endpoint.aclose()
            await until(lambda: recorder.ended and accepted[0].ended)
            assert isinstance(recorder.ends[0], ConnectionLostError)
            config = self.connection_config(
                tls=self.server_tls, limits=self.limits, max_connections=1
            )
            next_one = await self.transport().listen(endpoint.url, Accepted, config)
            await endpoint.aclose()
            connection = await self.dial(next_one.url, Recorder())
            await next_one.aclose()
            await connection.wait_closed()

    @pytest.mark.parametrize("turns", range(8))
    async def test_who_comes_while_an_endpoint_closes_is_not_left_waiting(self, turns: int) -> None:
        """However far he has come: he is refused, or told the end."""
        accepted: list[Accepted] = []
        async with self.endpoint(accepted) as endpoint:
            recorder = Recorder()
            dialling = asyncio.create_task(self.dial(endpoint.url, recorder))
            for _ in range(turns):
                await asyncio.sleep(0)
            await endpoint.aclose()
            async with patience(PATIENCE):
                (outcome,) = await asyncio.gather(dialling, return_exceptions=True)
            if isinstance(outcome, ConnectionLostError):
                assert not recorder.ends
            else:
                await until(lambda: recorder.ended)

    @pytest.mark.parametrize("turns", range(1, 9))
    async def test_a_cancelled_close_leaves_nobody_listening(self, turns: int) -> None:
        """Whatever it was at: the address is free again."""
        accepted: list[Accepted] = []
        async with self.endpoint(accepted) as endpoint:
            connection = await self.dial(endpoint.url, Recorder())
            closing = asyncio.create_task(endpoint.aclose())
            await self._cancelled(closing, turns)
            with pytest.raises(ConnectionLostError):
                await self.dial(endpoint.url, Recorder())
            connection.close()
            await connection.wait_closed()

    @pytest.mark.parametrize("turns", range(8))
    async def test_a_cancelled_listen_leaves_nobody_listening(self, turns: int) -> None:
        """However far it has come."""
        async with self.endpoint([]) as endpoint:
            url = endpoint.url
        config = self.connection_config(tls=self.server_tls, limits=self.limits, max_connections=1)
        listening = asyncio.create_task(self.transport().listen(url, Accepted, config))
        if (opened := await self._cancelled(listening, turns)) is not None:
            await opened.aclose()
        with pytest.raises(ConnectionLostError):
            await self.dial(url, Recorder())

    async def _cancelled(self, task: "asyncio.Task[T]", turns: int) -> "T | None":
        """What became of a task that was cancelled after some turns of the event loop."""
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        async with patience(PATIENCE):
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(outcome, asyncio.CancelledError):
            return None
        assert not isinstance(outcome, BaseException)
        return outcome

    async def test_an_accept_that_raises_ends_its_connection_alone(self) -> None:
        """It is a defect of the accepting side, of which the other side hears the end."""
        accepted: list[Accepted] = []
        raised: list[Accepted] = []

        def raise_once(sink: Accepted) -> None:
            if not raised:
                raised.append(sink)
                accepted.remove(sink)
                raise RuntimeError("this accept has a defect")

        async with self.endpoint(accepted, greet=raise_once) as endpoint:
            assert await self._refused(endpoint.url)
            assert not raised[0].ends
            connection = await self.dial(endpoint.url, Recorder())
            connection.send(Ping())
            await until(lambda: accepted and accepted[0].frames)
            connection.close()
            await connection.wait_closed()

    async def test_connections_are_limited(self) -> None:
        """One more than allowed is refused, and there is room again when one has left."""
        accepted: list[Accepted] = []
        async with self.endpoint(accepted, max_connections=2) as endpoint:
            recorders = [Recorder(), Recorder()]
            one, two = [await self.dial(endpoint.url, recorder) for recorder in recorders]
            await until(lambda: len(accepted) == 2)
            assert await self._refused(endpoint.url)
            assert len(accepted) == 2
            one.close()
            await until(lambda: sum(sink.ended for sink in accepted) == 1)
            three = await self.dial(endpoint.url, Recorder())
            three.send(Ping())
            await until(lambda: len(accepted) == 3 and accepted[2].frames)
            for connection in (two, three):
                connection.close()
                await connection.wait_closed()

    async def _refused(self, url: str) -> bool:
        recorder = Recorder()
        try:
            connection = await self.dial(url, recorder)
        except ConnectionLostError:
            return True
        await until(lambda: recorder.ended)
        await connection.wait_closed()
        return isinstance(recorder.ends[0], ConnectionLostError)

    async def test_a_connection_may_be_ended_while_it_is_accepted(self) -> None:
        """What is said in the same breath arrives."""
        bye = Goodbye(GoodbyeCode.CLOSING, "this server is stopping")

        def turn_away(sink: Accepted) -> None:
            sink.connection.send(bye)
            sink.connection.close()

        accepted: list[Accepted] = []
        async with self.endpoint(accepted, greet=turn_away) as endpoint:
            recorder = Recorder()
            connection = await self.dial(endpoint.url, recorder)
            await until(lambda: recorder.ended)
            assert recorder.frames == [bye]
            await connection.wait_closed()

    async def test_dialling_is_safe_to_cancel(self) -> None:
        """Wherever it is cancelled, no connection is left behind."""
        accepted: list[Accepted] = []
        async with self.endpoint(accepted) as endpoint:
            for k in range(1, 100):
                recorder = Recorder()
                opened: list[Connection] = []

                async def dial(sink: Recorder = recorder, to: list[Connection] = opened) -> None:
                    to.append(await self.dial(endpoint.url, sink))

                reached = await cancel_at(k, dial())
                for connection in opened:
                    connection.close()
                    await connection.wait_closed()
                if not reached:
                    break
            await until(lambda: all(sink.ended for sink in accepted))
            assert k < 99
