"""What a service tells of the files that somebody else keeps fresh for it."""

import asyncio
import time
from collections.abc import Callable
from math import isfinite
from typing import TYPE_CHECKING, NoReturn

from osmo_runtime.operations.figures import (
    CERTIFICATE_EXPIRY,
    FILE_FAILURES,
    FILE_REFUSED,
    FILE_UNUSABLE,
    Figure,
    Reading,
)
from osmo_transport import files
from osmo_transport.files import Watched

if TYPE_CHECKING:
    from osmo_runtime.operations.operations import Operations


async def look_at_files() -> NoReturn:
    """Look at each file also while nobody needs it, so that one which cannot be used is told of
    before somebody does."""
    while True:
        for each in files.watched():
            each.look()
        await asyncio.sleep(files.LOOK_INTERVAL)


def show_files(operations: "Operations", wall: Callable[[], float] = time.time) -> None:
    """Tell how it is with them. `wall` gives seconds since the Unix epoch."""

    def tell(figure: Figure, value: Callable[[Watched[object]], float]) -> None:
        def read() -> list[Reading]:
            # Two parts of a program may each use a file: what is worst of it is told.
            worst = min if figure is CERTIFICATE_EXPIRY else max
            found: dict[str, float] = {}
            for each in files.watched():
                name, now = str(each.path), value(each)
                found[name] = worst(found.get(name, now), now)
            return [(now, {"file": name}) for name, now in found.items() if isfinite(now)]

        operations.measure(figure, read)

    tell(FILE_FAILURES, lambda each: each.failures)
    tell(FILE_UNUSABLE, lambda each: bool(each.trouble))
    tell(FILE_REFUSED, lambda each: each.refused)
    tell(CERTIFICATE_EXPIRY, lambda each: each.ends - wall())
    operations.readiness.hint("files", _unusable)


def _unusable() -> str:
    found = {each.trouble for each in files.watched() if each.trouble}
    return "; ".join(f"{trouble}; what it was before stays in force" for trouble in sorted(found))
