"""Types for objects of any resource: metadata for structs of one's own, and no struct at all."""

from collections.abc import Mapping
from typing import Any

import msgspec


class ObjectMeta(msgspec.Struct, frozen=True, rename="camel"):
    """`metadata` of any object: the usual fields."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str = ""
    """When its deletion was asked for; empty: it was not."""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Unstructured(dict[str, Any]):
    """An object as the API server's JSON has it, for a resource whose form is not known or does not
    matter. A struct with the fields that are read takes a tenth of the memory and of the time."""

    __slots__ = ("metadata",)

    metadata: ObjectMeta
    """The same as `["metadata"]`."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        """Raises:
        ValueError: it has no metadata, or fields of it have other types.
        """
        super().__init__(content)
        self.metadata = msgspec.convert(self.get("metadata"), ObjectMeta)
