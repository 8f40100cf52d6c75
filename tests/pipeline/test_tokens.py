"""`osmo-pipeline tokens`: made, listed, revoked."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from osmo_credentials import open_authenticator
from osmo_credentials.tokens import read_tokens
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
    await tokens.add(AddConfig(name="one", backends=("a", "eu-*"), auth_file=file), stop)
    token = capsys.readouterr().out.strip()
    assert token not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    asked = open_authenticator((f"token?file={file}",))
    identity = await asked.identify(Presented(token))
    assert identity is not None
    assert (identity.name, identity.backends) == ("token one", ("a", "eu-*"))
    await tokens.add(
        AddConfig(name="two", backends=("b",), auth_file=file, days=3, json=True), stop
    )
    made = json.loads(capsys.readouterr().out)
    ends = datetime.fromisoformat(made["expires"])
    assert timedelta(days=2.9) < ends - datetime.now(UTC) < timedelta(days=3)
    assert await asked.identify(Presented(made["token"]))
    await tokens.list_tokens(ListConfig(auth_file=file), stop)
    listed = capsys.readouterr().out
    assert "one" in listed
    assert "eu-*" in listed
    assert [line.split()[2] for line in listed.splitlines()] == [
        "EXPIRES",
        "never",
        made["expires"],
    ]
    assert token not in listed
    await tokens.revoke(RevokeConfig(name="one", auth_file=file), stop)
    with pytest.raises(CredentialRefusedError):
        await asked.identify(Presented(token))
    assert await asked.identify(Presented(made["token"]))


@pytest.mark.parametrize("as_json", [False, True])
async def test_a_token_is_written_where_nobody_else_reads_it(
    as_json: bool, tmp_path: Path, stop: asyncio.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one step, over the one before; it is not shown."""
    file, token_file = tmp_path / "tokens.json", tmp_path / "token"
    token_file.write_text("the former\n")
    token_file.chmod(0o644)
    config = AddConfig(
        name="one", backends=("a",), auth_file=file, token_file=token_file, json=as_json
    )
    await tokens.add(config, stop)
    token = token_file.read_text().strip()
    assert token_file.stat().st_mode & 0o777 == 0o600
    assert await open_authenticator((f"token?file={file}",)).identify(Presented(token))
    said = capsys.readouterr()
    assert str(token_file) in said.out
    assert token not in said.out + said.err
    with pytest.raises(RefusedError, match="already"):
        await tokens.add(config, stop)
    with pytest.raises(RefusedError, match="cannot write"):
        await tokens.add(replace(config, name="two", token_file=tmp_path / "no" / "token"), stop)
    assert token_file.read_text().strip() == token
    assert {each.name for each in read_tokens(file.read_bytes()).tokens} == {"one"}


def test_what_failed_leaves_no_part(tmp_path: Path) -> None:
    """Of the token, which nobody would look for."""
    made = tokens.add(
        AddConfig(
            name="x",
            backends=("b",),
            auth_file=tmp_path / "no" / "tokens.json",
            token_file=tmp_path / "token",
        ),
        asyncio.Event(),
    )
    with pytest.raises(RefusedError, match=r"cannot write .*tokens\.json"):
        asyncio.run(made)
    assert not list(tmp_path.iterdir())


def test_the_token_takes_the_place_of_no_other_file() -> None:
    """It would be that of all hashes."""
    with pytest.raises(ValueError, match="name two files"):
        AddConfig(name="one", backends=("a",), token_file=Path("tokens.json"))


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
        await tokens.list_tokens(ListConfig(auth_file=file), stop)
    await tokens.add(AddConfig(name="one", backends=("a",), auth_file=file), stop)
    before = file.read_bytes()
    with pytest.raises(RefusedError, match="already"):
        await tokens.add(AddConfig(name="one", backends=("b",), auth_file=file), stop)
    with pytest.raises(NothingFoundError, match="there are one"):
        await tokens.revoke(RevokeConfig(name="two", auth_file=file), stop)
    assert file.read_bytes() == before
    file.write_text("{")
    with pytest.raises(RefusedError, match="cannot use"):
        await tokens.add(AddConfig(name="two", backends=("b",), auth_file=file), stop)
    assert file.read_text() == "{"
    with pytest.raises(RefusedError, match="cannot write"):
        await tokens.add(
            AddConfig(name="x", backends=("b",), auth_file=tmp_path / "no" / "tokens.json"), stop
        )


async def test_nothing_of_a_file_reaches_a_terminal_as_it_is(
    tmp_path: Path, stop: asyncio.Event, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody else may have written it."""
    file, hostile = tmp_path / "tokens.json", "\x1b[31m\u202ea\r\nfake line"
    await tokens.add(AddConfig(name="one", backends=(hostile,), auth_file=file), stop)
    capsys.readouterr()
    for as_json in (False, True):
        await tokens.list_tokens(ListConfig(auth_file=file, json=as_json), stop)
        printed = capsys.readouterr().out
        assert printed.replace("\n", "").isprintable()
        assert not [line for line in printed.splitlines() if line.startswith("fake")]


def test_a_token_is_for_some_backend() -> None:
    """Or it would be for none."""
    with pytest.raises(ValueError, match="at least one backend"):
        AddConfig(name="one", backends=())
