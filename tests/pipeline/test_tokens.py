"""`osmo-pipeline tokens`: made, listed, revoked."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from osmo_credentials import open_authenticator
from osmo_pipeline.commands import tokens
from osmo_pipeline.commands.tokens import AddConfig, ListConfig, RevokeConfig
from osmo_pipeline.errors import NothingFoundError, RefusedError
from osmo_transport import CredentialRefusedError, Presented


@pytest.fixture
def stop() -> asyncio.Event:
    """Never."""
    return asyncio.Event()


async def test_a_token_lives_from_add_to_revoke(
    tmp_path: Path, stop: asyncio.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is shown once, and known to an operator from the moment that it is there."""
    file = tmp_path / "tokens.json"
    await tokens.add(AddConfig(name="one", backends=("a", "eu-*"), file=file), stop)
    token = capsys.readouterr().out.strip()
    assert token not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    asked = open_authenticator((f"token?file={file}",))
    identity = await asked.identify(Presented(token))
    assert identity is not None
    assert (identity.name, identity.backends) == ("token one", ("a", "eu-*"))
    await tokens.add(AddConfig(name="two", backends=("b",), file=file, days=3, json=True), stop)
    made = json.loads(capsys.readouterr().out)
    ends = datetime.fromisoformat(made["expires"])
    assert timedelta(days=2.9) < ends - datetime.now(UTC) < timedelta(days=3)
    assert await asked.identify(Presented(made["token"]))
    await tokens.list_tokens(ListConfig(file=file), stop)
    listed = capsys.readouterr().out
    assert "one" in listed
    assert "eu-*" in listed
    assert token not in listed
    await tokens.revoke(RevokeConfig(name="one", file=file), stop)
    with pytest.raises(CredentialRefusedError):
        await asked.identify(Presented(token))
    assert await asked.identify(Presented(made["token"]))


@pytest.mark.parametrize("name", ["", "bad name", "-x", "x" * 64, "a/b"])
def test_no_token_gets_a_name_that_its_file_cannot_have(name: str) -> None:
    """Or nothing in the file could be used any more, nor anything in it be revoked."""
    with pytest.raises(ValueError, match="cannot be the name of a token"):
        AddConfig(name=name, backends=("a",))


def test_no_token_is_for_a_backend_that_cannot_be() -> None:
    """Nobody could report with it."""
    with pytest.raises(ValueError, match="a backend is"):
        AddConfig(name="one", backends=("a", "b" * 2000))


async def test_what_cannot_be_done_is_said(tmp_path: Path, stop: asyncio.Event) -> None:
    """And nothing is changed by it."""
    file = tmp_path / "tokens.json"
    with pytest.raises(NothingFoundError, match="no token in"):
        await tokens.list_tokens(ListConfig(file=file), stop)
    await tokens.add(AddConfig(name="one", backends=("a",), file=file), stop)
    before = file.read_bytes()
    with pytest.raises(RefusedError, match="already"):
        await tokens.add(AddConfig(name="one", backends=("b",), file=file), stop)
    with pytest.raises(NothingFoundError, match="there are one"):
        await tokens.revoke(RevokeConfig(name="two", file=file), stop)
    assert file.read_bytes() == before
    file.write_text("{")
    with pytest.raises(RefusedError, match="cannot use"):
        await tokens.add(AddConfig(name="two", backends=("b",), file=file), stop)
    assert file.read_text() == "{"
    with pytest.raises(RefusedError, match="cannot write"):
        await tokens.add(
            AddConfig(name="x", backends=("b",), file=tmp_path / "no" / "tokens.json"), stop
        )


async def test_nothing_of_a_file_reaches_a_terminal_as_it_is(
    tmp_path: Path, stop: asyncio.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody else may have written it."""
    file, hostile = tmp_path / "tokens.json", "\x1b[31m\u202ea\r\nfake line"
    await tokens.add(AddConfig(name="one", backends=(hostile,), file=file), stop)
    capsys.readouterr()
    for as_json in (False, True):
        await tokens.list_tokens(ListConfig(file=file, json=as_json), stop)
        printed = capsys.readouterr().out
        assert printed.replace("\n", "").isprintable()
        assert not [line for line in printed.splitlines() if line.startswith("fake")]


def test_a_token_is_for_some_backend() -> None:
    """Or it would be for none."""
    with pytest.raises(ValueError, match="at least one backend"):
        AddConfig(name="one", backends=())
