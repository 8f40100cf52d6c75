"""The users of Redis that the production guide makes: one for each role, with its rights."""

import shlex

from osmo_runtime.queues import QueueLayout
from osmo_transport.testing.redis_server import RedisServer
from tests.documents.guide import fenced, inline

GUIDE = "docs/production.md"
ROLES = ("operator", "worker", "admin", "reader")
LAYOUTS: tuple[QueueLayout, ...] = ("own", "osmo")
PASSWORD = "PASSWORD"
_BLOCKS = {
    "own": ("ACL SETUSER osmo-operator reset",),
    "osmo": ("ACL SETUSER osmo-operator reset", "ACL SETUSER osmo-operator ~backend"),
}

IN_A_CLUSTER = inline(GUIDE, "+cluster").split()
"""What all of them need there besides."""


def rules_of(role: str, layout: QueueLayout, namespace: str = "osmo") -> list[str]:
    """What `ACL SETUSER` is told of the role's user, in a layout of the queue."""
    lines = [line for block in _BLOCKS[layout] for line in fenced(GUIDE, block).splitlines()]
    words = [shlex.split(line)[2:] for line in lines]
    rules = [rule for user, *given in words if user == f"osmo-{role}" for rule in given]
    return [rule.replace("{osmo}", f"{{{namespace}}}") for rule in rules]


def allow(
    server: RedisServer,
    layout: QueueLayout,
    namespace: str = "osmo",
    without: tuple[str, str] | None = None,
) -> dict[str, str]:
    """Let the users of the guide do what it says, but for one rule of a role, and nothing else; by
    role the URL of the queue."""
    for role in ROLES:
        rules = [rule for rule in rules_of(role, layout, namespace) if (role, rule) != without]
        server.command("ACL", "SETUSER", f"osmo-{role}", *rules)
    server.command("ACL", "LOG", "RESET")
    at = f"127.0.0.1:{server.port}/0?namespace={namespace}&layout={layout}"
    return {role: f"redis://osmo-{role}:{PASSWORD}@{at}" for role in ROLES}


def denied(server: RedisServer) -> set[str]:
    """What a user tried and may not: commands and keys."""
    log: list[list[bytes]] = server.command("ACL", "LOG")
    entries = (dict(zip(entry[::2], entry[1::2], strict=True)) for entry in log)
    return {entry[b"object"].decode() for entry in entries} - HARMLESS


HARMLESS = {"client", "client|setinfo"}
"""The client library's name, as the guide says."""
