"""What a file of condition rules declares, and over whom it decides."""

import logging
from pathlib import Path

import pytest

from osmo_operator.rules_file import RulesFile
from osmo_reports import Directory, open_directory
from osmo_reports.conditions import DEFAULT_RULES
from osmo_reports.directory import Origin
from osmo_reports.errors import RulesDeclaredError
from osmo_transport import QueueRefusedError, UsageError

TOML = """
[a]
Ready = "True"
"^Gpu.*Problem$" = "False|Unknown"
[b]
Ready = "Unknown"
"""
REORDERED = """
[b]
Ready = "Unknown"
[a]
"^Gpu.*Problem$" = "False|Unknown"
Ready = "True"
"""
JSON = '{"a": {"Ready": "True", "^Gpu.*Problem$": "False|Unknown"}, "b": {"Ready": "Unknown"}}'
A, B = {"Ready": "True", "^Gpu.*Problem$": "False|Unknown"}, {"Ready": "Unknown"}


async def declare(
    file: RulesFile, directory: Directory
) -> dict[str, tuple[dict[str, str], Origin]]:
    """What holds after the directory was told."""
    told = await file.declare(directory, await directory.rules())
    assert told == await directory.rules()
    return {backend: (known.rules, known.origin) for backend, known in told.items()}


def replace(path: Path, text: str) -> None:
    """Put another file in its place, in one step."""
    new = path.with_name("new")
    new.write_text(text)
    new.replace(path)


@pytest.mark.parametrize(("name", "text"), [("rules.toml", TOML), ("rules.json", JSON)])
async def test_a_file_is_toml_or_by_its_name_json(tmp_path: Path, name: str, text: str) -> None:
    """With what `rules set` takes for each backend."""
    (path := tmp_path / name).write_text(text)
    async with await open_directory("memory://") as directory:
        expected = {"a": (A, Origin.FILE), "b": (B, Origin.FILE)}
        assert await declare(RulesFile(path), directory) == expected


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("rules.toml", JSON, "Invalid"),
        ("rules.json", TOML, "JSON is malformed"),
        ("rules.toml", "\xff", "can't decode byte"),
        ("rules.toml", 'Ready = "True"', "Ready: Expected `object`, got `str`"),
        ("rules.toml", "[a]\nReady = true", "a: Expected `str`, got `bool`"),
        ("rules.toml", '[a]\nReady = "True"\nReady = "False"', "Cannot overwrite a value"),
        ("rules.toml", '[a]\n"Disk(" = "x"\nB = "["', r"a: the rule Disk\(=x: .*; the rule B=\["),
        ("rules.toml", "[a]", "a: there is no rule"),
        ("rules.toml", '[""]\nReady = "True"', "length >= 1"),
        ("rules.toml", f"a = {'[' * 10_000}", "nests too deeply"),
        ("rules.json", "[" * 10_000, "nests too deeply"),
    ],
)
def test_a_file_that_cannot_be_used_is_told(
    tmp_path: Path, name: str, text: str, problem: str
) -> None:
    """At the start, with what is wrong in it."""
    (path := tmp_path / name).write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match=f"(?s){path} cannot be used: .*{problem}"):
        RulesFile(path)


async def test_a_file_that_breaks_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What it declared before stays in force; that is told once."""
    (path := tmp_path / "rules.toml").write_text(TOML)
    file = RulesFile(path)
    async with await open_directory("memory://") as directory:
        before = await declare(file, directory)
        for text in ("[a", "[a]\nReady = true"):
            replace(path, text)
            for _ in range(2):
                assert file.is_in_force
                assert await declare(file, directory) == before
        path.unlink()
        assert await declare(file, directory) == before
        errors = [record.getMessage() for record in caplog.records]
        assert len([text for text in errors if "stays in force" in text]) == 3
        replace(path, '[a]\nReady = "False"')
        assert not file.is_in_force
        assert (await declare(file, directory))["a"] == ({"Ready": "False"}, Origin.FILE)


async def test_a_file_decides_over_everybody(tmp_path: Path) -> None:
    """Over what was set before, and what is set after that is refused; a forgotten backend has its
    rules again. What is taken out of it has the default rules, and may be set."""
    (path := tmp_path / "rules.toml").write_text(TOML)
    file = RulesFile(path)
    async with await open_directory("memory://") as directory:
        for backend in ("b", "c"):
            await directory.set_rules(backend, {"Ready": "x"})
        c = ({"Ready": "x"}, Origin.COMMAND)
        expected = {"a": (A, Origin.FILE), "b": (B, Origin.FILE), "c": c}
        assert await declare(file, directory) == expected
        with pytest.raises(RulesDeclaredError):
            await directory.set_rules("a", {"Ready": "x"})
        await directory.forget("a")
        assert await declare(file, directory) == expected
        versions = {known.version for known in (await directory.rules()).values()}
        replace(path, REORDERED)
        assert await declare(file, directory) == expected
        assert {known.version for known in (await directory.rules()).values()} == versions
        replace(path, '[b]\nReady = "False"')
        expected |= {"a": (dict(DEFAULT_RULES), Origin.DEFAULT)}
        expected |= {"b": ({"Ready": "False"}, Origin.FILE)}
        assert await declare(file, directory) == expected
        await directory.set_rules("a", {"Ready": "y"})
        expected |= {"a": ({"Ready": "y"}, Origin.COMMAND)}
        assert await declare(file, directory) == expected


async def test_operators_with_other_files_do_not_fight(tmp_path: Path) -> None:
    """While a new file reaches one after the other, the last that was taken up holds."""
    old, new = tmp_path / "old.toml", tmp_path / "new.toml"
    old.write_text('[a]\nReady = "1"\n[b]\nReady = "1"')
    new.write_text('[a]\nReady = "2"')
    late, soon = RulesFile(old), RulesFile(old)
    async with await open_directory("memory://") as directory:
        for file in (late, soon):
            await declare(file, directory)
        soon = RulesFile(new)
        expected = {"a": ({"Ready": "2"}, Origin.FILE)}
        expected |= {"b": (dict(DEFAULT_RULES), Origin.DEFAULT)}
        assert await declare(soon, directory) == expected
        assert (await declare(late, directory))["a"] == expected["a"]
        before = await directory.rules()
        replace(old, '[a]\nReady = "2"')
        await declare(late, directory)
        assert await declare(soon, directory) == expected
        assert before["a"] == (await directory.rules())["a"]


async def test_what_the_store_refuses_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And tried again."""
    (path := tmp_path / "rules.toml").write_text(TOML)
    file = RulesFile(path)
    async with await open_directory("memory://") as directory:

        async def refuse(*_: object) -> None:
            raise QueueRefusedError("it is read-only")

        with monkeypatch.context() as readonly:
            readonly.setattr(directory, "declare_rules", refuse)
            for _ in range(2):
                assert await declare(file, directory) == {}
                assert not file.is_in_force
        warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        assert len([text for text in warnings if "it is read-only" in text]) == 1
        assert set(await declare(file, directory)) == {"a", "b"}
        assert file.is_in_force
