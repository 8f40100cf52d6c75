"""One thread for calls that block."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class CallThread:
    """Runs calls one after the other.

    Unlike those of a `ThreadPoolExecutor`, its thread keeps no program from ending: a call may hang
    in what nobody can interrupt.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._started = False

    def submit(self, work: Callable[..., T], *args: Any) -> "Future[T]":
        """Run `work(*args)` when all before it have ended. Cancelling works until it begins."""
        future: Future[T] = Future()

        def call() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work(*args))
                except BaseException as exc:  # noqa: BLE001 - whoever waits for it gets it
                    future.set_exception(exc)

        self._calls.put(call)
        if not self._started:
            self._started = True
            self._thread.start()
        return future

    def end(self) -> None:
        """End the thread when all calls have ended."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call
