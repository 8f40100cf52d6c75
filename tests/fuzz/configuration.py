"""Settings from files and the environment, addresses, and condition rules."""

import tempfile
from pathlib import Path
from typing import NamedTuple

from osmo_operator.rules_file import read_rules
from osmo_reports.conditions import ConditionRules, check_rules
from osmo_reports.directory import decode_rules
from osmo_runtime import settings
from osmo_runtime.errors import SettingsError
from osmo_runtime.operations.server import address
from osmo_transport import UsageError
from osmo_transport.queues.redis.address import Address
from osmo_transport.transports.urls import parsed
from tests.fuzz.draw import Draw, Typed
from tests.fuzz.family import Family
from tests.runtime.sample import Config

_file = Path(tempfile.mkdtemp(prefix="osmo-fuzz-")) / "config.toml"
_IN_ORDER = settings.load("sample", Config, [], {}).to_toml().encode()
_VARIABLES = (
    *("OSMO_LISTEN", "OSMO_NODES", "OSMO_RATIO", "OSMO_WATCH", "OSMO_COLOUR", "BACKEND"),
    *("OSMO_LIMITS_SHARE", "OSMO_LISTEM"),
)
_RULES = Typed(dict[str, str])
_PATTERNS = (
    "(",
    "(?i)",
    "a{1000}",
    "(a*)*",
    "[",
    "\\p{Greek}",
    "|",
    "^",
    "$",
    "(?P<x>",
    "\\",
    "{}",
)


class Given(NamedTuple):
    """A file and some variables."""

    file: bytes
    variables: dict[str, str]


def _make(draw: Draw) -> Given:
    lines = [line for line in _IN_ORDER.split(b"\n") if draw.often(0.3) or line.startswith(b"[")]
    file = b"\n".join(lines)
    variables = {name: str(draw.text()) for name in _VARIABLES if draw.often(0.3)}
    return Given(draw.like([file]) if draw.often(0.7) else file, variables)


def _read(given: Given) -> None:
    _file.write_bytes(given.file)
    loaded = settings.load("sample", Config, ["--config", str(_file)], given.variables)
    loaded.to_toml().encode()


def _make_address(draw: Draw) -> str:
    samples = (b"redis://u:p@h:1/0?namespace=n", b"wss://[::1]:443/path", b"127.0.0.1:9464")
    return draw.like(samples).decode(errors=draw.choice(("replace", "surrogateescape", "ignore")))


def _read_address(text: str) -> None:
    for read in (address, Address.of, parsed):
        try:
            read(text)
        except UsageError as exc:
            str(exc)


def _make_rules(draw: Draw) -> bytes:
    if draw.often(0.5):
        return _RULES.json(draw)
    pattern = "".join(draw.choice(_PATTERNS) for _ in range(draw.randrange(6)))
    return (
        Typed(dict[str, str]).json(draw).replace(b"Ready", pattern.encode().replace(b"\\", b"\\\\"))
    )


def _read_rules(payload: bytes) -> None:
    rules, problems = ConditionRules.compile(decode_rules(payload))
    assert all(isinstance(problem, str) for problem in problems)
    rules.allow([("Ready", "True"), ("x" * 1000, "\0"), ("", "")])


def _make_rules_file(draw: Draw) -> bytes:
    rules = _make_rules(draw)
    samples = (b'[east]\nReady = "True"\n"^Gpu.*$" = "False|Unknown"', b'{"east":%b}' % rules)
    return draw.like(samples) if draw.often(0.7) else draw.choice(samples)


def _read_rules_file(data: bytes) -> None:
    for rules in read_rules(data, is_json=data.startswith(b"{")).values():
        check_rules(rules)


SETTINGS = Family(_make, _read, (SettingsError,))
ADDRESSES = Family(_make_address, _read_address, ())
RULES = Family(_make_rules, _read_rules, (ValueError,))
RULES_FILE = Family(_make_rules_file, _read_rules_file, (ValueError,))
