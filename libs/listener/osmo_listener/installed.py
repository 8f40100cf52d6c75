"""The listeners that are installed: ours and everybody's.

An entry point in the group `osmo_listener.listeners` leads to a `ListenerType`; its name is that by
which a service is told to run it.
"""

from collections.abc import Iterable
from typing import Any

from osmo_listener.listeners.registry import ListenerType
from osmo_transport import UsageError
from osmo_transport.registry import Group, named, schemes

LISTENERS = Group(
    "osmo_listener.listeners",
    {
        "event": "osmo_listener.listeners.registry:EVENT",
        "node": "osmo_listener.listeners.registry:NODE",
        "usage": "osmo_listener.listeners.registry:USAGE",
        "workflow": "osmo_listener.listeners.registry:WORKFLOW",
    },
)


def listener_types(names: Iterable[str]) -> dict[str, ListenerType[Any]]:
    """What the entry points with these names lead to, each once, in their order.

    Raises:
        UsageError: there is no such listener, it cannot be used, or two report the same kind; the
            text says what to change.
    """
    found = {name: _listener_type(name) for name in dict.fromkeys(names)}
    reporting: dict[str, str] = {}
    for name, each in found.items():
        if (other := reporting.setdefault(each.kind, name)) != name:
            raise UsageError(
                f"the listeners {other!r} and {name!r} both report {each.kind}: the snapshot of one"
                " would mark as gone what only the other sees"
            )
    return found


def _listener_type(name: str) -> ListenerType[Any]:
    found = named(LISTENERS, name)
    if found is None:
        raise UsageError(
            f"no listener is called {name!r}: there are {', '.join(schemes(LISTENERS))}"
        )
    if not isinstance(found, ListenerType):
        raise UsageError(f"the listener {name!r} is {type(found).__name__}, and no ListenerType")
    return found
