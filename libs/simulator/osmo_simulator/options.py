"""The query parameters of a list or watch, checked as the API server checks them."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from osmo_simulator.errors import StatusError, bad_request, invalid

EXACT = "Exact"
NOT_OLDER_THAN = "NotOlderThan"


class Continue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a list in pages goes on: at which version, after which object."""

    rv: int
    start: str

    def encode(self) -> str:
        """The opaque token for the client."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode().rstrip("=")

    @classmethod
    def decode(cls, token: str) -> "Continue":
        """The position that a token stands for.

        Raises:
            StatusError: the token is not one of ours.
        """
        try:
            padded = token + "=" * (-len(token) % 4)
            return msgspec.json.decode(base64.b64decode(padded, b"-_", validate=True), type=cls)
        except (ValueError, RecursionError) as exc:
            raise bad_request(f"invalid continue token: continue key is not valid: {exc}") from exc


@dataclass(frozen=True, kw_only=True)
class ListOptions:
    """What a list or watch asks for."""

    labels: str = ""
    fields: str = ""
    limit: int = 0
    """The most objects of one page; 0 asks for all."""
    position: Continue | None = None
    """Where the list goes on, from the `continue` token."""
    version: int | None = None
    """`resourceVersion`; None when it was not given."""
    match: str = ""
    """`resourceVersionMatch`."""
    watch: bool = False
    bookmarks: bool = False
    """`allowWatchBookmarks`."""
    initial_events: bool | None = None
    """`sendInitialEvents`; None when it was not given."""
    timeout: float | None = None
    """`timeoutSeconds`; None leaves it to the server."""

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> "ListOptions":
        """Options from the query string.

        Raises:
            StatusError: a value is malformed, or some do not go together.
        """
        token = query.get("continue")
        options = cls(
            labels=query.get("labelSelector", ""),
            fields=query.get("fieldSelector", ""),
            limit=_integer(query, "limit") or 0,
            position=Continue.decode(token) if token else None,
            version=_integer(query, "resourceVersion"),
            match=query.get("resourceVersionMatch", ""),
            watch=_boolean(query, "watch") or False,
            bookmarks=_boolean(query, "allowWatchBookmarks") or False,
            initial_events=_boolean(query, "sendInitialEvents"),
            timeout=_integer(query, "timeoutSeconds") or None,
        )
        options._check()
        return options

    def _check(self) -> None:
        if self.match not in {"", EXACT, NOT_OLDER_THAN}:
            supported = f'"{EXACT}", "{NOT_OLDER_THAN}", ""'
            raise _refused(
                "resourceVersionMatch",
                f'Unsupported value: "{self.match}": supported values: {supported}',
            )
        if self.watch:
            self._check_watch()
        else:
            self._check_list()

    def _check_watch(self) -> None:
        if self.initial_events is None and self.match:
            raise _forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            )
        if self.initial_events is not None and self.match != NOT_OLDER_THAN:
            raise _forbidden(
                "resourceVersionMatch",
                f"sendInitialEvents requires setting resourceVersionMatch to {NOT_OLDER_THAN}",
            )

    def _check_list(self) -> None:
        if self.initial_events is not None:
            raise _forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list")
        if self.position and self.version:
            raise bad_request("specifying resource version is not allowed when using continue")
        if self.match and self.position:
            raise _forbidden(
                "resourceVersionMatch", "resourceVersionMatch is forbidden when continue is given"
            )
        if self.match and self.version is None:
            raise _forbidden(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            )
        if self.match == EXACT and self.version == 0:
            raise _forbidden(
                "resourceVersionMatch",
                'resourceVersionMatch "exact" is forbidden for resourceVersion "0"',
            )


def _integer(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if not text:
        return None
    if not text.isascii() or not text.isdecimal():
        raise bad_request(f'{name}: Invalid value: "{text}": not a whole number')
    return int(text)


def _boolean(query: Mapping[str, str], name: str) -> bool | None:
    text = query.get(name)
    return None if text is None else text.lower() not in {"0", "false", "f"}


def _refused(field: str, why: str) -> StatusError:
    return invalid("ListOptions.meta.k8s.io", "", field, why)


def _forbidden(field: str, why: str) -> StatusError:
    return _refused(field, f"Forbidden: {why}")
