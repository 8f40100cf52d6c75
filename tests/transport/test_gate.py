"""Who is let in by what he presented, for how long, and what is asked again: without a network."""

import asyncio
import logging
from dataclasses import dataclass, field
from math import inf

import pytest

from osmo_transport import (
    AnyOf,
    Authenticator,
    CredentialExpiredError,
    CredentialRefusedError,
    CredentialUncheckedError,
    Identity,
    Presented,
    TransportError,
)
from osmo_transport._gate import MAX_CHECKS, UNCHECKED, Gate, Pass
from osmo_transport._text import MAX_SHOWN

TIMEOUT = 5.0


class Book(Authenticator):
    """Tokens by name, as a test writes them down."""

    kind = "book"

    def __init__(self, **known: Identity) -> None:
        self.known = known
        self.version = 0
        self.away = False
        self.asked = 0
        self.at_once = 0
        self.most_at_once = 0
        self.turn: asyncio.Event | None = None

    @property
    def generation(self) -> object:
        return self.version

    async def identify(self, presented: Presented) -> Identity | None:
        self.asked += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.turn is not None:
                await self.turn.wait()
            await asyncio.sleep(0)
        finally:
            self.at_once -= 1
        if self.away:
            raise CredentialUncheckedError("nobody is there")
        if not presented.token:
            return None
        found = self.known.get(presented.token)
        if found is None:
            raise CredentialRefusedError("no such token")
        return found


@dataclass
class Clock:
    """Moved by hand."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(eq=False)
class Client:
    """A client that was let in."""

    presented: Presented
    pass_: Pass | None = None
    told: bool = False
    ends: list[TransportError] = field(default_factory=list)

    def fail(self, error: TransportError) -> None:
        self.ends.append(error)
        self.pass_ = None


class World:
    """A gate, its clock, and those who came through it."""

    def __init__(self, **known: Identity) -> None:
        self.book = Book(**known)
        self.clock = Clock()
        self.gate = Gate(self.book, TIMEOUT, self.clock, self.clock)
        self.clients: list[Client] = []

    async def enter(self, token: str, backend: str = "a") -> Client:
        presented = Presented(token, address="somewhere")
        client = Client(presented, await self.gate.admit(presented, backend))
        self.clients.append(client)
        return client

    async def tick(self, seconds: float = 1.0) -> None:
        self.clock.now += seconds
        self.gate.tick(self.clients)
        await settled()


async def settled() -> None:
    """Everything that can go on has."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("backends", "backend", "may"),
    [
        (("a",), "a", True),
        (("a",), "A", False),
        (("a",), "ab", False),
        (("a", "b"), "b", True),
        (("eu-*",), "eu-1", True),
        (("eu-*",), "us-eu-1", False),
        (("*",), "anything\nat all", True),
        (("a.b",), "axb", False),
        (("[ab]", "a?"), "a", False),
        ((), "", False),
    ],
)
def test_for_which_backends(backends: tuple[str, ...], backend: str, may: bool) -> None:
    """Only `*` stands for others, and a name is compared as it is."""
    assert Identity("x", backends).may_report(backend) is may


def test_what_was_presented_shows_no_secret() -> None:
    """Neither as text nor in a traceback's values."""
    shown = f"{Presented('s3cret', b'der', 'here')!r} {Presented('s3cret')}"
    assert "s3cret" not in shown
    assert "der" not in shown


async def test_who_may_is_let_in() -> None:
    """For the backend that his credential names."""
    world = World(good=Identity("book good", ("a",)))
    client = await world.enter("good")
    assert client.pass_ is not None
    assert client.pass_.identity.name == "book good"


async def test_who_may_not_is_told_why() -> None:
    """Without a credential, with an unknown one, for another backend, or too late."""
    world = World(good=Identity("book good", ("a",)), old=Identity("book old", ("a",), 999.0))
    for token, backend, error, text in (
        ("", "a", CredentialRefusedError, "it presented no credential: set --client-token-file"),
        ("bad", "a", CredentialRefusedError, "no such token"),
        ("good", "b", CredentialRefusedError, "book good may not report for b"),
        ("old", "a", CredentialExpiredError, "book old has expired"),
    ):
        with pytest.raises(error, match=text):
            await world.enter(token, backend)


class Nobody(Authenticator):
    """Takes what is presented for nothing of its own."""

    kind = "nobody"

    async def identify(self, presented: Presented) -> Identity | None:
        return None


