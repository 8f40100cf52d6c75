"""Which errors are tried again, and how statuses become errors."""

import pytest

from osmo_listener.errors import (
    ExpiredError,
    ForbiddenError,
    KubeconfigError,
    ListenerError,
    MalformedError,
    NotFoundError,
    Reaction,
    RegressedError,
    ServerFailedError,
    SilentError,
    StatusError,
    ThrottledError,
    TruncatedError,
    UnauthorizedError,
    UnreachableError,
    UntrustedError,
    reaction,
    status_error,
)

RETRY, RELIST, REAUTHENTICATE, RAISE = Reaction


@pytest.mark.parametrize(
    ("error", "at_start", "later"),
    [
        (UnreachableError(), RETRY, RETRY),
        (TruncatedError(), RETRY, RETRY),
        (SilentError(), RETRY, RETRY),
        (UntrustedError(), RAISE, RETRY),
        (KubeconfigError(), RAISE, RETRY),
        (MalformedError(), RELIST, RELIST),
        (RegressedError(), RELIST, RELIST),
        (ExpiredError("", code=410), RELIST, RELIST),
        (UnauthorizedError("", code=401), RAISE, REAUTHENTICATE),
        (ForbiddenError("", code=403), RAISE, RETRY),
        (NotFoundError("", code=404), RAISE, RETRY),
        (StatusError("", code=400), RAISE, RETRY),
        (StatusError("", code=408), RETRY, RETRY),
        (ThrottledError("", code=429), RETRY, RETRY),
        (ServerFailedError("", code=500), RETRY, RETRY),
        (ServerFailedError("", code=503), RETRY, RETRY),
    ],
    ids=repr,
)
def test_reaction(error: ListenerError, at_start: Reaction, later: Reaction) -> None:
    """Every error has one reaction before the first list and one after it."""
    assert reaction(error, synced=False) is at_start
    assert reaction(error, synced=True) is later


@pytest.mark.parametrize(
    ("code", "reason", "message", "kind"),
    [
        (400, "BadRequest", "no", StatusError),
        (401, "Unauthorized", "no", UnauthorizedError),
        (403, "Forbidden", "no", ForbiddenError),
        (404, "NotFound", "no", NotFoundError),
        (410, "Expired", "too old resource version: 1 (2)", ExpiredError),
        (410, "Gone", "", ExpiredError),
        (400, "Expired", "", ExpiredError),
        (504, "Timeout", "Timeout: Too large resource version: 9, current: 1", ExpiredError),
        (429, "TooManyRequests", "", ThrottledError),
        (500, "InternalError", "", ServerFailedError),
        (504, "Timeout", "", ServerFailedError),
    ],
)
def test_status_error(code: int, reason: str, message: str, kind: type[StatusError]) -> None:
    """A status becomes the error that says what to do, and carries its code and text."""
    error = status_error(code, message, reason=reason, retry_after=3.0)
    assert type(error) is kind
    assert (error.code, error.retry_after) == (code, 3.0)
    assert str(error) == (message or f"HTTP status {code}")
