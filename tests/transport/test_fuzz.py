"""Hostile peers at both sides of each transport: a short run of `tests.transport.fuzz`, that says
the same each time."""

import pytest

from tests.transport.fuzz.figures import Figures
from tests.transport.fuzz.operator import SCHEMES
from tests.transport.fuzz.runs import fuzz_client, fuzz_server

SEED = 18
"""With it, the second of two rounds over gRPC is one of a server that speaks no gRPC."""


def check(figures: Figures, frames: int) -> None:
    """Enough was said, and everything held."""
    damage = figures.damage
    assert damage.frames >= frames
    assert damage.welcomed > damage.connections // 3
    assert figures.acknowledged
    assert not figures.broken, "\n".join([str(figures), *figures.notes, *damage.notes])


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_hostile_clients_harm_nobody(scheme: str) -> None:
    """They lose their connections and are told why; the relay goes on, an innocent client is
    acknowledged to the end, and the memory stays within the stated limits."""
    check(await fuzz_server(scheme, 1000, SEED), 1000)


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_hostile_servers_stop_no_client(scheme: str) -> None:
    """They lose their clients and are told why; when a good server takes over, everything that was
    sent is acknowledged or refused."""
    check(await fuzz_client(scheme, 1000, SEED, rounds=2), 1000)