@pytest.mark.parametrize(
    ("presented", "text"),
    [
        (Presented(), "presented no credential"),
        (Presented("s3cret"), "the token that it presented is malformed, or of a kind that"),
        (Presented("s3cret", b"der"), "the token that it presented is malformed"),
        (Presented(certificate=b"der"), "lets nobody in by a certificate"),
    ],
)
async def test_what_no_kind_knows_is_told_as_what_it_is(presented: Presented, text: str) -> None:
    """As long as a client shows a reason, and without the secret."""
    gate = Gate(Nobody(), TIMEOUT, Clock(), Clock())
    with pytest.raises(CredentialRefusedError, match=text) as caught:
        await gate.admit(presented, "a")
    assert "s3cret" not in str(caught.value)
    assert len(str(caught.value)) <= MAX_SHOWN


async def test_nobody_waits_for_ever_for_who_decides() -> None:
    """It is asked for in vain for so long, and then the client comes back later."""
    world = World()
    world.gate = Gate(world.book, 0.0, world.clock, world.clock)
    world.book.turn = asyncio.Event()
    with pytest.raises(CredentialUncheckedError, match="within 0 s"):
        await world.enter("good")


async def test_a_credential_that_is_over_ends_its_connection() -> None:
    """At its expiry, by the clock on the wall; others stay."""
    world = World(short=Identity("s", ("a",), 1_002.0), long=Identity("l", ("a",)))
    short, long = await world.enter("short"), await world.enter("long")
    await world.tick()
    assert not short.ends
    await world.tick()
    (end,) = short.ends
    assert isinstance(end, CredentialExpiredError)
    assert not long.ends


async def test_a_thousand_renewals_in_place() -> None:
    """Each moves the end, and none ends the connection."""
    world = World(t0=Identity("t", ("a",), 1_002.0))
    client = await world.enter("t0")
    for number in range(1, 1001):
        expires = world.clock.now + 2.0
        world.book.known = {f"t{number}": Identity("t", ("a",), expires)}
        world.gate.renew(client, f"t{number}")
        await settled()
        await world.tick()
    assert not client.ends
    assert client.presented.token == "t1000"


async def test_who_presents_another_credential_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """So that it can be known when the one before may be revoked."""
    caplog.set_level(logging.INFO)
    world = World(old=Identity("book old", ("a",)), new=Identity("book new", ("a",), inf, 1.0))
    client = await world.enter("old")
    world.gate.renew(client, "new")
    await settled()
    await world.tick()
    (line,) = caplog.messages
    assert line.endswith("reports by book new from now on")


async def test_a_renewal_for_another_backend_ends_the_connection() -> None:
    """As a hello for it would have been refused."""
    world = World(good=Identity("g", ("a",)), other=Identity("o", ("b",)))
    client = await world.enter("good")
    world.gate.renew(client, "other")
    await settled()
    (end,) = client.ends
    assert "o may not report for a" in str(end)


async def test_a_renewal_that_is_over_already_changes_nothing() -> None:
    """What the client was let in with holds until its own end."""
    world = World(good=Identity("g", ("a",), 2_000.0), old=Identity("g", ("a",), 1.0))
    client = await world.enter("good")
    world.gate.renew(client, "old")
    await settled()
    assert not client.ends
    assert client.presented.token == "good"


async def test_of_many_renewals_at_once_the_newest_is_looked_at() -> None:
    """One at a time: whoever sends a thousand does not have a thousand looked at."""
    world = World(good=Identity("g", ("a",)), last=Identity("last", ("a",)))
    client = await world.enter("good")
    world.book.turn = asyncio.Event()
    asked = world.book.asked
    for number in range(1000):
        world.gate.renew(client, "last" if number == 999 else "good")
        if number == 0:
            await settled()
    world.book.turn.set()
    await settled()
    assert world.book.asked - asked == 2
    assert client.presented.token == "last"


async def test_whoever_is_revoked_is_out_at_the_next_tick() -> None:
    """When the authenticator says that something changed, all are looked at again."""
    world = World(good=Identity("g", ("a",)), bad=Identity("b", ("a",)))
    good, bad = await world.enter("good"), await world.enter("bad")
    del world.book.known["bad"]
    await world.tick()
    assert not bad.ends
    world.book.version += 1
    await world.tick()
    assert isinstance(bad.ends[0], CredentialRefusedError)
    assert str(bad.ends[0]) == "b may report no more: no such token"
    assert bad.told
    assert not good.ends


