"""The order of reports that are not of one key: of a node, and of an inventory of all nodes."""

import msgspec
from msgspec.structs import astuple

from osmo_transport import Version


class Stamp(msgspec.Struct, frozen=True, gc=False):
    """A version, and the counter that it is of: older or newer than another of the same counter.

    To compare those of two counters raises TypeError.
    """

    counter: tuple[str, str]
    """The backend, and the kind of what its listener numbers."""
    version: Version

    def __lt__(self, other: "Stamp") -> bool:
        self._check(other)
        return astuple(self.version) < astuple(other.version)

    def __le__(self, other: "Stamp") -> bool:
        self._check(other)
        return astuple(self.version) <= astuple(other.version)

    def _check(self, other: "Stamp") -> None:
        if self.counter != other.counter:
            raise TypeError(f"no version of {self.counter} compares with one of {other.counter}")
