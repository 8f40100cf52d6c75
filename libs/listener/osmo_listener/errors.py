"""Every error that `osmo_listener` raises, by who has to act on it, and what the informer does.

ListenerError
├── KubeconfigError          the user: mend the kubeconfig, or name another file or context
└── KubernetesError          talking to the API server failed
    ├── UnreachableError         no connection: refused, no such host, timed out, broken
    │   ├── UntrustedError           the server's certificate does not fit the CA or the host name
    │   ├── TruncatedError           the connection ended in the middle of an answer
    │   └── SilentError              connected, and nothing came for too long
    ├── MalformedError           the server sent what is no answer, event or object
    ├── RegressedError           versions went back: the cluster was restored from a backup
    └── StatusError              the server answered with an error status
        ├── UnauthorizedError        401: the credentials are wrong or have expired
        ├── ForbiddenError           403: the credentials do not allow this
        ├── NotFoundError            404: no such namespace or resource
        ├── ExpiredError             410, or a version from the future: list again
        ├── ThrottledError           429: slow down
        └── ServerFailedError        5xx
"""

import enum


class ListenerError(Exception):
    """The root of every error of this library."""


class KubeconfigError(ListenerError):
    """No usable credentials; the text says what to change and where."""


class KubernetesError(ListenerError):
    """The root of what goes wrong between us and the API server."""


class UnreachableError(KubernetesError):
    """No connection could be made, or it broke."""


class UntrustedError(UnreachableError):
    """TLS verification failed."""


class TruncatedError(UnreachableError):
    """The connection ended before the answer did."""


class SilentError(UnreachableError):
    """Nothing arrived within the time allowed."""


class MalformedError(KubernetesError):
    """What arrived cannot be read, is over a limit, or is of an unknown type."""


class RegressedError(KubernetesError):
    """A version that is lower than one seen before."""


class StatusError(KubernetesError):
    """An error status, as the response's or as an `ERROR` event of a watch."""

    def __init__(self, message: str, *, code: int, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after
        """Seconds that the server asks us to wait, or None."""


class UnauthorizedError(StatusError):
    """401."""


class ForbiddenError(StatusError):
    """403."""


class NotFoundError(StatusError):
    """404."""


class ExpiredError(StatusError):
    """The server no longer knows, or does not know yet, the version we asked for."""


class ThrottledError(StatusError):
    """429."""


class ServerFailedError(StatusError):
    """5xx."""


_BY_CODE: dict[int, type[StatusError]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    410: ExpiredError,
    429: ThrottledError,
}


def status_error(
    code: int, message: str, *, reason: str = "", retry_after: float | None = None
) -> StatusError:
    """The error of an answer with status `code`; `reason` is the one of a Kubernetes `Status`."""
    kind = _BY_CODE.get(code, ServerFailedError if code >= 500 else StatusError)
    if reason == "Expired" or "Too large resource version" in message:
        kind = ExpiredError
    return kind(message or f"HTTP status {code}", code=code, retry_after=retry_after)


class Reaction(enum.Enum):
    """What the informer does about an error. It always backs off first."""

    RETRY = "retry"
    """Ask again from where we stand."""
    RELIST = "relist"
    """Where we stand is lost: list everything again and compare."""
    REAUTHENTICATE = "reauthenticate"
    """Drop cached credentials, then ask again from where we stand."""
    RAISE = "raise"
    """Somebody has to mend something: the error goes to the informer's owner."""


def reaction(error: ListenerError, *, synced: bool) -> Reaction:
    """The one place that decides what may be tried again.

    Until the first list is complete (`synced` false) an error that no retry will mend is raised, so
    that a wrong token or namespace shows at start. Later the same error is retried: rights and
    certificates that were taken away are often given back, and the state is worth keeping.
    """
    if isinstance(error, ExpiredError | MalformedError | RegressedError):
        return Reaction.RELIST
    if isinstance(error, UnauthorizedError):
        return Reaction.REAUTHENTICATE if synced else Reaction.RAISE
    if isinstance(error, StatusError):
        passing = error.code >= 500 or error.code in {408, 429}
        return Reaction.RETRY if passing or synced else Reaction.RAISE
    if isinstance(error, UntrustedError | KubeconfigError):
        return Reaction.RETRY if synced else Reaction.RAISE
    return Reaction.RETRY
