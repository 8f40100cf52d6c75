"""The pages that the code tells of itself, and the build that finds dead links."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from osmo_runtime.fields import read_table
from osmo_runtime.operations import Figure
from osmo_transport.frames import Frame
from tests.documents.guide import ROOT


@pytest.fixture(scope="module")
def reference() -> Any:
    """The extension that makes the pages."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs/reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_setting_is_told(reference: Any) -> None:
    """Of each program, with its names, a default and what it means."""
    page = (ROOT / "docs/reference/configuration.md").read_text()
    for program, config in reference.PROGRAMS.items():
        assert f"}} {program.split()[0]}" in page
        lines = list(reference.configuration(program))
        for leaf in read_table(config).walk():
            (place,) = (n for n, line in enumerate(lines) if f"`{leaf.key}`; default: " in line)
            assert leaf.flag.lstrip("-") in lines[place - 2]
            assert re.fullmatch(r": \S.*\n", lines[place - 1]), leaf.key
            names = ", ".join(f"`{name}`" for name in (*leaf.env_names, leaf.key))
            assert lines[place].startswith(f"  {names}; default: ")


def test_nothing_of_this_machine_is_told(reference: Any) -> None:
    """The page is the same wherever it is built."""
    rows = "\n".join(reference.configuration("osmo-worker"))
    assert "HOST-PID" in rows
    assert str(Path.home()) not in rows


def test_every_figure_is_told(
    reference: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that stand in a service's `figures`, by the names that Prometheus has."""
    package = tmp_path / "some_service"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "figures.py").write_text(
        "from osmo_runtime.operations import Figure, Kind\n"
        "SEEN = Figure('osmo_seen', Kind.COUNTER, 'What was seen.', ('stream', 'backend'))\n"
        "TAKEN = Figure('osmo_taken', Kind.HISTOGRAM, 'How long it took.', (), 's')\n"
        "ALL = (SEEN, TAKEN)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    service = ModuleType("some_service")
    service.__path__ = [str(package)]
    rows = [row for row in reference.metrics({"a": service}) if row.startswith("| `")]
    assert rows == [
        "| `osmo_seen_total` | counter | `stream`, `backend` | What was seen. |",
        "| `osmo_taken_seconds` | histogram |  | How long it took. |",
    ]


def test_every_figure_is_found(reference: Any) -> None:
    """No service has a catalogue in a place where nobody looks."""
    told = "\n".join(reference.metrics())
    for name, module in list(sys.modules.items()):
        if name.startswith("osmo_") and name.endswith(".figures"):
            for value in vars(module).values():
                assert not isinstance(value, Figure) or f"`{value.exposed}`" in told


def test_every_frame_is_told(reference: Any) -> None:
    """With each of its fields in its place."""
    text = "\n".join(reference.wire())
    for frame in Frame.__args__:
        section = text.partition(f"\n## {frame.__struct_config__.tag}\n")[2].partition("\n## ")[0]
        rows = [row for row in section.splitlines() if row.startswith("| ") and "`" in row]
        names = [row.split(" | ")[1].strip("`") for row in rows]
        assert tuple(names) == frame.__struct_fields__


SOUND = ("page.md", "page.md#a-heading", "#begin")
DEAD = ("page.md#no-heading", "#nowhere", "absent.md", "absent.py")


def test_a_dead_link_fails_the_build(tmp_path: Path) -> None:
    """To a page, a heading or a file; each is named, and no sound one is."""
    docs = tmp_path / "docs"
    docs.mkdir()
    links = "\n".join(f"[link]({link})" for link in (*SOUND, *DEAD))
    toc = "```{toctree}\npage\n```\n"
    (docs / "index.md").write_text(f"# Begin\n\n{links}\n\n{toc}")
    (docs / "page.md").write_text("# Page\n\n## A heading\n\ntext\n")
    strict = ("-q", "-E", "-W", "--keep-going", "-n", "-b", "dummy", "-c", str(ROOT / "docs"))
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *strict, str(tmp_path), str(tmp_path / "site")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    warnings = [line for line in done.stderr.splitlines() if "[myst.xref_missing]" in line]
    assert len(warnings) == len(DEAD)
    for link, warning in zip(DEAD, warnings, strict=True):
        assert repr(link.removeprefix("page.md#").removeprefix("#")) in warning
