"""The shape of the repository: what tools and packaging rely on, so that nothing is left out."""

import ast
import configparser
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(
    path.parent.relative_to(ROOT)
    for pattern in ("benchmarks", "protos", "libs/*", "services/*")
    for path in ROOT.glob(f"{pattern}/osmo_*/__init__.py")
)
HOLDERS = sorted({package.parent for package in PACKAGES})
"""The folders that hold a package, and are put on `sys.path`."""
BENCHMARKS = "benchmarks/osmo_benchmarks"
"""Is in the repository alone, as it needs a checkout."""
PEERS = "benchmarks/peers"
"""Holds a package that is no part of the distribution."""
PYPROJECT: Any = tomllib.loads((ROOT / "pyproject.toml").read_text())

TRANSPORT = ROOT / "libs/transport/osmo_transport"

OTHERS_WORDS = re.compile(
    r"(?<![a-z])(?:pods?|nodes?|kubernetes|k8s|kubelet|workflows?|gpu|deployed|redesign|listeners?"
    r"|operators?|workers?|cluster[ _-]?uid|osmo)(?![a-z])",
    re.IGNORECASE,
)
"""What a transport of anything at all knows nothing of. Only letters make a word longer, so that
`node` is found in `max_node` too."""

LISTENER = ROOT / "libs/listener/osmo_listener"

PROGRAMS_WORDS = re.compile(
    r"(?<![a-z])(?:workflows?|task[ _-]?uuid|gpu|deployed|redesign|listeners?|operators?|workers?"
    r"|backends?|osmo)(?![a-z])",
    re.IGNORECASE,
)
"""What an informer of anything at all, and a client of any cluster, know nothing of."""

PROGRAMS_WORDS_ALLOWED = (
    ("*.py", r"osmo_(listener|transport|protos)", "its own name, and what it stands on"),
    ("*.py", r"from operator import", "the module of the standard library"),
    ("kubernetes/*.py", r"osmo-pipeline\[kubernetes\]", "the distribution and its extra"),
    ("kubernetes/answers.py", '"osmo-listener"', "as which an API server's log knows us"),
)

ALLOWED_WORDS = (
    ("*.py", r"(from|import) operator\b|\boperator\.[a-z]", "the module of the standard library"),
    ("queues/redis/address.py", "nodes?", "of a Redis Cluster, as Redis and its client call them"),
    ("*.py", "osmo_(transport|protos)", "its own name, and that of the generated code"),
    (
        "testing/redis_server.py",
        "OSMO_TEST_REDIS|osmo-redis-",
        "what others see of this process has the distribution's name in it",
    ),
    ("testing/*.py", "osmo_queue", "a fixture among those of everybody"),
    ("registry.py", "osmo-pipeline", "the distribution that has ours"),
    ("websocket/handshake.py", r"osmo[./]v1", "the protocol's name on the wire"),
    ("grpc/transport.py", r"osmo\.transport\.v1", "as above"),
    ("websocket/over_picows.py", r"self\.listener|\"listener\"", "what picows calls so"),
    ("queues/redis/address.py", '"osmo"', "the prefix of the keys, as the design asks for"),
)
"""Where such a word is right all the same: a file, a pattern that is left out there, the reason."""


def test_packages_are_found() -> None:
    """The search above finds them all."""
    assert [package.name for package in PACKAGES] == [
        "osmo_benchmarks",
        *(
            "osmo_credentials",
            "osmo_deployed",
            "osmo_listener",
            "osmo_reports",
            "osmo_runtime",
            "osmo_simulator",
        ),
        "osmo_transport",
        "osmo_protos",
        *("osmo_operator", "osmo_pipeline", "osmo_worker"),
    ]


def test_every_list_names_every_package() -> None:
    """A package that a list forgets is not built, checked or linted."""
    names = {str(package) for package in PACKAGES}
    holders = {str(holder) for holder in HOLDERS}
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(wheel["packages"]) == names - {BENCHMARKS}
    assert set(wheel["dev-mode-dirs"]) == holders
    assert set(PYPROJECT["tool"]["mypy"]["mypy_path"].split(":")) == {*holders, PEERS}
    assert set(PYPROJECT["tool"]["ruff"]["src"]) == holders
    assert {Path(name).parts[0] for name in names} | {"docs", "hatch_build.py", "tests"} == set(
        PYPROJECT["tool"]["mypy"]["files"]
    )


