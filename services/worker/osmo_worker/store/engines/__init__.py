"""The databases that a store may be in: what each needs to be opened, begun, watched and left."""

from urllib.parse import unquote

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from osmo_transport import UnknownSchemeError, UsageError
from osmo_worker.config import StoreConfig
from osmo_worker.store.engines.abc import StoreEngine


def open_engine(url: str, config: StoreConfig) -> StoreEngine:
    """The engine for `url`. Nothing is opened before the first transaction.

    Raises:
        UnknownSchemeError: no store serves the URL's scheme.
        UsageError: the URL cannot be read.
        MissingExtraError: the driver is not installed.
    """
    scheme, _, _ = url.partition("://")
    # Each engine is imported where it is chosen: no start pays for the drivers of the others.
    if scheme == "memory":
        from osmo_worker.store.engines.sqlite import MemoryEngine  # noqa: PLC0415

        return MemoryEngine()
    parsed = _parse(url)
    match scheme:
        case "sqlite":
            from osmo_worker.store.engines.sqlite import SqliteEngine  # noqa: PLC0415

            return SqliteEngine(parsed, config)
        case "postgresql" | "postgres":
            from osmo_worker.store.engines.postgres import PostgresEngine  # noqa: PLC0415

            return PostgresEngine(parsed, config)
        case _:
            raise UnknownSchemeError(
                f"no store serves {scheme!r}: use sqlite:///PATH, postgresql://… or memory://"
            )


def _parse(url: str) -> URL:
    try:
        if "\0" in unquote(url):
            raise ValueError("%00 is part of no name")
        return make_url(url)
    except (ArgumentError, ValueError) as exc:
        # The text may hold a password, so it is not repeated.
        raise UsageError(
            "the store's URL cannot be read: it must look like sqlite:///PATH,"
            " postgresql://HOST/DATABASE with USER:PASSWORD@ before the host, or memory://"
        ) from exc
