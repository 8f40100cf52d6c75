"""What a log record looks like, and how often one is written."""

import json
import logging
import subprocess
import sys
from typing import Any

import pytest

from osmo_runtime.logs import JsonFormatter, LogLevel, RepeatFilter, RepeatLimit, TextFormatter


def record(message: str, *args: object, level: int = logging.INFO, **extra: object) -> Any:
    """A record of one statement."""
    made = logging.LogRecord("osmo.part", level, "part.py", 7, message, args, None)
    vars(made).update(extra)
    return made


def failure() -> Any:
    """A record with an exception whose text holds a password."""
    made = record("failed", level=logging.ERROR)
    try:
        raise ValueError("no redis://:hunter2@h")
    except ValueError:
        made.exc_info = sys.exc_info()
    return made


def as_json(made: logging.LogRecord) -> Any:
    """What the JSON formatter writes, which has to be one line."""
    line = JsonFormatter("sample").format(made)
    assert "\n" not in line
    return json.loads(line)


def test_json_fields() -> None:
    """A line holds the time in UTC, level, service, module, message and the extra fields."""
    made = record("%d pods", 3, backend="b1", status_code=200)
    made.created = 1_700_000_000.5
    assert as_json(made) == {
        "timestamp": "2023-11-14T22:13:20.500Z",
        "level": "INFO",
        "service": "sample",
        "module": "osmo.part",
        "message": "3 pods",
        "backend": "b1",
        "status_code": 200,
    }


def test_json_starts_with_the_time() -> None:
    """Lines can be sorted as text."""
    line = JsonFormatter("sample").format(record("x", backend="b1"))
    assert line.startswith('{"timestamp":"')


def test_json_exception() -> None:
    """An exception gives one line of its own and its traceback, both masked."""
    line = as_json(failure())
    assert line["exception"] == "ValueError: no redis://:****@h"
    assert line["stack"].startswith("Traceback")
    assert "hunter2" not in str(line)


def test_json_keeps_its_own_fields() -> None:
    """An extra field cannot take the place of the level or the service."""
    line = as_json(record("x", level=logging.ERROR, service="other"))
    assert (line["level"], line["service"]) == ("ERROR", "sample")


@pytest.mark.parametrize("value", [object(), {("a", 1): 2}, "file-\udcff", {1, 2}, float("nan")])
def test_json_of_anything(value: object) -> None:
    """A value that JSON does not know is written somehow, never lost with its record."""
    assert as_json(record("x", value=value))["message"] == "x"


def test_json_escapes_control_characters() -> None:
    """A message cannot forge a second record."""
    assert as_json(record("a\nb\x1b[31m"))["message"] == "a\nb\x1b[31m"


def test_json_drives_no_terminal() -> None:
    """What JSON leaves as it is, and a terminal obeys, is escaped too; what people read is not."""
    text = "\x7f\x9b31m\u202e\u2028\U000e0001 é 東京 🚀"
    written = JsonFormatter("sample").format(record(text, reason=text))
    assert written.isprintable()
    assert "é 東京 🚀" in written
    assert as_json(record(text, reason=text))["reason"] == text


def test_text_line() -> None:
    """Text has the time, level, module, message and extra fields on one line."""
    line = TextFormatter().format(record("%d pods", 3, backend="b1"))
    assert line[12:] == " INFO osmo.part: 3 pods backend=b1"
    assert line[2] == line[5] == ":"


def test_text_escapes_control_characters() -> None:
    """A message cannot forge a second line, nor colour the terminal."""
    line = TextFormatter().format(record("a\nb\x1b[31m é", reason="x\ny"))
    assert line.endswith("a\\nb\\x1b[31m é reason=x\\ny")


def test_text_exception() -> None:
    """A traceback follows on lines of its own, masked."""
    text = TextFormatter().format(failure())
    assert text.endswith("\nValueError: no redis://:****@h")


def test_a_traceback_drives_no_terminal() -> None:
    """What others sent stands in errors, too, and is escaped there as in every line."""
    made = record("failed")
    try:
        raise ValueError("no \x1b[2J\u202e")
    except ValueError:
        made.exc_info = sys.exc_info()
    assert TextFormatter().format(made).endswith("\nValueError: no \\x1b[2J\\u202e")


