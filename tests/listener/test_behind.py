"""A watch that moves to an API server which is behind the one before it: it ends in waiting or in a
list, and never in blindness, nor is the cluster taken for one that was restored."""

import pytest

from osmo_listener.informer import InformerConfig, ReflectorConfig
from osmo_listener.kubernetes.config import ListWatchConfig
from osmo_transport.backoff import BackoffConfig
from tests.helpers import eventually
from tests.listener.harness import running
from tests.listener.wire import (
    CHUNKED,
    LAST_CHUNK,
    Exchange,
    bookmark,
    chunk,
    event,
    list_watch,
    plain,
    pod,
    pod_list,
    query,
    refusal,
    serve,
    status,
)

OURS, NOW = 200, 205
"""The version of the first list, and that of a change which follows it on the other server."""
BEHIND = 4
"""How often the other server answers as one that is behind, before it is not any more."""
CONFIG = InformerConfig(
    reflector=ReflectorConfig(
        backoff=BackoffConfig(base=0.001, maximum=0.002, healthy_after=1.0),
        shortest_watch=0.0,
        longest_blindness=0.05,
        longest_retry_after=0.001,
    ),
    resync_interval=None,
)
TOO_LARGE = f"Too large resource version: {OURS}, current: 150"


async def refused(exchange: Exchange, code: int, reason: str, message: str) -> None:
    await exchange.send(refusal(code, reason, message, "Retry-After: 1\r\n"))


async def says(exchange: Exchange, code: int, reason: str, message: str) -> None:
    said = event("ERROR", status(code, reason, message))
    await exchange.send(CHUNKED + chunk(said) + LAST_CHUNK)


async def shows_nothing(exchange: Exchange, *_: object) -> None:
    await exchange.send(CHUNKED + LAST_CHUNK)


async def stays_silent(exchange: Exchange, *_: object) -> None:
    await exchange.send(CHUNKED)


async def cuts(exchange: Exchange, *_: object) -> None:
    await exchange.send(CHUNKED + b"5\r\n{")
    exchange.reset()


@pytest.mark.parametrize(
    ("answer", "code", "reason", "message"),
    [
        (refused, 504, "Timeout", TOO_LARGE),
        (says, 504, "Timeout", TOO_LARGE),
        (refused, 429, "TooManyRequests", "storage is (re)initializing"),
        (says, 429, "TooManyRequests", "storage is (re)initializing"),
        (refused, 410, "Expired", "too old resource version: 200 (250)"),
        (refused, 400, "BadRequest", "Invalid value: resource version is not known here"),
        (refused, 500, "InternalError", "etcdserver: mvcc: required revision is a future revision"),
        (refused, 503, "ServiceUnavailable", "apiserver is shutting down"),
        (refused, 403, "Forbidden", "RBAC: not yet ready"),
        (refused, 404, "NotFound", "the server could not find the requested resource"),
        (shows_nothing, 0, "", ""),
        (stays_silent, 0, "", ""),
        (cuts, 0, "", ""),
    ],
)
@pytest.mark.parametrize("lasting", [False, True], ids=["catches up", "stays behind"])
async def test_a_server_that_is_behind(
    answer: object, code: int, reason: str, message: str, lasting: bool
) -> None:
    """The change is told, by its watch when it has caught up, or by a list; as an error that a
    server goes on to give, too."""
    behind = 0

    async def respond(exchange: Exchange) -> None:
        nonlocal behind
        asked = query(exchange.target)
        if "watch" not in asked:
            first = behind == 0
            listed = [pod("a", OURS)] if first else [pod("a", NOW, "Failed")]
            await exchange.send(plain(pod_list(OURS if first else NOW, listed)))
        elif asked["resourceVersion"] == str(OURS) and behind == 0:
            behind += 1  # the server before it, which had bookmarks
            await exchange.send(CHUNKED + chunk(bookmark(OURS)) + LAST_CHUNK)
        elif asked["resourceVersion"] == str(OURS) and (behind <= BEHIND or lasting):
            behind += 1
            await answer(exchange, code, reason, message)  # type: ignore[operator]
        else:
            change = event("MODIFIED", pod("a", NOW, "Failed"))
            await exchange.send(CHUNKED + chunk(change))

    async with serve(respond) as wire:
        source = list_watch(wire, config=ListWatchConfig(silence=0.05))
        async with running(source, CONFIG) as (informer, recorder):
            await informer.synced()
            await eventually(lambda: recorder.pods["a"].status.phase == "Failed")
            assert "regressed" not in recorder.calls
            assert informer.resource_version == NOW
        source.close()
