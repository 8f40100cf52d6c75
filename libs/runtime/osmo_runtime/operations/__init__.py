"""How a service is seen from outside: whether it lives, whether it is ready, and its figures.

    async with open_operations("osmo-operator", settings, stop) as operations:
        operations.check("queue", lambda: Check(ok=relay.ready, reason="appends fail"))
        operations.work("relay", lambda: Work(waits=relay.has_work, done=relay.tries))
        operations.measure(APPENDED, lambda: [(relay.stored, {})])

What is given here is only called when somebody asks: a probe, a scrape, or the second hand of
the clock. Nothing of it is on the way of a message.
"""

from osmo_runtime.operations.config import ServiceConfig
from osmo_runtime.operations.figures import Figure, Histogram, Kind, Reading
from osmo_runtime.operations.health import Check, Work
from osmo_runtime.operations.inquiry import Inquiry
from osmo_runtime.operations.operations import Operations, open_operations

__all__ = (
    "Check",
    "Figure",
    "Histogram",
    "Inquiry",
    "Kind",
    "Operations",
    "Reading",
    "ServiceConfig",
    "Work",
    "open_operations",
)
