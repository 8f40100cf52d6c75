"""JSON and YAML that people and plugins write, read as Go's decoders read it."""

import functools
from typing import Any

import msgspec

from osmo_listener.kubernetes.nulls import without_nulls
from osmo_transport.errors import MissingExtraError


def decode_document(content: bytes) -> Any:
    """What JSON says, or the first document of YAML; without nulls.

    Raises:
        ValueError: it is neither, or nests too deeply. What it says is not shown.
        MissingExtraError: it is YAML, and PyYAML is not installed.
    """
    try:
        if content.lstrip().startswith(b"{"):
            return without_nulls(msgspec.json.decode(content.decode(errors="replace")))
        return without_nulls(_decode_yaml(content))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The parser's own text may quote the line, and so a secret.
        raise ValueError("it is neither JSON nor YAML") from None


def _decode_yaml(content: bytes) -> Any:
    loader_class = _loader_class()
    from yaml import YAMLError  # noqa: PLC0415

    try:
        loader = loader_class(content)
        try:
            return loader.get_data()
        finally:
            loader.dispose()
    except (YAMLError, ValueError):
        raise ValueError("it is neither JSON nor YAML") from None


@functools.cache
def _loader_class() -> Any:
    """PyYAML's, but dates are texts, as people name contexts after them, and binary data is."""
    try:
        import yaml  # noqa: PLC0415
    except ImportError as exc:
        raise MissingExtraError(
            "reading YAML needs PyYAML: pip install 'osmo-pipeline[kubernetes]'"
        ) from exc
    # In C where PyYAML was built with it.
    parent: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    resolvers = {
        first: [(tag, form) for tag, form in each if not tag.endswith(":timestamp")]
        for first, each in parent.yaml_implicit_resolvers.items()
    }
    loader: Any = type("Loader", (parent,), {"yaml_implicit_resolvers": resolvers})
    loader.add_constructor(
        "tag:yaml.org,2002:binary",
        lambda self, node: self.construct_yaml_binary(node).decode(errors="replace"),
    )
    return loader
