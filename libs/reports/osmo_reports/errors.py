"""Every error that `osmo_reports` raises, by who has to act on it.

ReportsError
├── BodyError           who wrote the payload: it does not fit its kind
├── RulesError          the caller: condition rules that cannot be used
├── RulesDeclaredError  the caller: a file of the operators decides, and nobody else
└── BackendTakenError   the operator of the cluster: its backend's name belongs to another one

All of them are errors of `osmo_transport` too, so that a server that raises one tells its client.
"""

from collections.abc import Sequence

from osmo_transport import UsageError


class ReportsError(UsageError):
    """The root of every error of this library."""


class BodyError(ReportsError):
    """A payload that does not fit its kind, or a kind that this version does not know."""


class RulesError(ReportsError):
    """Condition rules that cannot all be used; `problems` has a line for each that is wrong."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


class RulesDeclaredError(ReportsError):
    """A file declares the condition rules of `backend`, so that they cannot be set."""

    def __init__(self, backend: str) -> None:
        super().__init__(
            f"a file of the operators (--rules-file) declares the rules of {backend}: change them"
            " there. If no operator has such a file any more, let the default rules hold first:"
            f" osmo-pipeline rules clear {backend}"
        )
        self.backend = backend


class BackendTakenError(ReportsError):
    """The backend's name belongs to the cluster `owner`, and another one (`claimant`) reports."""

    def __init__(self, backend: str, owner: str, claimant: str) -> None:
        super().__init__(
            f"backend {backend} is already being used by a different cluster (uid: {owner}); this"
            f" one has the uid {claimant}: give it another name, or free the name with"
            f" osmo-pipeline backends forget {backend}"
        )
        self.backend = backend
        self.owner = owner
        self.claimant = claimant
