"""The contract of the directory beside a queue: durable, one cluster a backend, told at once."""

import asyncio
from contextlib import aclosing

import pytest

from osmo_transport.bodies import Registration
from osmo_transport.conditions import DEFAULT_RULES
from osmo_transport.errors import BackendTakenError, RulesError
from osmo_transport.testing._queue_suite import PATIENCE, QueueSuite

ONE, TWO, UNTOLD = Registration("uid-1", "osmo", "1.0"), Registration("uid-2"), Registration()


class Directing(QueueSuite):
    """Tests of `Queue.directory`."""

    async def test_a_backend_belongs_to_one_cluster(self) -> None:
        """Its listeners may come again, in any version; those of another cluster are refused with
        both uids, and nothing is changed."""
        async with self.opened() as queue, self.opened() as other:
            assert await queue.directory.register("a", ONE)
            assert not await other.directory.register("a", Registration("uid-1", "n", "2.0"))
            assert await other.directory.register("b", TWO)
            with pytest.raises(BackendTakenError, match=r"uid-1.*uid-2") as refused:
                await other.directory.register("a", TWO)
            assert (refused.value.owner, refused.value.claimant) == ("uid-1", "uid-2")
            assert not await queue.directory.register("a", ONE)

    async def test_who_does_not_tell_its_cluster_is_compared_with_none(self) -> None:
        """And takes nobody's place; who tells it later has the name."""
        async with self.opened() as queue:
            directory = queue.directory
            assert await directory.register("a", UNTOLD)
            assert not await directory.register("a", TWO)
            assert not await directory.register("a", UNTOLD)
            with pytest.raises(BackendTakenError):
                await directory.register("a", ONE)

    async def test_a_forgotten_name_is_free(self) -> None:
        """Without its rules: who follows them is told that the default ones hold again."""
        async with self.opened() as queue, self.opened() as other:
            directory = queue.directory
            await directory.register("a", ONE)
            own = await directory.set_rules("a", {"Ready": "False"})
            async with asyncio.timeout(PATIENCE), aclosing(other.directory.follow_rules()) as told:
                assert (await anext(told))["a"] == own
                assert await directory.forget("a")
                default = (await anext(told))["a"]
            assert default.rules == DEFAULT_RULES
            assert default.version > own.version
            assert await directory.rules() == {"a": default}
            assert not await directory.forget("a")
            assert not await directory.forget("unknown")
            assert await directory.register("a", TWO)
            assert await directory.forget("a")

    async def test_tells_who_reports_each_backend(self) -> None:
        """As they registered last."""
        async with self.opened() as queue, self.opened() as other:
            await queue.directory.register("a", ONE)
            newer = Registration("uid-1", "osmo", "2.0")
            await other.directory.register("a", newer)
            await other.directory.register("b ü", UNTOLD)
            assert await queue.directory.backends() == {"a": newer, "b ü": UNTOLD}

    async def test_rules_are_kept_by_backend(self) -> None:
        """Whoever opens the queue reads the newest, whose version is higher than any before."""
        async with self.opened() as queue, self.opened() as other:
            first = await queue.directory.set_rules("a", {"Ready": "True", "ä|b": ".*"})
            second = await other.directory.set_rules("a", {"Ready": "False"})
            assert second.version > first.version > 1_577_836_800_000
            third = await other.directory.set_rules("b ü", {})
            assert await queue.directory.rules() == {"a": second, "b ü": third}

    async def test_rules_that_cannot_be_used_change_nothing(self) -> None:
        """The error names each of them."""
        async with self.opened() as queue:
            kept = await queue.directory.set_rules("a", {"Ready": "True"})
            with pytest.raises(RulesError) as refused:
                await queue.directory.set_rules("a", {"Disk(": "True", "A": "True", "B": "["})
            assert len(refused.value.problems) == 2
            assert await queue.directory.rules() == {"a": kept}

    async def test_who_follows_the_rules_is_told_at_once(self) -> None:
        """First what they are, then after each change, also one that came while it did not look."""
        async with self.opened() as queue, self.opened() as other:
            await queue.directory.set_rules("a", {"Ready": "1"})
            async with asyncio.timeout(PATIENCE), aclosing(other.directory.follow_rules()) as told:
                assert (await anext(told))["a"].rules == {"Ready": "1"}
                for text in ("2", "3"):
                    await queue.directory.set_rules("a", {"Ready": text})
                assert (await anext(told))["a"].rules == {"Ready": "3"}
                waiting = asyncio.ensure_future(anext(told))
                await asyncio.sleep(0.01)
                await queue.directory.set_rules("b", {"Ready": "4"})
                assert set(await waiting) == {"a", "b"}
