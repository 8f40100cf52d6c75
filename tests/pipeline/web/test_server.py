"""The page over HTTP: who gets what, and who gets nothing."""

import asyncio
import re
import zlib
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from yarl import URL

from osmo_pipeline.web import server
from osmo_pipeline.web.feed import Feed
from osmo_pipeline.web.server import FILES, MAX_LETTERS, Site, serving
from osmo_pipeline.web.views import View
from osmo_transport import Queue, QueueConfig, open_queue
from osmo_transport.errors import AddressInUseError
from tests.pipeline.web.harness import TOKEN, Running, bury, documents, running
from tests.worker.harness import append, apply, report, until

AUTHORIZED = {"X-Token": TOKEN, "Content-Type": "application/json"}


async def _status(site: Running, path: str, **headers: str) -> int:
    async with site.session.get(site.url + path, headers=headers) as answer:
        return answer.status


async def test_the_files_need_nothing_else() -> None:
    """No script or style stands in a document, and nothing is asked of anybody else."""
    size = 0
    async with running() as site:
        for path in FILES:
            async with site.session.get(site.url + path[1:]) as answer:
                assert answer.status == 200
                policy = answer.headers["Content-Security-Policy"]
                text = await answer.text()
            size += len(text.encode())
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "require-trusted-types-for 'script'" in policy
            others = set(re.findall(r"https?://[^\"'\s]+", text))
            assert others <= {"http://www.w3.org/2000/svg"}
            assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|innerHTML", text)
    assert size < 40_000


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1:80", "[::1]:80", "10.1.2.3", "fleet.example"]
)
async def test_it_is_served_by_its_own_names(host: str) -> None:
    """Addresses, this machine's name, and those that it was told."""
    async with running() as site:
        assert await _status(site, "", Host=host) == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "", "localhost.evil.example", "[::1", "fleet.example.", "a b", "@::1"]
)
async def test_it_is_not_served_by_other_names(host: str) -> None:
    """Which a page of others can let lead here."""
    async with running(TOKEN) as site:
        for path in ("", "page.js", "live?view=fleet"):
            assert await _status(site, path, Host=host) in (400, 403)


async def test_a_change_is_told_at_once() -> None:
    """To whoever watches."""
    async with running() as site, documents(site, view="fleet") as found:
        assert (await anext(found))["backends"] == []
        await apply(site.store, report())
        async with asyncio.timeout(10):
            async for document in found:
                if document["tasks"]:
                    break
        assert document["tasks"] == [["RUNNING", 1]]


async def test_what_cannot_be_shown_is_refused() -> None:
    """With the reason."""
    async with running() as site, site.session.get(f"{site.url}live?view=x") as answer:
        assert answer.status == 400
        assert "Invalid value 'x'" in await answer.text()


async def test_no_more_than_so_many_watch() -> None:
    """The others are told so, until one leaves."""
    async with running(max_viewers=1) as site:
        async with documents(site, view="fleet") as found:
            await anext(found)
            assert await _status(site, "live?view=fleet") == 503
            assert await _status(site, "") == 200
        await until(lambda: _nobody_watches(site.feed))


async def _nobody_watches(feed: Feed[View]) -> bool:
    return feed.watchers == 0


