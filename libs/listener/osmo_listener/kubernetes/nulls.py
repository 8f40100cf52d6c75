"""What Go's decoders make of a null: nothing."""

from typing import Any


def without_nulls(value: Any) -> Any:
    """The same without nulls, wherever they stand."""
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [without_nulls(each) for each in value if each is not None]
    return value
