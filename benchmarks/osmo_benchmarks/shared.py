"""What the heats of one experiment share, so that a large cluster is made once."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Shared:
    """Holds what was entered until the experiment's last heat. Use as `async with`."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._held: dict[str, Any] = {}

    async def get(self, key: str, make: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """What `make` gave when `key` was first asked for in this experiment.

        Raises: what `make` raises; it is then tried again when next asked for.
        """
        if key not in self._held:
            self._held[key] = await self._stack.enter_async_context(make())
        held: T = self._held[key]
        return held

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._held.clear()
        await self._stack.aclose()
