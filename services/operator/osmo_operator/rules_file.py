"""The condition rules that a file declares: what it says of a backend holds, over whatever was set.

A file has a table for each backend, with what `osmo-pipeline rules set` takes:

    [cluster-a]
    Ready = "True"
    "^Gpu.*Problem$" = "False|Unknown"
"""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import msgspec

from osmo_reports.conditions import check_rules
from osmo_reports.directory import MAX_BACKENDS, Directory, Origin, RuleSet
from osmo_reports.errors import RulesError
from osmo_runtime.texts import counted
from osmo_transport import QueueRefusedError
from osmo_transport.files import WatchedFile
from osmo_transport.message import Name

logger = logging.getLogger(__name__)

Declared = Mapping[str, Mapping[str, str]]
"""Rules by backend."""


class RulesFile:
    """A file of rules, read again when it changes; one that cannot be used leaves in force what it
    declared before.

    Operators of one queue should have the same. While they differ, as in the minute in which a
    ConfigMap reaches one after the other, what was taken up last holds: nobody changes what another
    one's file declares, before his own has changed; and what is taken out of it holds until the
    last of them has noticed.
    """

    def __init__(self, path: Path) -> None:
        """Raises:
        UsageError: it cannot be used.
        MissingExtraError: the library that checks rules is not installed.
        """
        read = partial(read_rules, is_json=path.suffix == ".json")
        self._file = WatchedFile(path, read, what="file of condition rules")
        self._in_force: Declared | None = None
        self._refused = ""

    @property
    def is_in_force(self) -> bool:
        """Whether the directory was told what the file now declares."""
        return self._file.look() is self._in_force

    async def declare(
        self, directory: Directory, found: Mapping[str, RuleSet]
    ) -> Mapping[str, RuleSet]:
        """What is `found` in the directory, after it was told what the file declares. A directory
        that refuses it stays as it is; that is told once.

        Raises:
            QueueUnavailableError: only a part may be told.
        """
        declared = self._file.look()
        is_new = declared is not self._in_force
        changes: dict[str, Mapping[str, str] | None] = {
            backend: rules
            for backend, rules in declared.items()
            if (known := found.get(backend)) is None
            or known.origin is not Origin.FILE
            or (is_new and known.rules != rules)
        }
        if is_new:
            changes |= {
                backend: None
                for backend, known in found.items()
                if known.origin is Origin.FILE and backend not in declared
            }
        result = dict(found)
        try:
            for backend, rules in changes.items():
                if known := await directory.declare_rules(backend, rules):
                    result[backend] = known
        except QueueRefusedError as exc:
            if str(exc) != self._refused:
                logger.warning("what the file of condition rules declares is refused: %s", exc)
            self._refused = str(exc)
            return result
        if changes:
            logger.info("the rules of %s are as the file says", counted(len(changes), "backend"))
        self._in_force, self._refused = declared, ""
        return result


def read_rules(data: bytes, *, is_json: bool) -> Declared:
    """The rules in a file, which is TOML unless it is JSON.

    Raises:
        ValueError: they cannot be used.
        MissingExtraError: the library that checks them is not installed.
    """
    decode = msgspec.json.decode if is_json else msgspec.toml.decode
    try:
        backends = msgspec.convert(decode(data), dict[Name, object])
    except RecursionError as exc:
        raise ValueError(f"it nests too deeply: {exc}") from exc
    if len(backends) > MAX_BACKENDS:
        raise ValueError(f"it names {len(backends)} backends, and {MAX_BACKENDS} may be")
    declared = {}
    for backend, table in backends.items():
        try:
            rules = msgspec.convert(table, dict[str, str])
            check_rules(rules)
        except (ValueError, RulesError) as exc:
            raise ValueError(f"{backend}: {exc}") from exc
        if not rules:
            raise ValueError(
                f"{backend}: there is no rule; Ready=True is what a backend begins with"
            )
        declared[backend] = rules
    return declared
