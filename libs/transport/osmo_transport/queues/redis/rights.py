"""What is said where the user of a queue lacks a right: which one, and what gives it.

The versions of Redis and Valkey say it in different words, and Redis 6.2 does not name a command
that a script runs, but the line in which it does.
"""

import re
from collections.abc import Sequence

GUIDE = "docs/production.md, Access"
"""Where the rights of each program's user are listed."""

_NOT_ALLOWED = re.compile(
    r"NOPERM|ACL failure|no permission|can't (?:run|access)|not allowed to", re.IGNORECASE
)
_KEYS = re.compile(r"access (?:a key|.*\bkeys?\b)", re.IGNORECASE)
_NAMED = re.compile(r"(?:run|execute) the '([\w|]+)' command")
_LINE = re.compile(r"@user_script: ?(\d+)")
_CALL = re.compile(r"redis\.p?call\('([A-Z]+)'(?:, '([A-Z]+)')?")

_CONTAINERS = frozenset({"CONFIG", "SCRIPT", "XGROUP", "XINFO"})
"""Commands of which a subcommand is allowed."""


def is_missing_right(reply: str) -> bool:
    """Whether an error of Redis says that the user may not do this."""
    return _NOT_ALLOWED.search(reply) is not None


def missing_right(reply: str, command: Sequence[object], script: str, namespace: str) -> str:
    """What the user may not do, and the rule of `ACL SETUSER` that allows it.

    `command` is what was sent, as far as it is known, and `script` the text of the one that it
    runs.
    """
    if _KEYS.search(reply):
        keys = _keys_of(command) or [f"{{{namespace}}}:"]
        allowed = sorted({f"~{key.partition(':')[0]}:*" for key in keys})
        return f"use its keys: allow it {' '.join(allowed)}"
    names = _commands_in(reply, script) or _command_sent(command, reply)
    allowed = [f"+{name.lower()}" for name in names]
    return f"run {' or '.join(names).upper().replace('|', ' ')}: allow it {' '.join(allowed)}"


def _keys_of(command: Sequence[object]) -> list[str]:
    """Of one that runs a script."""
    if not command or command[0] != "EVALSHA":
        return []
    count = int(str(command[2]))
    return [str(key) for key in command[3 : 3 + count]]


def _commands_in(reply: str, script: str) -> list[str]:
    """What a script was not let run: of the line, where the command is not named."""
    if (named := _NAMED.search(reply)) is not None:
        return [] if named[1] == "evalsha" or not script else [named[1]]
    if (line := _LINE.search(reply)) is None or not script:
        return []
    text = script.splitlines()[int(line[1]) - 1]
    return list(dict.fromkeys("|".join(filter(None, found)) for found in _CALL.findall(text)))


def _command_sent(command: Sequence[object], reply: str) -> list[str]:
    if command:
        name = str(command[0])
        return [f"{name}|{command[1]}" if name in _CONTAINERS else name]
    named = _NAMED.search(reply)
    return [named[1] if named else "this"]
