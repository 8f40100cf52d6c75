"""JSON and YAML that people and plugins write, read as Go's decoders read it."""

import functools
from typing import Any

import msgspec

from osmo_listener.kubernetes.nulls import without_nulls
from osmo_transport.errors import MissingExtraError

MOST_VALUES = 100_000
"""Values in a document of YAML: a kubeconfig of 1 000 clusters, users and contexts has a third."""


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
            if not loader.check_node():
                return None
            root = loader.get_node()
            if _size(root, {}) > MOST_VALUES:
                raise ValueError("it is too large")
            return loader.construct_document(root)
        finally:
            loader.dispose()
    except (YAMLError, ValueError):
        raise ValueError("it is neither JSON nor YAML") from None


def _size(node: Any, known: dict[int, int]) -> int:
    """The values in a node of YAML, those of an alias wherever it stands: a few lines of aliases of
    aliases can stand for more than there is memory. One that holds itself has no end."""
    if id(node) not in known:
        known[id(node)] = MOST_VALUES + 1
        size = 1
        if not isinstance(node.value, str):
            for each in node.value:
                inner = each if isinstance(each, tuple) else (each,)
                size += sum([_size(part, known) for part in inner])
        known[id(node)] = size
    return known[id(node)]


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
