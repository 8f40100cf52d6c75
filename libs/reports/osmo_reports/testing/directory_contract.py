"""The contract of the directory beside a queue: durable, one cluster a backend, told at once."""

import asyncio
import uuid
from contextlib import aclosing

import pytest

from osmo_reports.bodies import Registration
from osmo_reports.conditions import DEFAULT_RULES
from osmo_reports.directory import (
    MAX_BACKENDS,
    MAX_FREED,
    Claim,
    Directory,
    Origin,
    RuleSet,
    merged,
)
from osmo_reports.errors import BackendTakenError, RulesDeclaredError, RulesError
from osmo_transport import QueueUnavailableError
from osmo_transport.testing.contracts.queue_suite import PATIENCE
from osmo_transport.testing.contracts.suite import AsyncSuite
from osmo_transport.testing.patience import patience

ONE, TWO, UNTOLD = Registration("uid-1", "osmo", "1.0"), Registration("uid-2"), Registration()


class DirectoryContract(AsyncSuite):
    """One test for each promise of `osmo_reports.Directory`. Override `open`."""

    name: str
    """Fresh for each test: what names the store, so that tests do not see each other's."""

    def setup_method(self) -> None:
        """Called by pytest before each test."""
        self.name = uuid.uuid4().hex

    async def open(self, max_backends: int = MAX_BACKENDS) -> Directory:
        """Open the directory `self.name`, which keeps so many names; within a test each call must
        lead to the same store."""
        raise NotImplementedError

    async def test_a_backend_belongs_to_one_cluster(self) -> None:
        """Its listeners may come again, in any version; those of another cluster are refused with
        both uids, and nothing is changed."""
        async with await self.open() as directory, await self.open() as other:
            assert await directory.register("a", ONE)
            assert not await other.register("a", Registration("uid-1", "n", "2.0"))
            assert await other.register("b", TWO)
            with pytest.raises(BackendTakenError, match=r"uid-1.*uid-2") as refused:
                await other.register("a", TWO)
            assert (refused.value.owner, refused.value.claimant) == ("uid-1", "uid-2")
            assert not await directory.register("a", ONE)

    async def test_who_does_not_tell_its_cluster_is_compared_with_none(self) -> None:
        """And takes nobody's place; who tells it later has the name."""
        async with await self.open() as directory:
            assert await directory.register("a", UNTOLD)
            assert not await directory.register("a", TWO)
            assert not await directory.register("a", UNTOLD)
            with pytest.raises(BackendTakenError):
                await directory.register("a", ONE)

    async def test_a_forgotten_name_is_free(self) -> None:
        """Without its rules: who follows them is told that the default ones hold again."""
        async with await self.open() as directory, await self.open() as other:
            await directory.register("a", ONE)
            own = await directory.set_rules("a", {"Ready": "False"})
            async with patience(PATIENCE), aclosing(other.follow_rules()) as told:
                assert (await anext(told))["a"] == own
                assert await directory.forget("a")
                default = (await anext(told))["a"]
            assert (default.rules, default.origin) == (DEFAULT_RULES, Origin.DEFAULT)
            assert default.version > own.version
            assert own.origin is Origin.COMMAND
            assert await directory.rules() == {"a": default}
            assert not await directory.forget("a")
            assert not await directory.forget("unknown")
            assert await directory.register("a", TWO)
            assert await directory.forget("a")

    async def test_names_are_bounded(self) -> None:
        """A new one is refused while as many are known as are kept; those that are known come
        again, and a name that is freed makes room."""
        async with await self.open(max_backends=2) as directory:
            assert await directory.register("a", ONE)
            assert await directory.register("b", UNTOLD)
            with pytest.raises(QueueUnavailableError, match="2 backends are known"):
                await directory.register("c", TWO)
            assert not await directory.register("a", ONE)
            assert not await directory.register("b", TWO)
            assert await directory.forget("a")
            assert await directory.register("c", TWO)
            assert await directory.backends() == {"b": TWO, "c": TWO}

    async def test_what_a_cluster_says_of_itself_is_kept_as_it_is(self) -> None:
        """Also what no cluster would say."""
        odd = Registration("uid\n\x00 ü", "a\nb", "1.0\n")
        async with await self.open() as directory:
            assert await directory.register("a", odd)
            assert not await directory.register("a", odd)
            assert await directory.backends() == {"a": odd}
            with pytest.raises(BackendTakenError):
                await directory.register("a", Registration("uid"))

    async def test_tells_who_reports_each_backend(self) -> None:
        """As they registered last."""
        async with await self.open() as directory, await self.open() as other:
            await directory.register("a", ONE)
            newer = Registration("uid-1", "osmo", "2.0")
            await other.register("a", newer)
            await other.register("b ü", UNTOLD)
            assert await directory.backends() == {"a": newer, "b ü": UNTOLD}

    async def test_a_name_that_the_store_forgot_is_put_back(self) -> None:
        """Before another cluster can take it, by whoever knows it; or after one has."""
        async with await self.open() as directory:
            known = Claim(ONE, since=1)
            with pytest.raises(BackendTakenError, match=r"uid-1.*uid-2"):
                await directory.register("a", TWO, known)
            assert not await directory.register("a", ONE, known)
            await directory.register("b", TWO)
            await directory.register("c", UNTOLD)
            await directory.restore_claims({"b": known, "c": known, "d": known})
            assert await directory.claims() == dict.fromkeys("abcd", known)
            with pytest.raises(BackendTakenError):
                await directory.register("b", TWO)

    async def test_a_later_claim_is_not_put_back_over_an_earlier_one(self) -> None:
        """Nor one that does not tell its cluster over one that does, nor old words of a cluster
        over its new ones."""
        async with await self.open() as directory:
            await directory.register("a", ONE)
            kept = await directory.claims()
            for other in (Claim(TWO, kept["a"].since + 1), Claim(UNTOLD, 1), Claim()):
                await directory.restore_claims({"a": other})
            newer = Registration("uid-1", "osmo", "2.0")
            await directory.restore_claims({"a": Claim(newer, kept["a"].since)})
            assert await directory.claims() == kept

    async def test_a_forgotten_name_is_not_put_back(self) -> None:
        """By who has not heard of it; who has tells a store that lost its memory."""
        async with await self.open() as directory:
            await directory.register("a", ONE)
            old = (await directory.claims())["a"]
            assert await directory.forget("a")
            await directory.restore_claims({"a": old})
            freed = (await directory.claims())["a"]
            assert freed.registration is None
            assert await directory.backends() == {}
            assert await directory.register("a", TWO, old)
            new = (await directory.claims())["a"]
            assert new.freed == freed.freed <= new.since
            await directory.restore_claims({"a": old, "b": old})
            await directory.restore_claims({"b": Claim(freed=old.since + 1)})
            assert await directory.claims() == {"a": new, "b": Claim(freed=old.since + 1)}

    async def test_what_is_put_back_agrees_in_any_order(self) -> None:
        """Of whatever several know, and as `merged` says."""
        claims = [
            Claim(registration, since, freed)
            for registration in (ONE, TWO, UNTOLD)
            for since, freed in ((5, 0), (5, 5), (6, 5), (7, 7))
        ]
        claims += [Claim(freed=5), Claim(freed=6)]
        pairs = {f"{i} {j}": (a, b) for i, a in enumerate(claims) for j, b in enumerate(claims)}
        async with await self.open() as directory:
            await directory.restore_claims({name: first for name, (first, _) in pairs.items()})
            await directory.restore_claims({name: second for name, (_, second) in pairs.items()})
            kept = await directory.claims()
        for name, (first, second) in pairs.items():
            assert kept[name] == merged(first, second) == merged(second, first)

    async def test_what_is_put_back_is_bounded(self) -> None:
        """As names are; of freed ones the latest are kept."""
        async with await self.open(max_backends=1) as directory:
            await directory.register("a", ONE)
            await directory.restore_claims({"b": Claim(ONE, since=1)})
            assert await directory.backends() == {"a": ONE}
            freed = {f"freed {number}": Claim(freed=number) for number in range(2, MAX_FREED + 3)}
            await directory.restore_claims(freed)
            del freed["freed 2"]
            assert set(await directory.claims()) == {"a", *freed}

    async def test_who_follows_the_names_is_told(self) -> None:
        """First whose they are, then after each change."""
        async with await self.open() as directory, await self.open() as other:
            await directory.register("a", ONE)
            async with patience(PATIENCE), aclosing(other.follow_claims()) as told:
                assert (await anext(told))["a"].registration == ONE
                await directory.register("b", TWO)
                assert set(await anext(told)) == {"a", "b"}
                await directory.forget("a")
                assert (await anext(told))["a"].registration is None

    async def test_rules_are_kept_by_backend(self) -> None:
        """Whoever opens the queue reads the newest, whose version is higher than any before."""
        async with await self.open() as directory, await self.open() as other:
            first = await directory.set_rules("a", {"Ready": "True", "ä|b": ".*"})
            second = await other.set_rules("a", {"Ready": "False"})
            assert second.version > first.version > 1_577_836_800_000
            third = await other.set_rules("b ü", {})
            assert await directory.rules() == {"a": second, "b ü": third}

    async def test_rules_that_cannot_be_used_change_nothing(self) -> None:
        """The error names each of them."""
        async with await self.open() as directory:
            kept = await directory.set_rules("a", {"Ready": "True"})
            with pytest.raises(RulesError) as refused:
                await directory.set_rules("a", {"Disk(": "True", "A": "True", "B": "["})
            assert len(refused.value.problems) == 2
            assert await directory.rules() == {"a": kept}

    async def test_what_a_file_declares_nobody_else_decides(self) -> None:
        """It goes over what was set; until it declares nothing any more, which only it can say."""
        async with await self.open() as directory, await self.open() as other:
            before = await directory.set_rules("a", {"Ready": "1"})
            declared = await directory.declare_rules("a", {"Ready": "2"})
            assert declared is not None
            assert declared.version > before.version
            assert (declared.rules, declared.origin) == ({"Ready": "2"}, Origin.FILE)
            with pytest.raises(RulesDeclaredError, match="--rules-file"):
                await other.set_rules("a", {"Ready": "3"})
            assert await other.declare_rules("a", {"Ready": "2"}) == declared
            assert await other.rules() == {"a": declared}
            withdrawn = await other.declare_rules("a", None)
            assert withdrawn is not None
            assert withdrawn.version > declared.version
            assert (withdrawn.rules, withdrawn.origin) == (DEFAULT_RULES, Origin.DEFAULT)
            newest = await directory.set_rules("a", {"Ready": "3"})
            assert await other.declare_rules("a", None) == newest
            assert await other.declare_rules("b", None) is None
            assert await other.rules() == {"a": newest}

    async def test_a_forgotten_backend_is_not_declared_any_more(self) -> None:
        """Also one of which the file declares the default rules."""
        async with await self.open() as directory:
            await directory.declare_rules("a", DEFAULT_RULES)
            assert await directory.forget("a")
            assert (await directory.rules())["a"].origin is Origin.DEFAULT
            assert not await directory.forget("a")
            with pytest.raises(RulesError):
                await directory.declare_rules("a", {"Ready": "["})

    async def test_rules_are_put_back_but_never_over_newer_ones(self) -> None:
        """Under their versions, and who follows is told; a forgotten backend's stay the default."""
        async with await self.open() as directory, await self.open() as other:
            kept = await directory.set_rules("kept", {"Ready": "1"})
            old = await directory.set_rules("forgotten", {"Ready": "False"})
            await directory.forget("forgotten")
            default = (await directory.rules())["forgotten"]
            lost = RuleSet(kept.version, {"Ready": "2"}, Origin.DEPLOYED)
            async with patience(PATIENCE), aclosing(other.follow_rules()) as told:
                await anext(told)
                for _ in range(2):
                    older = RuleSet(kept.version - 1, {"Ready": "0"})
                    await directory.restore_rules({"kept": older, "forgotten": old, "lost": lost})
                expected = {"kept": kept, "forgotten": default, "lost": lost}
                assert await anext(told) == expected
            newer = await directory.set_rules("lost", {"Ready": "3"})
            assert newer.version > lost.version

    async def test_who_follows_the_rules_is_told_at_once(self) -> None:
        """First what they are, then after each change, also one that came while it did not look."""
        async with await self.open() as directory, await self.open() as other:
            await directory.set_rules("a", {"Ready": "1"})
            async with patience(PATIENCE), aclosing(other.follow_rules()) as told:
                assert (await anext(told))["a"].rules == {"Ready": "1"}
                for text in ("2", "3"):
                    await directory.set_rules("a", {"Ready": text})
                assert (await anext(told))["a"].rules == {"Ready": "3"}
                waiting = asyncio.ensure_future(anext(told))
                await asyncio.sleep(0.01)
                await directory.set_rules("b", {"Ready": "4"})
                assert set(await waiting) == {"a", "b"}
