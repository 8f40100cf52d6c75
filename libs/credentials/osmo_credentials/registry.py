"""From entries of `auth` to an authenticator: of a kind of ours, or of everybody's."""

from collections.abc import Callable, Mapping, Sequence

from osmo_credentials.settings import split
from osmo_transport.credentials import AnyOf, Authenticator
from osmo_transport.errors import UsageError
from osmo_transport.registry import Group, made, named, schemes

KINDS = Group(
    "osmo_transport.credentials",
    {
        "jwt": "osmo_credentials.jwt:open_authenticator",
        "kubernetes": "osmo_credentials.kubernetes:open_authenticator",
        "mtls": "osmo_credentials.mtls:open_authenticator",
        "token": "osmo_credentials.tokens:open_authenticator",
    },
    {"mtls": "auth", "jwt": "auth", "kubernetes": "kubernetes"},
)
"""Each leads to an `Opener`."""

Opener = Callable[[Mapping[str, str]], Authenticator]
"""Makes an authenticator of its settings; what is wrong with them is a `UsageError`."""


def kinds_of(entries: Sequence[str]) -> list[str]:
    """The kinds that entries of `auth` name."""
    return [split(entry)[0] for entry in entries]


def open_authenticator(entries: Sequence[str]) -> Authenticator:
    """What knows the credentials of each of `entries`, asked in their order.

    Raises:
        UsageError: a kind is unknown, or a setting of it is wrong.
        MissingExtraError: a library is not installed; the text holds the command that installs it.
    """
    return AnyOf([_opened(*split(entry)) for entry in entries])


def _opened(kind: str, settings: Mapping[str, str]) -> Authenticator:
    opener: Opener | None = named(KINDS, kind)
    if opener is None:
        known = ", ".join(schemes(KINDS))
        raise UsageError(f"no kind of credentials is called {kind!r}: there are {known}")
    authenticator: Authenticator = made(KINDS, kind, opener, Authenticator, settings)
    return authenticator
