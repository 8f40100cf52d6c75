"""The contract of `osmo_transport.credentials.Authenticator`: derive from `AuthenticatorContract`.

class TestMine(AuthenticatorContract):
    def authenticator(self): return MyAuthenticator(...)
    def good(self): return Presented(token=...)
    def others(self): return {"unknown": Presented(token=...), ...}
"""

import asyncio
import logging
import time
from abc import abstractmethod
from collections.abc import Mapping

import pytest

from osmo_transport.credentials import MAX_TOKEN, AnyOf, Authenticator, Identity, Presented
from osmo_transport.errors import CredentialRefusedError, CredentialUncheckedError
from osmo_transport.testing.contracts.suite import AsyncSuite

HOSTILE = (
    "",
    " ",
    ".",
    "..",
    "...",
    "a.b.c",
    "e30.e30.",
    "\x00",
    "ä" * 100,
    "\ud800",
    "%s%n{0}",
    "x" * MAX_TOKEN,
    "." * MAX_TOKEN,
    "eyJhbGciOiJub25lIn0.e30.",
)
"""Tokens that are none."""


class AuthenticatorContract(AsyncSuite):
    """Tests of an implementation, which is made anew for each of them."""

    @abstractmethod
    def authenticator(self) -> Authenticator:
        """A new one."""

    @abstractmethod
    def good(self) -> Presented:
        """What it knows."""

    @abstractmethod
    def others(self) -> Mapping[str, Presented]:
        """What is of its kind and no good, by what is wrong with it."""

    async def test_it_knows_what_is_good(self) -> None:
        """By a name for people, for some backends, and for a time that is not over."""
        async with self.authenticator() as asked:
            identity = await asked.identify(self.good())
        assert isinstance(identity, Identity)
        assert identity.name
        assert identity.backends
        assert identity.expires > time.time()
        assert identity.recheck > 0

    async def test_it_refuses_what_is_no_good(self) -> None:
        """With a reason in which there is no secret, and nothing of it is logged."""
        records: list[logging.LogRecord] = []
        handler = logging.Handler()
        handler.emit = records.append  # type: ignore[assignment,method-assign]
        logging.getLogger().addHandler(handler)
        try:
            async with self.authenticator() as asked:
                for what, presented in self.others().items():
                    with pytest.raises(CredentialRefusedError) as caught:
                        assert await asked.identify(presented) is not None, what
                    assert str(caught.value), what
                    assert not presented.token or presented.token not in str(caught.value), what
        finally:
            logging.getLogger().removeHandler(handler)
        for record in records:
            for presented in self.others().values():
                assert not presented.token or presented.token not in record.getMessage()

    async def test_what_is_not_of_its_kind_is_left_to_others(self) -> None:
        """Nothing at all, for example."""
        async with self.authenticator() as asked:
            assert await asked.identify(Presented(address="somewhere")) is None

    @pytest.mark.parametrize("token", HOSTILE, ids=repr)
    async def test_nothing_that_is_presented_breaks_it(self, token: str) -> None:
        """It is refused, or not of its kind."""
        async with self.authenticator() as asked:
            for certificate in (b"", b"\x00", token.encode(errors="replace")):
                try:
                    found = await asked.identify(Presented(token, certificate))
                except (CredentialRefusedError, CredentialUncheckedError):
                    found = None
                assert found is None

    async def test_it_is_asked_at_the_same_time(self) -> None:
        """And whoever stops waiting for an answer takes it from nobody else."""
        async with self.authenticator() as asked:
            waiting = [asyncio.create_task(asked.identify(self.good())) for _ in range(20)]
            await asyncio.sleep(0)
            for each in waiting[::2]:
                each.cancel()
            answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(answer, Identity) for answer in answers[1::2])

    async def test_its_generation_stays_while_nothing_changes(self) -> None:
        """Or everybody would be looked at again each second."""
        async with self.authenticator() as asked:
            await asked.identify(self.good())
            before = asked.generation
            await asked.identify(self.good())
            assert asked.generation == before

    async def test_it_is_one_of_several(self) -> None:
        """Beside another kind, which knows nothing."""
        async with AnyOf([_KnowsNothing(), self.authenticator(), _KnowsNothing()]) as asked:
            assert await asked.identify(self.good()) is not None

    async def test_closing_twice_is_closing(self) -> None:
        """`aclose` is idempotent."""
        asked = self.authenticator()
        await asked.aclose()
        await asked.aclose()


class _KnowsNothing(Authenticator):
    kind = "nothing"

    async def identify(self, presented: Presented) -> Identity | None:
        return None
