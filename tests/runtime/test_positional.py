"""Settings that the command line tells apart by their place."""

from pathlib import Path
from typing import Annotated

import pytest

from osmo_runtime.errors import SettingsError
from osmo_runtime.fields import Setting
from osmo_runtime.settings import load
from osmo_transport.lean import dataclass


@dataclass(frozen=True, kw_only=True)
class Config:
    """Renames things."""

    backend: Annotated[str, Setting(positional=True)]
    """Of whom."""
    names: Annotated[dict[str, str], Setting(positional=True)]
    """Old and new ones."""
    force: bool = False
    """Even so."""


def read(*argv: str, **environ: str) -> Config:
    """The configuration."""
    return load("rename", Config, argv, environ).config


def test_places_and_options_mix() -> None:
    """In any order; a value may hold whatever the key does not."""
    config = Config(backend="b", names={"a": "c=d", "e": ""}, force=True)
    assert read("b", "a=c=d", "e=", "--force") == config
    assert read("--force", "b", "a=c=d", "e=") == config


def test_what_a_command_is_about_never_comes_from_the_environment(tmp_path: Path) -> None:
    """Where the same name may be set for another program. A file that is named stands in."""
    with pytest.raises(SettingsError, match="names is missing"):
        read("b", OSMO_BACKEND="x", OSMO_NAMES="a=b")
    file = tmp_path / "rename.toml"
    file.write_text('backend = "b"\nnames = {a = "b"}\n')
    assert read("--config", str(file), OSMO_BACKEND="x").backend == "b"
    assert read("c", "--config", str(file)).backend == "c"


def test_what_looks_like_a_secret_can_be_given_nowhere_else() -> None:
    """So nobody is told to."""
    assert not load("rename", Config, ["b", "password=x"], {}).warnings


@pytest.mark.parametrize(
    ("argv", "refusal"),
    [
        ((), "backend is missing: give BACKEND, or backend in the file of --config"),
        (("b",), "names is missing: give NAMES"),
        (("b", "a"), r"NAMES: \['a'\] is not allowed"),
        (("--backend", "b"), "unknown option '--backend'"),
    ],
)
def test_what_is_wrong_is_named(argv: tuple[str, ...], refusal: str) -> None:
    """By the name that the help gives it."""
    with pytest.raises(SettingsError, match=refusal):
        read(*argv)


def test_one_place_too_many() -> None:
    """There is no list to take it."""

    @dataclass(frozen=True, kw_only=True)
    class Short:
        backend: Annotated[str, Setting(positional=True)]

    with pytest.raises(SettingsError, match=r"^unexpected argument 'c'$"):
        load("short", Short, ["b", "c"], {})


def test_the_help_shows_the_places(capsys: pytest.CaptureFixture[str]) -> None:
    """In the order in which they are given."""
    with pytest.raises(SystemExit):
        read("--help")
    said = capsys.readouterr().out
    assert "usage: rename BACKEND KEY=VALUE ... [options]" in said
    assert "Of whom. [required]" in said


def test_the_help_shows_a_place_that_may_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """In brackets, as options that may be left out are."""

    @dataclass(frozen=True, kw_only=True)
    class Lenient:
        tables: Annotated[tuple[str, ...], Setting(positional=True, metavar="TABLE")] = ()

    with pytest.raises(SystemExit):
        load("lenient", Lenient, ["--help"], {})
    assert "usage: lenient [TABLE ...] [options]" in capsys.readouterr().out
