"""Modules of a package without the package."""

import sys
from pathlib import Path

import pytest

from osmo_transport._parts import only_parts_of


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a package with a module; executing the package is seen by what it holds then."""
    name = "package_of_much"
    folder = tmp_path / name
    folder.mkdir()
    (folder / "__init__.py").write_text("from .module import part\nrest = part + 1\n")
    (folder / "module.py").write_text("part = 1\n")
    (folder / "broken.py").write_text("raise OSError\n")
    monkeypatch.syspath_prepend(tmp_path)
    # So that they are forgotten, too.
    for each in (name, f"{name}.module"):
        monkeypatch.setitem(sys.modules, each, sys)
        monkeypatch.delitem(sys.modules, each)
    return name


def test_only_a_part_is_imported(package: str) -> None:
    """The package is executed when something else of it is asked for, and is one and the same."""
    with only_parts_of(package):
        from package_of_much.module import part  # type: ignore[import-not-found]
    assert part == 1
    assert "rest" not in vars(sys.modules[package])
    before = sys.modules[package]

    import package_of_much  # type: ignore[import-not-found]

    assert package_of_much.rest == 2
    assert package_of_much is before
    assert package_of_much.module.part == 1
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        _ = package_of_much.other


def test_what_is_imported_already_stays(package: str) -> None:
    """Nothing is executed twice."""
    import package_of_much

    with only_parts_of(package):
        assert sys.modules[package] is package_of_much


def test_nothing_is_left_of_a_part_that_cannot_be_imported(package: str) -> None:
    """What is imported next is the package itself."""
    with pytest.raises(OSError), only_parts_of(package):  # noqa: PT011 - it is all that it says
        import package_of_much.broken  # type: ignore[import-not-found]  # noqa: F401
    assert package not in sys.modules


def test_a_package_that_cannot_be_executed_says_so_each_time(package: str) -> None:
    """Its own error, and not that something is missing of it."""
    with only_parts_of(package):
        import package_of_much.module
    init = Path(str(sys.modules[package].__file__))
    whole = init.read_text()
    init.write_text("raise OSError('out of luck')\n")
    for _ in range(2):
        with pytest.raises(OSError, match="out of luck"):
            _ = package_of_much.rest
    init.write_text(whole)
    assert package_of_much.rest == 2


def test_a_package_that_is_not_there_is_named() -> None:
    """As by an import."""
    with (
        pytest.raises(ModuleNotFoundError, match="no_such_package"),
        only_parts_of("no_such_package"),
    ):
        pass
