"""Every source, the precedence between each two, and every refusal."""

import re
from dataclasses import field
from pathlib import Path
from typing import Annotated

import pytest

from osmo_runtime.errors import SettingsError
from osmo_runtime.fields import Setting
from osmo_runtime.settings import Loaded, load
from osmo_transport.lean import dataclass
from tests.runtime.sample import Colour, Config, Limits


class Sources:
    """A command line, an environment and a file for one reading."""

    def __init__(self, folder: Path) -> None:
        self.argv: list[str] = []
        self.environ: dict[str, str] = {}
        self._file = folder / "conf.toml"

    def file(self, text: str) -> str:
        """Write the file and name it on the command line; its path."""
        self._file.write_text(text)
        self.argv += ["--config", str(self._file)]
        return str(self._file)

    def load(self) -> Loaded[Config]:
        """Read them."""
        return load("sample", Config, self.argv, self.environ)

    def refusal(self) -> str:
        """The error that reading them gives."""
        with pytest.raises(SettingsError) as raised:
            self.load()
        return str(raised.value)


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(tmp_path)


CLI, ENV, ALIAS, SECOND_ALIAS, FILE = "cli", "env", "alias", "second alias", "file"
ORDER = [CLI, ENV, ALIAS, SECOND_ALIAS, FILE]


@pytest.mark.parametrize(
    "present",
    [ORDER[i:j] for i in range(5) for j in range(i + 1, 6)]
    + [[a, b] for i, a in enumerate(ORDER) for b in ORDER[i + 1 :]],
)
def test_precedence(sources: Sources, present: list[str]) -> None:
    """The command line wins over the environment, its own name over an alias, and all over the
    file."""
    path = sources.file(f'backend = "{FILE}"' if FILE in present else "")
    if CLI in present:
        sources.argv += ["--backend", CLI]
    names = {ENV: "OSMO_BACKEND", ALIAS: "BACKEND", SECOND_ALIAS: "CLUSTER"}
    sources.environ = {names[source]: source for source in present if source in names}
    loaded = sources.load()
    assert loaded.config.backend == present[0]
    origins = {CLI: "--backend", FILE: f"{path}: backend", **names}
    assert loaded.origins == {"backend": origins[present[0]]}


def test_defaults(sources: Sources) -> None:
    """With no source at all everything is at its default."""
    loaded = sources.load()
    assert loaded.config == Config()
    assert not loaded.origins
    assert not loaded.warnings


def test_every_type_from_the_command_line(sources: Sources) -> None:
    """Each type of field is read from text, lists and mappings by repetition."""
    sources.argv = [
        *("--listen", "a", "--listen", "b,c", "--nodes", "7", "--ratio", "0.25", "--watch"),
        *("--colour", "blue", "--mode", "b", "--out", "/x/y", "--weights", "p=8"),
        *("--weights", "q=1", "--limits-max-entries", "5", "--log-level", "debug"),
    ]
    config = sources.load().config
    assert config.listen == ("a", "b,c")
    assert (config.nodes, config.ratio, config.watch) == (7, 0.25, True)
    assert (config.colour, config.mode, config.out) == (Colour.BLUE, "b", Path("/x/y"))
    assert config.weights == {"p": 8, "q": 1}
    assert config.limits == Limits(max_entries=5)
    assert config.log_level.value == "DEBUG"


def test_every_type_from_the_environment(sources: Sources) -> None:
    """Each type of field is read from a variable, lists and mappings by commas."""
    sources.environ = {
        "OSMO_LISTEN": "a, b,",
        "OSMO_NODES": "7",
        "OSMO_RATIO": "1e-3",
        "OSMO_WATCH": "True",
        "OSMO_COLOUR": "blue",
        "OSMO_OUT": "/x/y",
        "OSMO_WEIGHTS": "p=8,q=1",
        "OSMO_LIMITS_MAX_ENTRIES": "5",
    }
    config = sources.load().config
    assert config.listen == ("a", "b")
    assert (config.nodes, config.ratio, config.watch) == (7, 0.001, True)
    assert (config.colour, config.out, config.weights) == (
        Colour.BLUE,
        Path("/x/y"),
        {"p": 8, "q": 1},
    )
    assert config.limits.max_entries == 5


def test_every_type_from_the_file(sources: Sources) -> None:
    """Each type of field is read from TOML's own types; a whole number does for a float."""
    sources.file(
        'listen = ["a", "b"]\nnodes = 7\nratio = 2\nwatch = true\ncolour = "blue"\nout = "/x/y"\n'
        "weights = {p = 8, q = 1}\n[limits]\nmax_entries = 5\n"
    )
    config = sources.load().config
    assert config.listen == ("a", "b")
    assert (config.nodes, config.ratio, config.watch) == (7, 2.0, True)
    assert (config.colour, config.out, config.weights) == (
        Colour.BLUE,
        Path("/x/y"),
        {"p": 8, "q": 1},
    )
    assert config.limits.max_entries == 5


