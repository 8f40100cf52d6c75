"""Kubernetes quantities, such as `250m`, `1.5Gi` or `2e3`, as exact numbers.

The grammar is that of `k8s.io/apimachinery/pkg/api/resource`: a signed decimal number with a suffix
of powers of 1024 (`Ki` … `Ei`), of powers of 1000 (`n`, `u`, `m`, none, `k` … `E`), or an exponent.
"""

import re
from fractions import Fraction
from functools import lru_cache

MAX_LENGTH = 64
"""Characters of a quantity: the API server's own come from 64-bit numbers and are far shorter."""

MAX_EXPONENT = 18
"""Of `e` notation: as much as the largest suffix, `E`."""

_PATTERN = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))"
    r"(?P<suffix>[numkMGTPE]|[KMGTPE]i|[eE](?P<exponent>[+-]?[0-9]{1,2}))?",
    re.ASCII,
)

_POWERS_OF_1000 = {"n": -3, "u": -2, "m": -1, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_SUFFIXES = {
    **{suffix: Fraction(1000) ** power for suffix, power in _POWERS_OF_1000.items()},
    **{suffix + "i": Fraction(1024) ** power for power, suffix in enumerate("KMGTPE", 1)},
}


@lru_cache(maxsize=4096)
def parse_quantity(text: str) -> Fraction:
    """The number that `text` stands for. Cached, because pods of one kind ask for the same.

    Raises:
        ValueError: it is no quantity.
    """
    match = _PATTERN.fullmatch(text) if len(text) <= MAX_LENGTH else None
    if match is None:
        raise ValueError(f"{text[:MAX_LENGTH]!r} is no quantity")
    number, suffix, exponent = match.group("number", "suffix", "exponent")
    if exponent is not None:
        if abs(int(exponent)) > MAX_EXPONENT:
            raise ValueError(f"{text!r} is no quantity: its exponent is too large")
        return Fraction(number) * Fraction(10) ** int(exponent)
    return Fraction(number) * _SUFFIXES.get(suffix, Fraction(1))