async def test_who_never_reads_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """And holds no more than what fits into a socket."""
    monkeypatch.setattr(server, "WRITE_TIMEOUT", 0.05)
    documents_made = iter(range(10**9))

    async def beat() -> None:
        await asyncio.sleep(0)

    async def load(_: View) -> bytes:
        return b"%d " % next(documents_made) + b"x" * 300_000

    feed: Feed[View] = Feed(beat, load, interval=0.001)
    async with await open_queue("memory://") as queue:
        site = Site(feed, queue, token="", hosts=[], max_viewers=10)
        looking = asyncio.create_task(feed.run())
        async with serving(site, "127.0.0.1", 0) as url, asyncio.timeout(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port, limit=1)
            writer.write(b"GET /live?view=fleet HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.read(1)
            await until(lambda: _nobody_watches(feed))
            writer.close()
        looking.cancel()


async def test_the_end_waits_for_nobody() -> None:
    """A page that is open is let go at once."""
    async with running() as site, documents(site, view="fleet") as found, asyncio.timeout(10):
        await anext(found)
        site.feed.close()
        assert [each async for each in found] == []


async def test_who_asks_for_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """At every stage: before a request, within one, within its body, and after an answer."""
    monkeypatch.setattr(server, "REQUEST_TIMEOUT", 0.1)
    body = b"Host: localhost\r\nX-Token: %b\r\nContent-Type: application/json\r\n" % TOKEN.encode()
    async with running(token=TOKEN) as site, asyncio.timeout(30):
        for said in (
            b"",
            b"GET / HTTP/1.1\r\nHost: ",
            b"POST /letters/drop HTTP/1.1\r\n" + body + b"Content-Length: 9\r\n\r\n{",
            b"GET /icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(site.url).port)
            writer.write(said)
            with suppress(ConnectionResetError):
                await reader.read()
            writer.close()


async def test_a_port_that_is_taken() -> None:
    """Is said."""
    async with running() as site:
        spare = Site(site.feed, site.queue, token="", hosts=[], max_viewers=1)
        with pytest.raises(AddressInUseError, match="cannot serve the page"):
            async with serving(spare, "127.0.0.1", urlsplit(site.url).port or 0):
                pass


async def _change(
    site: Running, path: str, letters: object, headers: dict[str, str] | None = None
) -> tuple[int, str]:
    sent = AUTHORIZED if headers is None else headers
    body = {"letters": letters}
    async with site.session.post(f"{site.url}letters/{path}", json=body, headers=sent) as answer:
        return answer.status, await answer.text()


async def _ids(queue: Queue) -> list[str]:
    return [letter.id for letter in await queue.dead_letters(100)]


async def test_it_is_read_only_by_itself() -> None:
    """Whatever is sent."""
    async with running() as site:
        await bury(site.queue, 1)
        ids = await _ids(site.queue)
        assert (await _change(site, "drop", ids))[0] == 404
        assert (await _change(site, "replay", ids))[0] == 404
        assert await _ids(site.queue) == ids


async def test_dead_letters_are_replayed_and_dropped() -> None:
    """Those that are named, each once."""
    async with running(TOKEN) as site:
        await bury(site.queue, 3)
        one, other, third = await _ids(site.queue)
        assert await _change(site, "replay", [one, one, "none"]) == (200, '{"done": 1}')
        assert await _change(site, "drop", [other]) == (200, '{"done": 1}')
        assert await _change(site, "drop", [other]) == (200, '{"done": 0}')
        assert await _ids(site.queue) == [third]
        assert sum((await site.queue.status()).waiting.values()) == 1


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (403, {"Content-Type": "application/json"}),
        (403, AUTHORIZED | {"X-Token": "guessed"}),
        (403, AUTHORIZED | {"X-Token": "gu\xefssed"}),
        (403, AUTHORIZED | {"Origin": "http://evil.example"}),
        (403, AUTHORIZED | {"Origin": "null"}),
        (403, AUTHORIZED | {"Host": "evil.example"}),
        (415, AUTHORIZED | {"Content-Type": "text/plain"}),
    ],
    ids=str,
)
async def test_other_pages_change_nothing(status: int, headers: dict[str, str]) -> None:
    """Nor does who guesses."""
    async with running(TOKEN) as site:
        await bury(site.queue, 1)
        ids = await _ids(site.queue)
        assert (await _change(site, "drop", ids, headers))[0] == status
        assert await _ids(site.queue) == ids


async def test_a_guess_that_is_no_text() -> None:
    """Bytes that are no UTF-8 are as wrong as any others."""
    async with running(TOKEN) as site:
        url = URL(site.url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(
            b"POST /letters/drop HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"X-Token: gu\xffssed\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n"
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 403 ")
        writer.close()


async def test_a_bomb_is_not_unpacked() -> None:
    """A body is as large as it is when it is unpacked, however little travels of it."""
    async with running(TOKEN) as site:
        body = zlib.compress(b'{"letters": ["' + bytes(2**20) + b'"]}')
        headers = {**AUTHORIZED, "Content-Encoding": "deflate"}
        url = f"{site.url}letters/drop"
        async with site.session.post(url, data=body, headers=headers) as answer:
            assert answer.status == 413


async def test_its_own_page_may() -> None:
    """Which the browser says where it comes from."""
    async with running(TOKEN) as site:
        await bury(site.queue, 1)
        own = AUTHORIZED | {"Origin": site.url.rstrip("/")}
        assert (await _change(site, "drop", await _ids(site.queue), own))[0] == 200


@pytest.mark.parametrize(
    ("status", "letters"),
    [(400, "all"), (400, [1]), (400, ["x"] * (MAX_LETTERS + 1)), (413, ["x" * 100_000])],
    ids=["no list", "no text", "too many", "too large"],
)
async def test_a_request_that_makes_no_sense(status: int, letters: object) -> None:
    """Is refused, and the next one is answered."""
    async with running(TOKEN) as site:
        assert (await _change(site, "drop", letters))[0] == status
        assert (await _change(site, "drop", []))[0] == 200


async def test_a_queue_that_is_full_takes_nothing_back() -> None:
    """And says so."""
    async with await open_queue("memory://", QueueConfig(max_entries=1)) as queue:
        await bury(queue, 1)
        await append(queue, [report()])
        feed: Feed[View] = Feed(_nothing, _never)
        site = Site(feed, queue, token=TOKEN, hosts=[], max_viewers=1)
        async with running() as other, serving(site, "127.0.0.1", 0) as url:
            full = other._replace(url=url)
            status, text = await _change(full, "replay", await _ids(queue))
    assert status == 503
    assert "full" in text


async def _nothing() -> None:
    pass


async def _never(_: View) -> bytes:
    raise AssertionError
