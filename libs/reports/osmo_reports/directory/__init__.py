"""The directory beside a queue: `abc` is its contract, `memory` and `redis` keep it.

An entry point in the group `osmo_reports.directories`, whose name is the scheme of a queue's URL,
leads to an async function of the URL, a `QueueConfig` and `max_backends` that returns the directory
beside that queue.
"""

from osmo_reports.directory.abc import (
    MAX_BACKENDS,
    MAX_FREED,
    RULES_KIND,
    Claim,
    Directory,
    Origin,
    RuleSet,
    decode_rules,
    encode_rules,
    merged,
)
from osmo_transport import QueueConfig, UnknownSchemeError
from osmo_transport.registry import REDIS_SCHEMES, Group, opened

DIRECTORIES = Group(
    "osmo_reports.directories",
    {
        "memory": "osmo_reports.directory.memory:open_directory",
        **dict.fromkeys(REDIS_SCHEMES, "osmo_reports.directory.redis:open_directory"),
    },
    dict.fromkeys(REDIS_SCHEMES, "redis"),
)

__all__ = (
    "MAX_BACKENDS",
    "MAX_FREED",
    "RULES_KIND",
    "Claim",
    "Directory",
    "Origin",
    "RuleSet",
    "decode_rules",
    "encode_rules",
    "merged",
    "open_directory",
)


async def open_directory(
    url: str, config: QueueConfig | None = None, *, max_backends: int = MAX_BACKENDS
) -> Directory:
    """The directory beside the queue at `url`, which has the configuration `config`; it takes up to
    `max_backends` names.

    Raises:
        UnknownSchemeError: there is none beside queues of this scheme.
        UsageError: the URL is wrong.
        MissingExtraError: its library is not installed.
    """
    try:
        directory: Directory = await opened(
            DIRECTORIES, url, Directory, config or QueueConfig(), max_backends
        )
    except UnknownSchemeError as exc:
        raise UnknownSchemeError(f"a directory is kept beside the queue, and {exc}") from exc
    return directory
