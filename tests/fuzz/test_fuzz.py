"""A short run of each fuzzer, that draws the same each time."""

import logging
from threading import Event

import pytest

from tests.fuzz.families import FAMILIES
from tests.fuzz.family import Family, run

INPUTS = 300


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_what_others_wrote_is_read_or_refused(family: Family) -> None:
    """With an error that is documented, soon; and enough of it is read to say something."""
    logging.disable()
    try:
        figures = run(family, INPUTS, 1)
    finally:
        logging.disable(logging.NOTSET)
    assert not figures.found, figures
    assert figures.read > INPUTS // 100, figures


def test_what_must_not_be_is_found() -> None:
    """An error that is not documented, and a reader that does not come to an end, or only waits."""

    def read(number: int) -> None:
        if number == 1:
            raise KeyError
        while number == 2:
            pass
        if number == 3:
            Event().wait()

    numbers = iter(range(5))
    given = Family(lambda _: next(numbers), read, (ValueError,))
    figures = run(given, 5, 1, most=0.01, wait=0.1)
    assert figures.read == 2
    assert [each.partition(" ")[0] for each in figures.found] == [
        "KeyError",
        "HangError",
        "HangError",
    ]
