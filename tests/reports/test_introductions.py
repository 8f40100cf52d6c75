"""What a listener says of itself when it connects."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osmo_reports.bodies import Registration, decode_introduction, encode_introduction
from osmo_reports.errors import BodyError

TEXT = st.text(max_size=20)


@given(st.builds(Registration, TEXT, TEXT, TEXT, TEXT))
def test_what_is_said_is_read_back_equal(registration: Registration) -> None:
    """Each field of it; what says nothing at all is something said, too."""
    assert decode_introduction(encode_introduction(registration)) == registration


def test_who_says_nothing_has_no_registration() -> None:
    """As a client that is no listener."""
    assert decode_introduction(b"") is None


def test_fields_of_a_newer_listener_are_ignored() -> None:
    """It may say more than this version knows."""
    fields = msgspec.msgpack.decode(encode_introduction(Registration("uid", version="9")))
    newer = msgspec.msgpack.encode({**fields, "another_field": "x"})
    assert decode_introduction(newer) == Registration("uid", version="9")


@pytest.mark.parametrize("introduction", [b"\x00", b"\xff" * 100, b"\x81\xabcluster_uid\x05"])
def test_what_cannot_be_read_is_an_error(introduction: bytes) -> None:
    """Of this library, for whoever lets listeners in."""
    with pytest.raises(BodyError):
        decode_introduction(introduction)
