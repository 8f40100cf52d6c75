"""Kubernetes quantities as numbers."""

from contextlib import suppress
from fractions import Fraction

import hypothesis.strategies as st
import pytest
from hypothesis import given

from osmo_listener.kubernetes.quantity import parse_quantity


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("8", 8),
        ("250m", Fraction(1, 4)),
        ("100n", Fraction(1, 10**7)),
        ("5u", Fraction(1, 200_000)),
        ("1.5Gi", 3 * 2**29),
        ("16Ki", 2**14),
        ("1Ei", 2**60),
        ("3k", 3000),
        ("1E", 10**18),
        ("2e3", 2000),
        ("12E-2", Fraction(3, 25)),
        (".5", Fraction(1, 2)),
        ("5.", 5),
        ("-1", -1),
        ("+1", 1),
    ],
)
def test_every_form_is_read(text: str, number: Fraction | int) -> None:
    """Exactly, without rounding."""
    assert parse_quantity(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        ".",
        "Gi",
        "1 Gi",
        " 1",
        "1\n",
        "1KI",
        "1ki",
        "1mi",
        "1e",
        "1e99",
        "1e999",
        "--1",
        "1Ki2",
        "1,5",
        "٣",
        "0x10",
        "nan",
        "1" * 65,
    ],
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    """With its text, which may be of any length."""
    with pytest.raises(ValueError, match="is no quantity"):
        parse_quantity(text)


@given(st.integers(-(10**15), 10**15), st.sampled_from(["m", "", "k", "Ki", "Mi", "G"]))
def test_suffixes_scale(number: int, suffix: str) -> None:
    """A suffix multiplies by the same factor whatever stands before it."""
    assert parse_quantity(f"{number}{suffix}") == number * parse_quantity(f"1{suffix}")


@given(st.text(max_size=20))
def test_any_text_is_a_number_or_a_value_error(text: str) -> None:
    """Nothing else is raised."""
    with suppress(ValueError):
        parse_quantity(text)
