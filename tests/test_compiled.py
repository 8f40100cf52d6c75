"""The compiled core: the modules that a wheel may have compiled, and the tests that meet them."""

import ast
import importlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hatch_build import CompilingHook

from osmo_runtime.build import core
from tests.test_layout import HOLDERS, PYPROJECT, ROOT

WHEEL = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
MODULES: list[str] = WHEEL["hooks"]["custom"]["modules"]


def hook(root: Path, *modules: str) -> CompilingHook:
    """The hook for a project in `root`."""
    metadata: Any = SimpleNamespace(core=SimpleNamespace(dependencies=["anyio"]))
    config: Any = None
    return CompilingHook(str(root), {"modules": list(modules)}, config, metadata, "", "wheel")


@pytest.mark.parametrize("module", MODULES)
def test_the_tests_meet_the_build_that_they_are_for(module: str) -> None:
    """`make test-compiled` runs compiled modules, `make test` what is edited."""
    (name,) = (
        Path(module).relative_to(each) for each in HOLDERS if Path(module).is_relative_to(each)
    )
    loaded = importlib.import_module(".".join(name.with_suffix("").parts))
    assert loaded.__file__ is not None
    compiled = not loaded.__file__.endswith(".py")
    assert compiled == bool(os.environ.get("OSMO_TEST_COMPILED")), loaded.__file__


def test_a_program_says_which_build_it_is() -> None:
    """As `--version` has it."""
    expected = "compiled core" if os.environ.get("OSMO_TEST_COMPILED") else "pure Python"
    assert core() == expected


@pytest.mark.parametrize("module", MODULES)
def test_no_coroutine_is_compiled(module: str) -> None:
    """One that mypyc makes loses exceptions to the next one."""
    waits = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)
    tree = ast.parse((ROOT / module).read_text())
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, waits)]


@pytest.mark.parametrize("module", MODULES)
def test_no_configuration_is_compiled(module: str) -> None:
    """Its methods are shared by all such classes, and look into what an object holds."""
    classes = [
        node
        for node in ast.walk(ast.parse((ROOT / module).read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    made = [ast.unparse(each) for node in classes for each in node.decorator_list]
    assert not [each for each in made if each.startswith("dataclass")]


def test_no_library_is_in_the_tree() -> None:
    """It would run in the place of what is edited."""
    assert not [path for holder in HOLDERS for path in (ROOT / holder).rglob("*.so")]


def test_nothing_is_compiled_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither that, nor what it takes, is anybody's concern who did not ask for it."""
    for said in ("", "0"):
        monkeypatch.setenv("OSMO_COMPILE", said)
        build_data: dict[str, Any] = {}
        hook(tmp_path, "missing.py").initialize("standard", build_data)
        assert (hook(tmp_path).dependencies(), build_data) == ([], {})
    monkeypatch.setenv("OSMO_COMPILE", "1")
    hook(tmp_path, "missing.py").initialize("editable", build_data)
    assert not build_data
    assert {"anyio", "mypy"} <= {name.partition(">")[0] for name in hook(tmp_path).dependencies()}


def test_who_asked_is_told_why_nothing_could_be_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No wheel of another kind is made in silence."""
    monkeypatch.setenv("OSMO_COMPILE", "1")
    monkeypatch.setenv("CC", str(tmp_path / "no-compiler"))
    tmp_path.joinpath("core.py").write_text("answer = 42\n")
    build_data: dict[str, Any] = {"force_include": {}}
    with pytest.raises(RuntimeError, match=r"(?s)no-compiler.*OSMO_COMPILE is set"):
        hook(tmp_path, "core.py").initialize("standard", build_data)
    assert build_data == {"force_include": {}}
