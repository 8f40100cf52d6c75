"""The password of a queue in a file, while it changes at the server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from osmo_transport import QueueRefusedError, QueueUnavailableError, UsageError, open_queue
from osmo_transport.testing.feeder import Feeder, report
from osmo_transport.testing.redis_server import RedisServer


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[RedisServer]:
    """With a user whose password is `old`."""
    redis_server.reset()
    redis_server.command("ACL", "SETUSER", "osmo", "reset", "on", ">old", "~*", "+@all")
    yield redis_server
    redis_server.command("ACL", "DELUSER", "osmo")


def change_password(server: RedisServer) -> None:
    """To `new`, and end the connections that had the old one."""
    server.command("ACL", "SETUSER", "osmo", "resetpass", ">new")
    server.command("CLIENT", "KILL", "USER", "osmo")


def url_of(server: RedisServer, path: Path) -> str:
    return f"{server.url.replace('//', '//osmo@')}?password_file={path}"


@pytest.mark.parametrize("layout", ["own", "osmo"])
@pytest.mark.parametrize("file_first", [True, False])
async def test_a_new_password_needs_no_restart(
    server: RedisServer, tmp_path: Path, layout: str, file_first: bool
) -> None:
    """Whichever changes first, server or file: until both have, the queue is away."""
    path = tmp_path / "password"
    path.write_text("old\n")
    async with await open_queue(f"{url_of(server, path)}&layout={layout}") as queue:
        await queue.status()
        if file_first:
            path.write_text("new\n")
            await queue.status()
        change_password(server)
        if not file_first:
            for _ in range(2):
                with pytest.raises(QueueUnavailableError):
                    await queue.status()
            with pytest.raises(QueueUnavailableError, match=f"or the password in {path}"):
                await queue.status()
            path.write_text("new\n")
            await queue.status()
        else:
            with pytest.raises(QueueUnavailableError):
                await queue.status()
            await queue.status()
        if layout == "own":
            await Feeder(queue).append(report("a"))


async def test_a_password_that_never_was_right_is_refused(
    server: RedisServer, tmp_path: Path
) -> None:
    """At once, with its file, and neither it nor the right one."""
    path = tmp_path / "password"
    path.write_text("sesame")
    with pytest.raises(QueueRefusedError, match=f"or the password in {path}") as refused:
        await open_queue(url_of(server, path))
    assert "sesame" not in repr(refused.value)


async def test_two_passwords_are_one_too_many(server: RedisServer, tmp_path: Path) -> None:
    """Nobody could say which one counts."""
    path = tmp_path / "password"
    path.write_text("old")
    with pytest.raises(UsageError, match="choose one"):
        await open_queue(url_of(server, path).replace("osmo@", "osmo:old@"))
