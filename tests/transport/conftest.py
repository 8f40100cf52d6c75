"""Fixtures of this folder."""

import pytest

from tests.transport.certificates import Authority, authority


@pytest.fixture(scope="session")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that both sides trust."""
    return authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another authority."""
    return authority(tmp_path_factory.mktemp("stranger"))
