"""JSON and YAML that people and plugins write, read as Go's decoders read it."""

from typing import Any

import msgspec

from osmo_listener.kubernetes.nulls import without_nulls
from osmo_transport.errors import MissingExtraError


def decode_document(content: bytes) -> Any:
    """What JSON or YAML says, without its nulls.

    Raises:
        ValueError: it is neither, or nests too deeply. What it says is not shown.
        MissingExtraError: it is YAML, and PyYAML is not installed.
    """
    in_json = content.lstrip().startswith(b"{")
    try:
        decoded = msgspec.json.decode(content) if in_json else msgspec.yaml.decode(content)
        return without_nulls(decoded)
    except ImportError as exc:
        raise MissingExtraError(
            "reading YAML needs PyYAML: pip install 'osmo-pipeline[kubernetes]'"
        ) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The parser's own text may quote the line, and so a secret.
        raise ValueError("it is neither JSON nor YAML") from None
