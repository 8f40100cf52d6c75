"""What lets a contract run under either plugin for `async` tests."""

from typing import Any, ClassVar

import pytest


class AsyncSuite:
    """Base of the contracts. Their tests run under pytest-asyncio where it is there, in either of
    its modes, and else under anyio's plugin, which comes with this package."""

    pytestmark: ClassVar[list[pytest.MarkDecorator]] = [pytest.mark.anyio]

    @pytest.fixture
    def anyio_backend(self) -> tuple[str, dict[str, Any]]:
        """What is tested stands on asyncio."""
        return "asyncio", {}


def run_under_asyncio_plugin() -> None:
    """From now on pytest-asyncio runs them."""
    AsyncSuite.pytestmark = [pytest.mark.asyncio]
