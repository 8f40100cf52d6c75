"""A value that is written to any source is read back unchanged."""

import tempfile
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from osmo_runtime import settings
from osmo_runtime.fields import read_table
from osmo_runtime.masking import mask
from osmo_transport.lean import dataclass
from tests.runtime.sample import Colour


@dataclass(frozen=True, kw_only=True)
class Inner:
    """A table."""

    count: int = 0
    name: str = "inner"


@dataclass(frozen=True, kw_only=True)
class Values:
    """One field of each type."""

    text: str = "text"
    maybe: str | None = None
    number: int = 0
    real: float = 0.0
    switch: bool = False
    colour: Colour = Colour.RED
    mode: Literal["a", "b"] = "a"
    path: Path = Path("x")
    items: tuple[str, ...] = ()
    numbers: Mapping[str, int] = field(default_factory=dict)
    inner: Inner = Inner()


# An environment variable holds neither NUL nor what is not Unicode, and an empty one is not set.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(
    # A URL's password is masked where settings are shown, so it does not read back from there.
    lambda text: not ({"@", "="} & set(text)) and "bearer" not in text.lower()
)
ITEM = TEXT.filter(lambda text: "," not in text and text == text.strip())
# So is what stands under the name of a secret.
KEY = ITEM.filter(lambda key: mask(1, key) == 1)
VALUES = st.builds(
    Values,
    text=TEXT,
    maybe=st.none() | TEXT,
    number=st.integers(),
    real=st.floats(allow_nan=False),
    switch=st.booleans(),
    colour=st.sampled_from(Colour),
    mode=st.sampled_from(["a", "b"]),
    path=TEXT.filter(lambda text: not text.startswith("~")).map(Path),
    items=st.lists(ITEM, min_size=1, max_size=3).map(tuple),
    numbers=st.dictionaries(KEY, st.integers(), min_size=1, max_size=3),
    inner=st.builds(Inner, count=st.integers(), name=TEXT),
)


def as_texts(values: Values) -> dict[str, list[str]]:
    """The values by key, each as the texts that a command line would hold."""
    texts: dict[str, list[str]] = {
        "text": [values.text],
        "number": [str(values.number)],
        "real": [repr(values.real)],
        "colour": [values.colour.value],
        "mode": [values.mode],
        "path": [str(values.path)],
        "items": list(values.items),
        "numbers": [f"{key}={number}" for key, number in values.numbers.items()],
        "inner.count": [str(values.inner.count)],
        "inner.name": [values.inner.name],
    }
    if values.maybe is not None:
        texts["maybe"] = [values.maybe]
    return texts


@given(VALUES)
def test_command_line(values: Values) -> None:
    """Through options."""
    argv = [
        f"--{key.replace('.', '-')}={text}"
        for key, texts in as_texts(values).items()
        for text in texts
    ]
    argv.append("--switch" if values.switch else "--no-switch")
    assert settings.load("values", Values, argv, {}).config == values


@given(VALUES)
def test_environment(values: Values) -> None:
    """Through variables."""
    environ = {
        f"OSMO_{key.replace('.', '_').upper()}": ",".join(texts)
        for key, texts in as_texts(values).items()
    }
    environ["OSMO_SWITCH"] = str(values.switch).lower()
    assert settings.load("values", Values, [], environ).config == values


@given(VALUES)
def test_file(values: Values) -> None:
    """Through the file that `--print-config` writes: what is shown can be used."""
    shown = settings.Loaded(
        config=values,
        table=read_table(Values),
        origins={},
        warnings=(),
        print_config=True,
    ).to_toml()
    with tempfile.NamedTemporaryFile("w", suffix=".toml", newline="") as file:
        file.write(shown)
        file.flush()
        assert settings.load("values", Values, ["--config", file.name], {}).config == values