def test_lists_and_mappings_replace_those_of_a_lower_source(sources: Sources) -> None:
    """What a higher source gives is the whole list, not more of it."""
    sources.file('listen = ["a", "b"]\nweights = {p = 8}')
    sources.environ = {"OSMO_LISTEN": "c", "OSMO_WEIGHTS": "q=1"}
    config = sources.load().config
    assert (config.listen, config.weights) == (("c",), {"q": 1})


def test_switch_can_be_turned_off(sources: Sources) -> None:
    """`--no-...` overrides a variable that turned it on."""
    sources.environ = {"OSMO_WATCH": "1"}
    sources.argv = ["--no-watch"]
    assert sources.load().config.watch is False


def test_empty_variable_is_not_set(sources: Sources) -> None:
    """An empty variable leaves its alias, and the default, in force."""
    sources.environ = {"OSMO_BACKEND": "", "BACKEND": "alias", "OSMO_NODES": ""}
    config = sources.load().config
    assert (config.backend, config.nodes) == ("alias", 3)


def test_config_file_from_the_environment(sources: Sources, tmp_path: Path) -> None:
    """`OSMO_CONFIG` names the file, unless `--config` does."""
    other = tmp_path / "other.toml"
    other.write_text("nodes = 8\n")
    sources.environ = {"OSMO_CONFIG": str(other)}
    assert sources.load().config.nodes == 8
    sources.file("nodes = 9")
    assert sources.load().config.nodes == 9