async def test_a_credential_is_looked_at_again_when_its_time_has_come() -> None:
    """Not before, and then only as often as it asks for."""
    world = World(good=Identity("g", ("a",), inf, 10.0))
    client = await world.enter("good")
    for _ in range(30):
        await world.tick()
    assert world.book.asked == 1 + 3
    world.book.known.clear()
    await world.tick(10.0)
    assert client.ends


async def test_who_decides_may_be_away() -> None:
    """Who is inside stays, until his credential ends."""
    world = World(good=Identity("g", ("a",), 1_020.0, 1.0))
    client = await world.enter("good")
    world.book.away = True
    world.book.version += 1
    for _ in range(10):
        await world.tick()
    world.gate.renew(client, "newer")
    await settled()
    assert not client.ends
    await world.tick(10.0)
    assert isinstance(client.ends[0], CredentialExpiredError)


@pytest.mark.parametrize("recheck", [300.0, inf])
async def test_what_nobody_could_check_is_asked_about_again_soon(recheck: float) -> None:
    """Long before its turn would come, ever more seldom, and no longer than what it was let in with
    lasts; once somebody says whose it is, at its turn."""
    world = World(old=Identity("o", ("a",), 2_000.0, recheck))
    client = await world.enter("old")
    world.book.away = True
    world.gate.renew(client, "new")
    asked = world.book.asked
    for _ in range(300):
        await world.tick()
    assert 300 / (UNCHECKED.maximum + 1) - 1 <= world.book.asked - asked < 100
    world.book.away = False
    world.book.known = {"new": Identity("n", ("a",), 3_000.0, recheck)}
    for _ in range(int(UNCHECKED.maximum) + 1):
        await world.tick()
    assert client.pass_ is not None
    assert client.pass_.identity.name == "n"
    asked = world.book.asked
    for _ in range(250):
        await world.tick()
    assert world.book.asked == asked
    world.book.away = True
    world.gate.renew(client, "newer")
    await world.tick(3_000.0)
    assert isinstance(client.ends[0], CredentialExpiredError)


async def test_a_change_met_while_others_are_looked_at_is_taken_up_at_once() -> None:
    """Whoever decides may be silent for long, and what was revoked elsewhere does not wait."""
    world = World(good=Identity("g", ("a",), inf, 1.0))
    client = await world.enter("good")
    world.book.turn = asyncio.Event()
    await world.tick()
    world.book.turn = None
    world.book.known.clear()
    world.book.version += 1
    await world.tick()
    assert client.ends
    await world.gate.aclose()


async def test_a_look_that_took_long_does_not_undo_a_renewal() -> None:
    """Neither with what it knows of the former token, nor by ending the connection for it."""
    world = World(old=Identity("o", ("a",), inf, 1.0), new=Identity("n", ("a",), inf, 1.0))
    client = await world.enter("old")
    turn = world.book.turn = asyncio.Event()
    await world.tick()
    world.book.turn = None
    world.gate.renew(client, "new")
    await settled()
    del world.book.known["old"]
    turn.set()
    await settled()
    assert not client.ends
    assert client.presented.token == "new"
    assert client.pass_ is not None
    assert client.pass_.identity.name == "n"


async def test_so_many_are_looked_at_at_a_time() -> None:
    """Whoever decides is not run over."""
    world = World(good=Identity("g", ("a",)))
    for _ in range(10 * MAX_CHECKS):
        await world.enter("good")
    world.book.most_at_once = 0
    world.book.version += 1
    await world.tick()
    for _ in range(20):
        await settled()
    assert world.book.most_at_once == MAX_CHECKS
    assert world.book.asked == 20 * MAX_CHECKS


async def test_a_defect_of_an_authenticator_ends_nobody_s_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged, and the next look may do better."""
    world = World(good=Identity("g", ("a",), inf, 1.0))
    client = await world.enter("good")
    known, world.book.known = world.book.known, None  # type: ignore[assignment]
    await world.tick()
    assert "a defect of this program" in caplog.text
    assert not client.ends
    world.book.known = known
    await world.tick()
    assert world.book.asked == 3


async def test_several_kinds_are_asked_in_turn() -> None:
    """The first that knows it counts; where none does, each says why, the expired one first."""
    first, second = Book(x=Identity("x", ("a",))), Book(y=Identity("y", ("a",)))
    both = AnyOf([first, second])
    for token in "xy":
        found = await both.identify(Presented(token))
        assert found is not None
        assert found.name == token
    assert await both.identify(Presented()) is None
    with pytest.raises(CredentialRefusedError, match="no such token; no such token"):
        await both.identify(Presented("z"))
    before = both.generation
    second.version += 1
    assert both.generation != before