@pytest.mark.parametrize("formatter", [JsonFormatter("sample"), TextFormatter()])
def test_no_secrets(formatter: logging.Formatter) -> None:
    """Neither message, nor arguments, nor extra fields bring a secret into the log."""
    made = record(
        "open %s", "redis://:hunter2@h", api_token="hunter2", settings={"password": "hunter2"}
    )
    line = formatter.format(made)
    assert "hunter2" not in line
    assert line.count("****") == (3 if isinstance(formatter, JsonFormatter) else 2)


def test_a_terminal_shows_no_settings() -> None:
    """They would fill it; JSON lines hold them, and both what else is told."""
    made = record("begins", settings={"queue": "memory://"}, suppressed=3)
    assert TextFormatter().format(made).endswith(" INFO osmo.part: begins suppressed=3")
    assert as_json(made)["settings"] == {"queue": "memory://"}


def test_level_in_any_case() -> None:
    """`debug` is as good as `DEBUG`."""
    assert LogLevel("debug") is LogLevel.DEBUG
    with pytest.raises(ValueError, match="loud"):
        LogLevel("loud")


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_repeats_are_limited() -> None:
    """Beyond the burst a statement is silent for the interval; then it says what was left out."""
    clock = Clock()
    limited = RepeatFilter(RepeatLimit(burst=3, interval=10.0), clock)
    warnings = [record("%d again", number, level=logging.WARNING) for number in range(11)]
    assert [limited.filter(made) for made in warnings[:10]] == [True] * 3 + [False] * 7
    clock.now = 9.9
    assert not limited.filter(warnings[10])
    clock.now = 10.0
    next_one = record("again", level=logging.WARNING)
    assert limited.filter(next_one)
    assert next_one.suppressed == 8
    assert as_json(next_one)["suppressed"] == 8


def test_the_same_is_said_once_in_an_interval() -> None:
    """However long the next try is away; then the count of those that were left out is told."""
    clock = Clock()
    limited = RepeatFilter(RepeatLimit(interval=10.0), clock)

    def complaints(why: object) -> list[logging.LogRecord]:
        said = "not ready: %s; again in %.1f s"
        made = (record(said, why, delay, level=logging.WARNING) for delay in (0.1, 0.2, 0.4, 0.8))
        return [each for each in made if limited.filter(each)]

    for why in ("refused", OSError("no route")):
        (told,) = complaints(why)
        assert not hasattr(told, "suppressed")
    clock.now = 10.0
    (told,) = complaints("refused")
    assert vars(told)["suppressed"] == 3


def test_what_names_another_thing_is_another_complaint() -> None:
    """Dead letters of one reason are several."""
    limited = RepeatFilter(RepeatLimit(), Clock())
    made = [record("dead letter %s: %s", f"{n}-0", "why", level=logging.WARNING) for n in range(9)]
    assert all(map(limited.filter, made))


def test_other_statements_are_not_limited() -> None:
    """One noisy statement hides no other, and what is not a complaint is always written."""
    limited = RepeatFilter(RepeatLimit(burst=1), Clock())
    other = record("other", level=logging.ERROR)
    other.lineno = 8
    assert limited.filter(record("a", level=logging.ERROR))
    assert not limited.filter(record("a", level=logging.ERROR))
    assert limited.filter(other)
    assert all(limited.filter(record("info")) for _ in range(5))


def test_each_dead_letter_is_written() -> None:
    """They are said by one statement, and are not one fault."""
    program = """
import logging
from osmo_runtime import logs
from osmo_transport.queues.rules import Burials
logs.configure("sample", logs.LogLevel.WARNING, logs.LogFormat.TEXT)
burials = Burials()
for number in range(40):
    burials.tell("pods", "east", None, number, "why")
    logging.warning("again")
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stderr
    assert said.count(b"dead letter: an unreadable entry of east, stream pods, at attempt ") == 40
    assert said.count(b"again") == 1


def test_repeats_are_forgotten() -> None:
    """The count of statements is bounded; the one silent longest is forgotten."""
    limited = RepeatFilter(RepeatLimit(burst=1, counted=4), Clock())
    lines = [record("x", level=logging.ERROR) for _ in range(3)]
    for number, made in enumerate(lines):
        made.lineno = number
        assert limited.filter(made)
    assert limited.filter(lines[0])
    assert not limited.filter(lines[2])
