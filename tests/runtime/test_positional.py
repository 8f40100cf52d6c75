"""Settings that the command line tells apart by their place."""

from dataclasses import dataclass
from typing import Annotated

import pytest

from osmo_runtime.errors import SettingsError
from osmo_runtime.fields import Setting
from osmo_runtime.settings import load


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


def test_the_other_sources_are_as_for_options() -> None:
    """The environment stands in for a place that is empty."""
    assert read(OSMO_BACKEND="b", OSMO_NAMES="a=b,c=d") == Config(
        backend="b", names={"a": "b", "c": "d"}
    )
    assert read("b", OSMO_BACKEND="x", OSMO_NAMES="a=b").backend == "b"


@pytest.mark.parametrize(
    ("argv", "refusal"),
    [
        ((), "backend is missing: give BACKEND, or OSMO_BACKEND in the environment"),
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
    assert "usage: rename BACKEND KEY=VALUE ... [options]" in capsys.readouterr().out


def test_the_help_shows_a_place_that_may_be_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """In brackets, as options that may be left out are."""

    @dataclass(frozen=True, kw_only=True)
    class Lenient:
        tables: Annotated[tuple[str, ...], Setting(positional=True, metavar="TABLE")] = ()

    with pytest.raises(SystemExit):
        load("lenient", Lenient, ["--help"], {})
    assert "usage: lenient [TABLE ...] [options]" in capsys.readouterr().out
