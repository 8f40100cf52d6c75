"""What a user gets who installs the package: the wheel, the programs, none of the extras needed."""

import email
import email.policy
import io
import re
import subprocess
import sys
import tomllib
import zipfile
from email.message import EmailMessage
from importlib.metadata import EntryPoint, distribution
from pathlib import Path

import pytest
import trove_classifiers
from hatchling.builders.wheel import WheelBuilder
from readme_renderer import markdown

from osmo_credentials import KINDS as CREDENTIALS
from osmo_reports.directory import DIRECTORIES
from osmo_transport.queues.redis.layout import LAYOUTS
from osmo_transport.registry import QUEUES, TRANSPORTS, Group, named, schemes
from osmo_transport.testing.plugin import PLACES
from tests.test_layout import BENCHMARKS, PACKAGES, PYPROJECT, ROOT

PROGRAMS = ["osmo-listener", "osmo-operator", "osmo-pipeline", "osmo-simulator", "osmo-worker"]
EXTRAS = [
    *("aiofastnet", "aiohappyeyeballs", "aiohttp", "google", "grpc", "grpc_health"),
    *(
        "grpc_reflection",
        "hiredis",
        "httptools",
        "kubernetes",
        "opentelemetry",
        "picows",
        "prometheus_client",
    ),
    *("psycopg", "re2", "redis", "rich", "sqlalchemy", "uvloop", "websockets", "yaml"),
]
"""Every package that an extra brings."""

BLOCK = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {EXTRAS}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from the tree."""
    builder = WheelBuilder(str(ROOT))
    folder = str(tmp_path_factory.mktemp("dist"))
    return zipfile.ZipFile(next(iter(builder.build(directory=folder, versions=["standard"]))))


def test_wheel_holds_every_package(wheel: zipfile.ZipFile) -> None:
    """All modules, the type markers and the wire contract are in, and nothing else of the tree."""
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(ROOT / package.parent))
        for package in PACKAGES
        if str(package) != BENCHMARKS
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix in {".py", ".pyi", ".proto", ".typed"}
    }
    assert expected <= held
    names = {package.name for package in PACKAGES if str(package) != BENCHMARKS}
    assert {name.partition("/")[0] for name in held} == names


def test_wheel_is_for_every_platform(wheel: zipfile.ZipFile) -> None:
    """Unless it is asked for, nothing is compiled."""
    assert str(wheel.filename).endswith("-py3-none-any.whl")


def test_wheel_carries_its_licence(wheel: zipfile.ZipFile) -> None:
    """The text of the licence goes with every copy."""
    assert [name for name in wheel.namelist() if name.endswith(".dist-info/licenses/LICENSE")]


@pytest.fixture(scope="module")
def page(wheel: zipfile.ZipFile) -> tuple[EmailMessage, str]:
    """What an index shows of the package: its facts, and its page as HTML."""
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    facts = email.message_from_bytes(wheel.read(name), policy=email.policy.default)
    complaints = io.StringIO()
    shown = markdown.render(facts.get_content(), stream=complaints)
    assert shown is not None, complaints.getvalue()
    return facts, shown


def test_the_page_of_the_package_leads_to_the_repository(page: tuple[EmailMessage, str]) -> None:
    """Its links and pictures are absolute, and name what is in the repository."""
    _, shown = page
    urls = PYPROJECT["project"]["urls"]
    links = re.findall(r'(?:href|src)="([^"#]+)', shown)
    inside = [link for link in links if link.startswith(urls["Source"])]
    assert len(inside) > 10
    for link in inside:
        way, path = re.fullmatch(rf"{urls['Source']}/(blob|raw)/main/(.+)", link).groups()  # type: ignore[union-attr]
        assert (ROOT / path).exists(), link
        assert (way == "raw") == (path.endswith(".svg")), link
    assert all(link.startswith("https://") for link in links)


def test_the_page_of_the_package_has_its_facts(page: tuple[EmailMessage, str]) -> None:
    """What an index sorts packages by, and where a reader goes from there."""
    facts, shown = page
    assert "<pre" in shown
    assert facts["Description-Content-Type"] == "text/markdown"
    known = {url.partition(", ")[0] for url in facts.get_all("Project-URL", [])}
    assert known == {"Changelog", "Documentation", "Homepage", "Issues", "Source"}
    assert set(facts.get_all("Classifier", [])) <= set(trove_classifiers.classifiers)


def test_benchmarks_are_in_the_repository() -> None:
    """From an installed package their command says where they are, and how to run them."""
    hidden = BLOCK.replace(str(EXTRAS), "['osmo_benchmarks']")
    start = "sys.argv[1:] = ['bench', '--quick']\nfrom osmo_pipeline.__main__ import main"
    done = run(f"{hidden}\n{start}\nsys.exit(main())")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        f"git clone {PYPROJECT['project']['urls']['Source']}, and there: make bench" in done.stderr
    )


def test_all_brings_every_extra() -> None:
    """`osmo-pipeline[all]` leaves out no extra but those of benchmarks and of developers."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    chosen = extras["all"][0].partition("[")[2].partition("]")[0].split(",")
    assert set(chosen) == set(extras) - {"all", "bench", "dev", "docs"}


def entry_points(group: str) -> dict[str, EntryPoint]:
    """What the installed distribution registers."""
    found = distribution("osmo-pipeline").entry_points.select(group=group)
    return {entry.name: entry for entry in found}


def test_programs_are_registered() -> None:
    """Each program of the README is a command after the installation."""
    assert sorted(entry_points("console_scripts")) == PROGRAMS


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_resolves(program: str) -> None:
    """The command's function exists."""
    assert callable(entry_points("console_scripts")[program].load())


def test_pytest_plugins_resolve() -> None:
    """The plugins that pytest loads in the tests of other components exist."""
    plugins = entry_points("pytest11")
    assert sorted(plugins) == ["osmo_pipeline", "osmo_transport"]
    assert all(plugin.load() for plugin in plugins.values())


@pytest.mark.parametrize(
    "group",
    [TRANSPORTS, QUEUES, CREDENTIALS, LAYOUTS, PLACES, DIRECTORIES],
    ids=lambda group: group.name,
)
def test_what_a_name_leads_to_exists(group: Group) -> None:
    """What is found under a scheme, or another name, can be called."""
    found = schemes(group)
    assert found
    assert group.ours.keys() <= set(found)
    for name in found:
        assert callable(named(group, name)), name


def run(code: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter, to its end."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path("/")
    )


@pytest.mark.parametrize(
    "module",
    [
        *("osmo_transport", "osmo_protos", "osmo_reports", "osmo_deployed"),
        *("osmo_runtime.runner", "osmo_listener", "osmo_operator"),
    ],
)
def test_import_needs_no_extra(module: str) -> None:
    """It imports where no extra is installed."""
    done = run(f"{BLOCK}\nimport {module}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("program", PROGRAMS)
def test_program_without_extras(program: str) -> None:
    """A program that lacks an extra says how to install it, and never fails with a traceback."""
    module, _, function = entry_points("console_scripts")[program].value.partition(":")
    start = f"sys.argv[1:] = ['--help']\nfrom {module} import {function} as main\nsys.exit(main())"
    done = run(f"{BLOCK}\n{start}")
    assert "Traceback" not in done.stderr
    if done.returncode == 0:
        assert "usage:" in done.stdout
    else:
        assert done.returncode == 2
        assert "pip install 'osmo-pipeline[" in done.stderr
