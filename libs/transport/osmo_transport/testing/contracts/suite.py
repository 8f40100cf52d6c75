"""What lets a contract run under either plugin for `async` tests."""

import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

import pytest

from osmo_transport.testing.patience import patience

Test = Callable[..., Coroutine[Any, Any, None]]


class AsyncSuite:
    """Base of the contracts. Their tests run under pytest-asyncio where it is there, in either of
    its modes, and else under anyio's plugin, which comes with this package."""

    pytestmark: ClassVar[list[pytest.MarkDecorator]] = [pytest.mark.anyio]

    patience: ClassVar[float] = 60.0
    """Seconds that one test may take, far more than the slowest needs; to be set for what is slower
    still. A test that hangs fails then, and says where."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, test in list(vars(cls).items()):
            if name.startswith("test_") and inspect.iscoroutinefunction(test):
                setattr(cls, name, _in_time(test))

    @pytest.fixture
    def anyio_backend(self) -> tuple[str, dict[str, Any]]:
        """What is tested stands on asyncio."""
        return "asyncio", {}


def _in_time(test: Test) -> Test:
    """The same test, within the patience of its suite."""

    @functools.wraps(test)
    async def run(self: AsyncSuite, *args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        async with patience(self.patience):
            await test(self, *args, **kwargs)

    return run


def run_under_asyncio_plugin() -> None:
    """From now on pytest-asyncio runs them."""
    AsyncSuite.pytestmark = [pytest.mark.asyncio]
