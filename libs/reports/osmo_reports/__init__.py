"""What listeners report and workers understand: the vocabulary of the pipeline.

`kinds` are the kinds of reports, which importing this package registers; `bodies` what each of them
carries; `conditions` the rules by which a node counts as available; and `directory` what all
operators of a queue know together about the backends.
"""

from osmo_reports import kinds as _kinds
from osmo_reports.bodies import (
    BODY_TYPES,
    Condition,
    Logging,
    LogType,
    NodeInventory,
    NodeInventoryPart,
    PodEvent,
    PodExists,
    PodsCurrent,
    Registration,
    SnapshotEnd,
    Taint,
    UpdateNode,
    UpdateNodeUsage,
    UpdatePod,
    decode_body,
    encode_body,
)
from osmo_reports.directory import Directory, RuleSet, open_directory
from osmo_reports.errors import (
    BackendTakenError,
    BodyError,
    ReportsError,
    RulesDeclaredError,
    RulesError,
)

__all__ = (
    "BODY_TYPES",
    "BackendTakenError",
    "BodyError",
    "Condition",
    "Directory",
    "LogType",
    "Logging",
    "NodeInventory",
    "NodeInventoryPart",
    "PodEvent",
    "PodExists",
    "PodsCurrent",
    "Registration",
    "ReportsError",
    "RuleSet",
    "RulesDeclaredError",
    "RulesError",
    "SnapshotEnd",
    "Taint",
    "UpdateNode",
    "UpdateNodeUsage",
    "UpdatePod",
    "decode_body",
    "encode_body",
    "open_directory",
)

del _kinds
