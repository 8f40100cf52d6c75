"""How commands are written to Redis."""

import pytest

from osmo_transport.queues.redis.client import Argument, beginning, pack
from osmo_transport.queues.redis.scripts.script import script

DOUBLES = script("return 2 * ARGV[1]")


def test_a_command_is_a_list_of_texts() -> None:
    """Each with its length in bytes, whatever it was."""
    assert pack([("GET", "ä"), ("SET", b"\xff\r\n", 12)]) == (
        b"*2\r\n$3\r\nGET\r\n$2\r\n\xc3\xa4\r\n*3\r\n$3\r\nSET\r\n$3\r\n\xff\r\n\r\n$2\r\n12\r\n"
    )


@pytest.mark.parametrize("begun", [(), ("a", b"\r\n"), (3,)])
@pytest.mark.parametrize("rest", [(), ("ä",), (b"x" * 5_000, 7)])
def test_what_is_packed_before_is_written_alike(
    begun: tuple[Argument, ...], rest: tuple[Argument, ...]
) -> None:
    """Alone, and between others."""
    keys = ["one", "two"]
    whole = ("EVALSHA", DOUBLES.sha, len(keys), *keys, *begun, *rest)
    parted = (beginning(DOUBLES, keys, *begun), *rest)
    assert pack([parted]) == pack([whole])
    assert pack([("PING",), parted, parted, ("PING",)]) == pack(
        [("PING",), whole, whole, ("PING",)]
    )