def test_every_package_has_its_layer() -> None:
    """The layers of the import contracts hold each package once."""
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    names = sorted(package.name for package in PACKAGES)
    assert sorted(contracts["importlinter"]["root_packages"].split()) == names
    layers = contracts["importlinter:contract:layers"]["layers"]
    assert sorted(re.findall(r"\w+", layers)) == names


@pytest.mark.parametrize("package", PACKAGES, ids=str)
def test_package_is_typed(package: Path) -> None:
    """Without `py.typed` a type checker ignores what the package says."""
    assert (ROOT / package / "py.typed").is_file()


@pytest.mark.parametrize("holder", [*HOLDERS, Path("libs"), Path("services"), Path()], ids=str)
def test_holders_hold_no_module(holder: Path) -> None:
    """A module beside a package would be importable under its bare name: `operator` for one. The
    build hook stands where hatchling looks for it."""
    expected = {"hatch_build.py"} if holder == Path() else set()
    assert {path.name for path in (ROOT / holder).glob("*.py")} == expected


def test_every_folder_of_tests_is_a_package() -> None:
    """So that equal file names do not clash, and helpers can be imported; none hides a module of
    the standard library."""
    for folder in {path.parent for path in (ROOT / "tests").rglob("*.py")}:
        assert (folder / "__init__.py").is_file(), folder
        assert folder.name not in sys.stdlib_module_names


def test_every_test_says_what_it_holds() -> None:
    """A test's docstring is the sentence of the promise that it checks."""
    silent = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert not silent


def test_session_never_waits() -> None:
    """The session is sans-I/O: whoever drives it does the waiting."""
    modules = list((TRANSPORT / "session").rglob("*.py"))
    assert {module.stem for module in modules} >= {"admission", "client", "outbox", "server"}
    for module in modules:
        source = module.read_text()
        assert "await" not in source, module
        assert "async " not in source, module


def imported(module: Path) -> Iterator[str]:
    """The full names of what a module imports, wherever in it."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_transport_imports_none_of_ours() -> None:
    """It stands for itself: of this repository it has its own wire contract, and nothing else."""
    ours = {package.name for package in PACKAGES} - {"osmo_transport"}
    found = [
        f"{module.relative_to(ROOT)}: {name}"
        for module in TRANSPORT.rglob("*.py")
        for name in imported(module)
        if name.partition(".")[0] in ours
        and not f"{name}.".startswith("osmo_protos.transport_pb2.")
    ]
    assert not found


def strange_words(
    package: Path,
    modules: Iterable[Path],
    words: re.Pattern[str],
    allowed: Sequence[tuple[str, str, str]],
) -> list[str]:
    """Where in these modules such words are, but for those that are right all the same."""
    found = []
    for module in modules:
        name = module.relative_to(package)
        patterns = [pattern for where, pattern, _ in allowed if name.match(where)]
        for number, line in enumerate(module.read_text().splitlines(), 1):
            rest = re.sub("|".join(patterns), "", line) if patterns else line
            here = words.findall(rest)
            found += [f"{module.relative_to(ROOT)}:{number}: {word}" for word in here]
    return found


def test_the_transport_knows_nobody_who_uses_it() -> None:
    """No word of OSMO, of Kubernetes or of what is deployed is in it."""
    modules = TRANSPORT.rglob("*.py")
    assert not strange_words(TRANSPORT, modules, OTHERS_WORDS, ALLOWED_WORDS)


def test_the_informer_knows_nobody_who_uses_it() -> None:
    """No word of what is reported is in the informer, or in the client of the API server."""
    modules = [*(LISTENER / "informer").rglob("*.py"), *(LISTENER / "kubernetes").rglob("*.py")]
    assert {module.stem for module in modules} >= {"reflector", "store", "listwatch", "http"}
    assert not strange_words(LISTENER, modules, PROGRAMS_WORDS, PROGRAMS_WORDS_ALLOWED)


def test_listeners_do_nothing_but_compute() -> None:
    """They are told the time, and neither wait nor look anything up."""
    modules = list((LISTENER / "listeners").rglob("*.py"))
    assert {module.stem for module in modules} >= {"event", "node", "usage", "workflow"}
    for module in modules:
        source = module.read_text()
        for word in ("await", "async ", "open(", "datetime.now", "time.time", "environ"):
            assert word not in source, module