def test_home_of_the_user(sources: Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path may start with `~`, since no shell expands it in a file."""
    monkeypatch.setenv("HOME", "/home/me")
    sources.environ = {"OSMO_OUT": "~/kube"}
    assert sources.load().config.out == Path("/home/me/kube")


def test_table_with_a_default_of_its_own() -> None:
    """Of a table whose default is an instance, what is not given stays as that instance has it."""

    @dataclass(frozen=True, kw_only=True)
    class Outer:
        limits: Limits = field(default_factory=lambda: Limits(share=0.125))

    loaded = load("sample", Outer, ["--limits-max-entries", "5"], {})
    assert loaded.config.limits == Limits(max_entries=5, share=0.125)


RANGE = "expected a whole number from 0 up to 100"
REFUSED_TEXTS = [
    ("--nodes", "abc", RANGE),
    ("--nodes", "1.5", RANGE),
    ("--nodes", "-1", RANGE),
    ("--nodes", "101", RANGE),
    ("--ratio", "fast", "expected a number"),
    ("--ratio", "nan", "expected a number"),
    ("--colour", "green", "expected one of red, blue"),
    ("--mode", "c", "expected one of a, b"),
    ("--weights", "p", "expected pairs of a key and a whole number"),
    ("--weights", "=1", "expected pairs of a key and a whole number"),
    ("--weights", "p=x", "expected pairs of a key and a whole number"),
    ("--limits-max-entries", "0", "expected a whole number from 1"),
    ("--limits-share", "0", "expected a number above 0 up to 1"),
    ("--log-level", "loud", "expected one of DEBUG, INFO, WARNING, ERROR"),
]


@pytest.mark.parametrize(("flag", "value", "allowed"), REFUSED_TEXTS)
def test_refused_on_the_command_line(sources: Sources, flag: str, value: str, allowed: str) -> None:
    """A wrong value is refused with the option, the value and what is allowed."""
    sources.argv = [f"{flag}={value}"]
    shown = repr([value] if flag == "--weights" else value)
    assert sources.refusal() == f"{flag}: {shown} is not allowed: {allowed}"


@pytest.mark.parametrize(
    ("flag", "value", "allowed"), [*REFUSED_TEXTS, ("--watch", "yes", "expected true or false")]
)
def test_refused_in_the_environment(sources: Sources, flag: str, value: str, allowed: str) -> None:
    """A wrong value is refused with the variable, the value and what is allowed."""
    name = "OSMO_" + flag[2:].replace("-", "_").upper()
    sources.environ = {name: value}
    shown = repr([value] if flag == "--weights" else value)
    assert sources.refusal() == f"{name}: {shown} is not allowed: {allowed}"


def test_refused_under_an_alias(sources: Sources) -> None:
    """The error names the variable that is set, not the one that could be."""

    @dataclass(frozen=True, kw_only=True)
    class Buffer:
        size: Annotated[int, Setting(aliases=("POD_UPDATE_CHAN_SIZE",))] = 500

    with pytest.raises(SettingsError, match=re.escape("POD_UPDATE_CHAN_SIZE: 'x' is not allowed")):
        load("sample", Buffer, [], {"POD_UPDATE_CHAN_SIZE": "x"})


@pytest.mark.parametrize(
    ("text", "key", "shown", "allowed"),
    [
        ("nodes = '7'", "nodes", "'7'", RANGE),
        ("nodes = 7.0", "nodes", "7.0", RANGE),
        ("nodes = true", "nodes", "True", RANGE),
        ("ratio = nan", "ratio", "nan", "expected a number"),
        ("watch = 1", "watch", "1", "expected true or false"),
        ("listen = 'a'", "listen", "'a'", "expected a list, each item text"),
        ("listen = [1]", "listen", "[1]", "expected a list, each item text"),
        ("out = 1", "out", "1", "expected a path"),
        ("backend = 1", "backend", "1", "expected text"),
        ("weights = ['p=1']", "weights", "['p=1']", "expected pairs of a key and a whole number"),
        ("[limits]\nshare = 2", "limits.share", "2", "expected a number above 0 up to 1"),
    ],
)
def test_refused_in_the_file(
    sources: Sources, text: str, key: str, shown: str, allowed: str
) -> None:
    """A value of the wrong TOML type is refused with the file, the key and what is allowed."""
    path = sources.file(text)
    assert sources.refusal() == f"{path}: {key}: {shown} is not allowed: {allowed}"


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("nods = 1", "unknown key 'nods': did you mean 'nodes'?"),
        ("limit = 1", "unknown key 'limit': did you mean 'limits'?"),
        ("max-entries = 1", "unknown key 'max-entries': known here: "),
        (
            "[limits]\nmax-entries = 1",
            "unknown key 'limits.max-entries': did you mean 'max_entries'?",
        ),
        ("[limits]\nzzz = 1", "unknown key 'limits.zzz': known here: max_entries, share"),
        ("limits = 5", "limits is not allowed: expected a table, [limits]"),
    ],
)
def test_unknown_key_in_the_file(sources: Sources, text: str, refusal: str) -> None:
    """An unknown key is refused by name with the nearest known one, or else all of them."""
    path = sources.file(text)
    assert sources.refusal().startswith(f"{path}: {refusal}")


@pytest.mark.parametrize(
    ("argv", "refusal"),
    [
        (["--nods", "1"], "unknown option '--nods': did you mean '--nodes'?"),
        (["--login-tokn=hunter2"], "unknown option '--login-tokn': did you mean '--login'?"),
        (["--node", "1"], "unknown option '--node': did you mean '--nodes'?"),
        (["demo"], "unexpected argument 'demo': every value has an option"),
        (["--nodes"], "--nodes: expected one argument"),
    ],
)
def test_unknown_option(sources: Sources, argv: list[str], refusal: str) -> None:
    """An unknown option is refused with the nearest known one; no option can be abbreviated."""
    sources.argv = argv
    assert sources.refusal() == refusal


def test_missing_file(sources: Sources, tmp_path: Path) -> None:
    """A file that is not there is named."""
    path = tmp_path / "absent.toml"
    sources.argv = ["--config", str(path)]
    assert (
        sources.refusal() == f"cannot read the configuration file {path}: No such file or directory"
    )


def test_file_that_is_not_toml(sources: Sources) -> None:
    """A file with a syntax error is named with the place of the error."""
    path = sources.file("nodes: 5")
    assert re.match(rf"{re.escape(path)} is not a TOML file: .*line 1", sources.refusal())


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (r'out = "/x\u0000"', "out"),
        (r'listen = ["a", "\u0000"]', "listen"),
        (r'weights = {"\u0000" = 1}', "weights"),
        ("[limits]\n" + r'max_entries = "\u0000"', "limits.max_entries"),
    ],
)
def test_nul_in_a_file(sources: Sources, line: str, key: str) -> None:
    """What no option can hold, and the system takes in no name, is refused in a file, too."""
    path = sources.file(line)
    assert sources.refusal() == f"{path}: {key} is not allowed: it holds the character \\u0000"


def test_value_that_the_dataclass_refuses(sources: Sources) -> None:
    """What `__post_init__` refuses with a ValueError is an error of the table."""
    sources.argv = ["--limits-max-entries", "13"]
    assert sources.refusal() == "limits: max_entries must not be 13"


def test_missing_value() -> None:
    """A field without a default has to be given, and the error says where it can be."""

    @dataclass(frozen=True, kw_only=True)
    class Needs:
        connect: Annotated[str, Setting(aliases=("SERVICE_URL",))]

    with pytest.raises(SettingsError) as raised:
        load("sample", Needs, [], {})
    assert str(raised.value) == (
        "connect is missing: give --connect, or OSMO_CONNECT or SERVICE_URL in the environment, or"
        " connect in the file of --config"
    )


def test_refusal_shows_no_secret(sources: Sources) -> None:
    """The value of a secret, and a password in a URL, do not stand in the error about them."""

    @dataclass(frozen=True, kw_only=True)
    class Pins:
        pin: Annotated[int, Setting(secret=True)] = 0
        url: int = 0

    with pytest.raises(SettingsError, match=re.escape("OSMO_PIN: '****' is not allowed")):
        load("sample", Pins, [], {"OSMO_PIN": "hunter2"})
    with pytest.raises(SettingsError, match=re.escape("'redis://:****@h' is not allowed")):
        load("sample", Pins, ["--url", "redis://:hunter2@h"], {})


def test_refusal_is_short(sources: Sources) -> None:
    """A long value is cut in the error."""
    sources.argv = ["--nodes", "9" * 1000]
    assert len(sources.refusal()) < 200


@pytest.mark.parametrize(
    ("name", "warned"),
    [
        ("OSMO_NODS", "OSMO_NODES"),
        ("OSMO_LIMIT_MAX_ENTRIES", "OSMO_LIMITS_MAX_ENTRIES"),
        ("OSMO_CONFG", "OSMO_CONFIG"),
        ("OSMO_NODES", None),
        ("OSMO_CONFIG", None),
        ("OSMO_OPERATOR_SERVICE_HOST", None),
        ("OSMO_POSTGRES_HOST", None),
        ("NODS", None),
    ],
)
def test_typo_in_the_environment(sources: Sources, name: str, warned: str | None) -> None:
    """A variable that looks like a known one is warned about; those of other programs are not."""
    path = sources.file("")
    sources.environ = {name: "5" if name != "OSMO_CONFIG" else path}
    expected = f"environment variable {name} is not known: is {warned} meant?"
    assert sources.load().warnings == ((expected,) if warned else ())


def test_clashing_names() -> None:
    """A field that takes the name of another option is a mistake of the program, told at once."""

    @dataclass(frozen=True, kw_only=True)
    class Clash:
        version: str = ""

    with pytest.raises(Exception, match="conflicting option string: --version"):
        load("sample", Clash, [], {})


def test_shown_settings(sources: Sources) -> None:
    """The settings in force are shown as a file, secrets masked, each with its origin."""
    path = sources.file('login = "hunter2"\nqueue = "redis://:hunter2@h"\n[limits]\nshare = 1\n')
    sources.argv += ["--weights", "a b=1", "--nodes", "4"]
    sources.environ = {"OSMO_API_TOKEN": "hunter2", "CLUSTER": "é\n\x7f"}
    loaded = sources.load()
    text = loaded.to_toml()
    assert "hunter2" not in text
    assert "hunter2" not in str(loaded.to_dict())
    for line in (
        f'login = "****"  # {path}: login',
        f'queue = "redis://:****@h"  # {path}: queue',
        'api_token = "****"  # OSMO_API_TOKEN',
        'backend = "é\\n\\u007f"  # CLUSTER',
        "# out is not set",
        'weights = {"a b" = 1}  # --weights',
        "nodes = 4  # --nodes",
        "watch = false  # default",
        f"share = 1.0  # {path}: limits.share",
    ):
        assert line in text.splitlines()


@dataclass(frozen=True, kw_only=True)
class WithPlaces:
    """Two places that may ask for a password, one of which may come from a file."""

    queue: str = ""
    """One."""
    queue_password_file: Path | None = None
    """Its password."""
    other: str = ""
    """Another."""
    listen: tuple[str, ...] = ()
    """Some."""


def test_a_secret_in_an_argument_is_warned_of() -> None:
    """With where to give it instead, and without it; nobody else sees the environment."""
    url = "redis://:sesame@host"
    found = load("sample", WithPlaces, ["--queue", url, "--other", url], {}).warnings
    assert len(found) == 2
    assert "the secret in --queue" in found[0]
    assert found[0].endswith(
        "OSMO_QUEUE in the environment, or the password in --queue-password-file"
    )
    assert found[1].endswith("OSMO_OTHER in the environment")
    assert "sesame" not in "".join(found)
    harmless = ["--queue", "redis://u@host", "--listen", "ws://[::]:1", "--listen", "grpc://:2"]
    assert not load("sample", WithPlaces, harmless, {"OSMO_OTHER": url}).warnings
    found = load("sample", WithPlaces, ["--listen", "ws://:1", "--listen", url], {}).warnings
    assert "the secret in --listen" in found[0]
