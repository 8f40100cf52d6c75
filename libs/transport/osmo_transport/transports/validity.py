"""Until when a certificate is good: the standard library does not tell it of one of ours.

A certificate is DER (RFC 5280, 4.1); of its elements only those are looked into that lead there.
"""

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from math import inf

_END = "-----END CERTIFICATE-----"
_VERSION, _UTC_TIME = 0xA0, 0x17


def end_of(chain: bytes) -> float:
    """When the first certificate of a PEM ends, in seconds since the Unix epoch; infinity where
    there is none that can be read here: whether it is one, OpenSSL says."""
    text = chain.decode("ascii", errors="replace")
    begin = text.find("-----BEGIN CERTIFICATE-----")
    end = text.find(_END, begin)
    if begin < 0 or end < 0:
        return inf
    try:
        (_, certificate), *_ = _elements(ssl.PEM_cert_to_DER_cert(text[begin : end + len(_END)]))
        (_, signed), *_ = _elements(certificate)
        fields = [value for tag, value in _elements(signed) if tag != _VERSION]
        validity = fields[3]  # after the serial number, the algorithm and the issuer
        _, (tag, until) = _elements(validity)
        # Two digits are a year of 1950 to 2049, as in RFC 5280, and not as in Python.
        digits = until.decode("ascii")
        if tag == _UTC_TIME:
            digits = f"{'19' if digits >= '50' else '20'}{digits}"
        return datetime.strptime(digits, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except (IndexError, ValueError):
        return inf


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The elements that are beside each other, each with its tag. Raises IndexError, ValueError."""
    while data:
        tag, size, start = data[0], data[1], 2
        if size & 0x80:
            start += size & 0x7F
            size = int.from_bytes(data[2:start])
        if len(data) < start + size:
            raise ValueError("it is cut off")
        yield tag, data[start : start + size]
        data = data[start + size :]
