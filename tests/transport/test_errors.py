"""The errors, by who has to act on them."""

import re

import pytest

from osmo_transport import errors
from osmo_transport.errors import (
    AddressInUseError,
    CertificateError,
    ClosedError,
    ConnectionLostError,
    CredentialExpiredError,
    CredentialRefusedError,
    CredentialUncheckedError,
    DefectError,
    FencedError,
    HandshakeError,
    MessageTooLargeError,
    MissingExtraError,
    OccupiedError,
    PeerError,
    QueueError,
    QueueLostError,
    QueueRefusedError,
    QueueUnavailableError,
    TransportError,
    UnknownSchemeError,
    UnreadableError,
    UnsendableError,
    UsageError,
    WrongServerError,
    is_retryable,
)

RETRYABLE: dict[type[TransportError], bool] = {
    TransportError: False,
    UsageError: False,
    UnknownSchemeError: False,
    MissingExtraError: False,
    WrongServerError: False,
    CertificateError: False,
    UnsendableError: False,
    MessageTooLargeError: False,
    AddressInUseError: False,
    ConnectionLostError: True,
    HandshakeError: True,
    PeerError: True,
    UnreadableError: False,
    CredentialRefusedError: False,
    CredentialExpiredError: True,
    CredentialUncheckedError: True,
    FencedError: False,
    OccupiedError: True,
    ClosedError: False,
    DefectError: True,
    QueueError: False,
    QueueUnavailableError: True,
    QueueRefusedError: False,
    QueueLostError: True,
}


def made(kind: type[TransportError]) -> TransportError:
    """One of this kind."""
    if kind is OccupiedError:
        return OccupiedError("backend/source", "one", "somewhere", 1.0)
    return MessageTooLargeError(2, 1) if kind is MessageTooLargeError else kind("why")


@pytest.mark.parametrize("kind", RETRYABLE)
def test_whether_trying_again_may_help(kind: type[TransportError]) -> None:
    """Each error has its answer."""
    assert is_retryable(made(kind)) is RETRYABLE[kind]


def test_other_errors_are_not_tried_again() -> None:
    """They are defects, or of somebody else."""
    assert not is_retryable(ValueError("why"))
    assert not is_retryable(OSError("why"))


def test_the_tree_is_as_it_is_drawn() -> None:
    """Every error stands in it, below what it is one of."""
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if (found := re.match(r"([│├└─ ]*)(\w+Error)\b", line)) is not None:
            depth = len(found[1]) // 4
            above[depth:] = [found[2]]
            drawn[found[2]] = above[depth - 1] if depth else "Exception"
    written = {
        name: kind.__base__.__name__
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, TransportError) and kind.__base__
    }
    assert drawn == written
    assert {kind.__name__ for kind in RETRYABLE} == set(written)
