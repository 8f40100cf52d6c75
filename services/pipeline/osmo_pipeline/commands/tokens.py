"""`osmo-pipeline tokens`: who may report, where operators run with `--auth token`."""

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import msgspec

from osmo_credentials.tokens import Name, NamedToken, TokenFile, hash_of, new_token, read_tokens
from osmo_pipeline.commands.output import Column, Listing, hint, say, write_json
from osmo_pipeline.errors import NothingFoundError, RefusedError
from osmo_runtime.fields import Setting
from osmo_runtime.logs import LogLevel
from osmo_runtime.runner import ProgramConfig
from osmo_transport import UsageError
from osmo_transport.bounds import Count
from osmo_transport.lean import dataclass
from osmo_transport.message import check_name
from osmo_transport.naming import setting

PRIVATE = 0o600
"""The mode of a new file: the names in it are nobody else's business."""


@dataclass(frozen=True, kw_only=True)
class TokensConfig(ProgramConfig):
    """What every command about tokens needs to know."""

    auth_file: Path = Path("tokens.json")
    """The file that operators are told of with --auth token?file=FILE; it holds hashes, and no
    tokens."""
    json: bool = False
    """Write one JSON document, for programs."""
    log_level: LogLevel = LogLevel.WARNING
    """The least severe log records that are written."""


@dataclass(frozen=True, kw_only=True)
class AddConfig(TokensConfig):
    """Makes a token with which a listener may report for some backends. It is printed once, or
    written to --token-file, and cannot be shown again. Operators know it within seconds."""

    name: Annotated[str, Setting(positional=True)]
    """What it is called in logs and lists."""
    backends: Annotated[tuple[str, ...], Setting(positional=True, metavar="BACKEND")]
    """Backends for which it may report; * stands for any characters."""
    days: Count | None = None
    """Days after which it ends; none: never."""
    token_file: Path | None = None
    """Write the token to this file, which nobody else may read, instead of printing it: in one
    step, over what is there, as a listener that is told of it with --client-token-file needs it."""

    def __post_init__(self) -> None:
        if not self.backends:
            raise ValueError("name at least one backend for which the token may report")
        if self.token_file == self.auth_file:
            raise ValueError(f"auth_file and token_file are both {self.auth_file}: name two files")
        try:
            msgspec.convert(self.name, Name)
        except msgspec.ValidationError:
            raise ValueError(
                f"{self.name!r} cannot be the name of a token: that is 1 to 63 letters, digits,"
                " dots, hyphens and underscores, and begins and ends with a letter or digit"
            ) from None
        for backend in self.backends:
            try:
                check_name("a backend", backend)
            except UsageError as exc:
                raise ValueError(str(exc)) from None


@dataclass(frozen=True, kw_only=True)
class ListConfig(TokensConfig):
    """Lists the tokens by their names."""


@dataclass(frozen=True, kw_only=True)
class RevokeConfig(TokensConfig):
    """Takes a token back: operators let nobody in with it any more, and end the connections of
    those who are in, within seconds."""

    name: Annotated[str, Setting(positional=True)]
    """What it is called."""


_COLUMNS = (
    Column("NAME", "name", 24),
    Column("CREATED", "created", 25),
    Column("EXPIRES", "expires", 25),
    Column("BACKENDS", "backends", show=" ".join),
)


async def add(config: AddConfig, _: asyncio.Event) -> None:
    """`tokens add`.

    Raises:
        RefusedError: there is one of this name, or the file cannot be used.
    """
    token, now = new_token(), datetime.now(UTC).replace(microsecond=0)
    added = NamedToken(
        config.name,
        hash_of(token),
        config.backends,
        now,
        None if config.days is None else now + timedelta(days=config.days),
    )

    def change(found: TokenFile) -> TokenFile:
        if any(each.name == config.name for each in found.tokens):
            raise RefusedError(
                f"there is a token {config.name!r} in {config.auth_file} already: choose another"
                " name, and revoke the old one when its listener has the new one"
            )
        return TokenFile((*found.tokens, added))

    if config.token_file is None:
        _change(config.auth_file, change)
    else:
        # First, so that no token is known to operators that nobody has.
        with _replacing(config.token_file, f"{token}\n".encode(), PRIVATE):
            _change(config.auth_file, change)
    _tell_added(config, added, token)


def _tell_added(config: AddConfig, added: NamedToken, token: str) -> None:
    if config.json:
        file = config.token_file
        write_json(_described(added) | ({"token": token} if file is None else {"token_file": file}))
    elif config.token_file is None:
        say(token)
        hint(
            "this is shown once: put it into a file that nobody else may read (--token-file FILE"
            f" makes one), and name that to the listener with {setting('client.token.file')}"
        )
    else:
        say(f"{added.name}: its token is in {config.token_file}")


async def list_tokens(config: ListConfig, _: asyncio.Event) -> None:
    """`tokens list`.

    Raises:
        NothingFoundError: there is none.
        RefusedError: the file cannot be used.
    """
    found = _read(config.auth_file)
    with Listing(_COLUMNS, as_json=config.json) as out:
        for token in found.tokens:
            row = _described(token)
            out.add(row if config.json else {**row, "expires": row["expires"] or "never"})
    if not found.tokens:
        raise NothingFoundError(f"there is no token in {config.auth_file}")


async def revoke(config: RevokeConfig, _: asyncio.Event) -> None:
    """`tokens revoke`.

    Raises:
        NothingFoundError: there is none of this name.
        RefusedError: the file cannot be used.
    """

    def change(found: TokenFile) -> TokenFile:
        left = tuple(token for token in found.tokens if token.name != config.name)
        if len(left) == len(found.tokens):
            names = ", ".join(token.name for token in found.tokens) or "none"
            raise NothingFoundError(
                f"there is no token {config.name!r} in {config.auth_file}; there are {names}"
            )
        return TokenFile(left)

    _change(config.auth_file, change)
    if config.json:
        write_json({"name": config.name, "revoked": True})
    else:
        say(f"{config.name}: revoked")


def _described(token: NamedToken) -> dict[str, object]:
    return {
        "name": token.name,
        "backends": list(token.backends),
        "created": token.created.isoformat(),
        "expires": None if token.expires is None else token.expires.isoformat(),
    }


def _read(path: Path) -> TokenFile:
    try:
        return read_tokens(path.read_bytes())
    except FileNotFoundError:
        return TokenFile()
    except (OSError, ValueError) as exc:
        raise RefusedError(f"cannot use {path}: {exc}") from exc


def _change(path: Path, change: Callable[[TokenFile], TokenFile]) -> None:
    """Replace the file in one step: whoever reads it meanwhile sees the one or the other."""
    try:
        with _alone(path):
            data = msgspec.json.format(msgspec.json.encode(change(_read(path))), indent=2)
            mode = path.stat().st_mode & 0o777 if path.exists() else PRIVATE
            with _replacing(path, data + b"\n", mode):
                pass
    except OSError as exc:
        raise RefusedError(f"cannot write {path}: {exc}") from exc


@contextmanager
def _replacing(path: Path, data: bytes, mode: int) -> Iterator[None]:
    """Write a file beside the one at `path`, which takes its place when what is done meanwhile has
    succeeded.

    Raises:
        RefusedError: it cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        part.unlink(missing_ok=True)  # its mode would stay
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as exc:
        raise RefusedError(f"cannot write {path}: {exc}") from exc


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Of two changes at a time the second one waits."""
    descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_WRONLY | os.O_CREAT, PRIVATE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
