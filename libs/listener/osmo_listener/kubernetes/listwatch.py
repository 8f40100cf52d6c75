"""Lists and watches one resource over HTTP."""

import contextlib
import logging
import random
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from functools import cached_property
from typing import Generic
from urllib.parse import quote, urlencode

from osmo_listener.errors import (
    ExpiredError,
    ForbiddenError,
    KubernetesError,
    MalformedError,
    NotFoundError,
    SilentError,
    StatusError,
    TruncatedError,
)
from osmo_listener.informer.source import Event, EventType, Page, T, object_key
from osmo_listener.kubernetes.answers import JSON, PROTOBUF, USER_AGENT, check, is_protobuf
from osmo_listener.kubernetes.config import (
    Encoding,
    HttpConfig,
    ListMode,
    ListWatchConfig,
    Resource,
)
from osmo_listener.kubernetes.credentials import Credentials
from osmo_listener.kubernetes.decoding import Decoder, Odd, OddObjectError, message_of
from osmo_listener.kubernetes.http import HttpClient, Response

logger = logging.getLogger(__name__)

_PAGE_GROWTH = 4
_LARGEST_PAGE = 8000
"""Objects to which pages grow: 112 MB of usual pods, well below `HttpConfig.max_body_bytes`."""
_ODD_OBJECTS = 1000
"""Objects that cannot be read whose names are remembered, to tell each once."""
_STREAM_REFUSED = frozenset({400, 422})
_ADVICE = {
    401: "the API server does not accept the credentials ({}): renew the token or the certificate"
    " of the kubeconfig's user",
    403: "{}; grant this user get, list and watch on them",
}


class ListWatch(Generic[T]):
    """A `Source` over HTTP. Not for two tasks at once.

    Two pages are on their way at once: the next one is asked for as soon as this one begins.

    Args:
        credentials: where the server is and who we are.
        resource: which objects.
        config: how.
        http: limits of the HTTP client.
        client: connections that are shared with others; None: its own.
        draw: a source of numbers in [0, 1).
    """

    def __init__(
        self,
        credentials: Credentials,
        resource: Resource[T],
        config: ListWatchConfig | None = None,
        *,
        http: HttpConfig | None = None,
        client: HttpClient | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._credentials = credentials
        self._resource = resource
        self._config = config or ListWatchConfig()
        self._draw = draw
        self._client = client or HttpClient(credentials.endpoint, credentials.tls, http)
        self._protobuf: Decoder[T] | None = None
        self._mode = self._config.mode
        self._page_size = self._config.page_size
        self._namespace_seen = resource.namespace is None
        self._advice = {**_ADVICE, 404: f"the API server has no {resource.path}: {{}}"}
        self._odd: dict[str, str] = {}
        self.left_out = 0
        """How often an object could not be read."""

    def forget_credentials(self) -> None:
        """See `Source.forget_credentials`."""
        self._credentials.forget()
        self._client.close()

    def close(self) -> None:
        """Drop idle connections."""
        self._client.close()

    def list(self) -> AsyncGenerator[Page[T], None]:
        """See `Source.list`.

        An API server lists a namespace that does not exist like one that is empty. So a namespace
        that has never shown an object is asked for before it is reported as empty.

        Raises:
            NotFoundError: there is no such namespace.
        """
        return self._list_stream() if self._mode is ListMode.STREAM else self._list_pages()

    def watch(self, version: int) -> AsyncGenerator[Sequence[Event[T]], None]:
        """See `Source.watch`.

        Raises:
            SilentError: nothing arrived for `ListWatchConfig.silence`.
        """
        seconds = self._config.watch_time * (1 + self._draw())
        query = {"resourceVersion": str(version), "timeoutSeconds": str(max(1, round(seconds)))}
        return self._events(query)

    async def position(self) -> int:
        """See `Source.position`."""
        response = await self._get({"limit": "1"})
        try:
            await check(response, self._advice)
            return self._decoder(response).page(await response.read()).version
        finally:
            response.close()

    async def try_out(self) -> None:
        """List one object and begin a watch, to find out whether both may be done.

        Raises:
            as `list` and `watch`.
        """
        response = await self._get({"limit": "1"})
        try:
            await check(response, self._advice)
            page = self._decoder(response).page(await response.read())
        finally:
            response.close()
        await self._check_namespace(bool(page.objects))
        query = {"watch": "1", "resourceVersion": str(page.version), "timeoutSeconds": "1"}
        response = await self._get(query)
        try:
            await check(response, self._advice)
        finally:
            response.close()

    async def _list_pages(self) -> AsyncGenerator[Page[T], None]:
        # The server says at the beginning of a page what comes after it, and encodes a page while
        # it sends it: two are on their way at once.
        response: Response | None = await self._get({"limit": str(self._config.first_page_size)})
        ahead: Response | None = None
        try:
            while response is not None:
                await check(response, self._advice)
                reader = self._decoder(response).page_reader()
                more = ""
                async with contextlib.aclosing(response.pieces()) as pieces:
                    async for piece in pieces:
                        reader.feed(piece)
                        if reader.more and not more:
                            more = reader.more
                            ahead = await self._next_page(more)
                page = reader.page()
                response.close()
                if page.more != more:
                    if ahead is not None:
                        ahead.close()
                    ahead = await self._next_page(page.more) if page.more else None
                response, ahead = ahead, None
                await self._check_namespace(bool(page.objects))
                for odd in page.odd:
                    self._leave_out(odd)
                unread = [odd.key for odd in page.odd]
                yield Page(page.objects, None if page.more else page.version, (), unread)
        except ExpiredError:
            # The server forgot the list before we had read it: fewer, larger pages take less time.
            larger = min(self._page_size * _PAGE_GROWTH, _LARGEST_PAGE)
            self._page_size = max(self._page_size, larger)
            raise
        finally:
            for each in (response, ahead):
                if each is not None:
                    each.close()
            # A watch needs one.
            self._client.close(keep=1)
        self._page_size = self._config.page_size

    async def _next_page(self, more: str) -> Response:
        return await self._get({"limit": str(self._page_size), "continue": more})

    async def _list_stream(self) -> AsyncGenerator[Page[T], None]:
        query = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        try:
            async with contextlib.aclosing(self._events(query)) as batches:
                async for events in batches:
                    page = _page(events)
                    await self._check_namespace(bool(page.objects))
                    yield page
                    if page.version is not None:
                        return
            raise TruncatedError("a watch ended before its initial events did")
        except SilentError:
            # An older server takes no notice of the query and never marks the end.
            self._mode = ListMode.PAGES
            raise
        except StatusError as exc:
            if exc.code not in _STREAM_REFUSED:
                raise
            self._mode = ListMode.PAGES
        async with contextlib.aclosing(self._list_pages()) as pages:
            async for page in pages:
                yield page

    async def _check_namespace(self, holds_objects: bool) -> None:
        namespace = self._resource.namespace
        if holds_objects:
            self._namespace_seen = True
        if self._namespace_seen or namespace is None:
            return
        response = await self._request(f"/api/v1/namespaces/{quote(namespace)}")
        try:
            await check(response, self._advice)
            await response.read()
        except ForbiddenError:
            pass  # a role that may only read objects cannot be told
        except NotFoundError as exc:
            raise NotFoundError(
                f"there is no namespace {namespace!r} in the cluster: create it, or name another",
                code=exc.code,
            ) from exc
        finally:
            response.close()
        self._namespace_seen = True

    async def _events(self, query: dict[str, str]) -> AsyncGenerator[Sequence[Event[T]], None]:
        """The complete events of a watch's stream as they arrive; of those that come together, the
        ones before an error are given first."""
        response = await self._get({"watch": "1", "allowWatchBookmarks": "true", **query})
        try:
            await check(response, self._advice)
            decoder = self._decoder(response)
            framer = decoder.framer()
            while piece := await response.more(self._config.silence, framer.completes):
                events: list[Event[T]] = []
                try:
                    for frame in framer.feed(piece):
                        events.append(self._event(decoder, frame))  # noqa: PERF401 - keeps what is good
                except KubernetesError:
                    if events:
                        yield events
                    raise
                if events:
                    yield events
                if framer.size > self._config.max_event_bytes:
                    raise MalformedError(
                        f"an event is over {self._config.max_event_bytes} bytes: raise"
                        " max_event_bytes"
                    )
            if framer.size:
                raise TruncatedError("a watch ended in the middle of an event")
        finally:
            response.close()

    def _event(self, decoder: Decoder[T], frame: bytes) -> Event[T]:
        try:
            return decoder.event(frame)
        except OddObjectError as exc:
            if exc.type is not EventType.DELETED:
                self._leave_out(exc.odd)
            return Event(exc.type, exc.version, None, exc.odd.key)

    def _leave_out(self, odd: Odd) -> None:
        self.left_out += 1
        if self._odd.get(odd.key) != odd.why:
            if len(self._odd) >= _ODD_OBJECTS:
                self._odd.clear()
            self._odd[odd.key] = odd.why
            logger.warning(
                "%s at %s cannot be read and is left out: %s",
                odd.key,
                self._resource.path,
                odd.why,
            )

    async def _get(self, query: dict[str, str]) -> Response:
        resource = self._resource
        if resource.label_selector:
            query["labelSelector"] = resource.label_selector
        if resource.field_selector:
            query["fieldSelector"] = resource.field_selector
        target = f"{resource.path}?{urlencode(query)}"
        if self._config.encoding is Encoding.JSON or message_of(resource.type) is None:
            return await self._request(target)
        response = await self._request(target, f"{PROTOBUF},{JSON}")
        try:
            self._load_protobuf()
        except BaseException:
            response.close()
            raise
        return response

    async def _request(self, target: str, accept: str = JSON) -> Response:
        headers = {"Accept": accept, "User-Agent": USER_AGENT}
        return await self._client.get(target, headers | await self._credentials.headers())

    def _decoder(self, response: Response) -> Decoder[T]:
        return self._protobuf if self._protobuf and is_protobuf(response) else self._json

    @cached_property
    def _json(self) -> Decoder[T]:
        # Not made, nor imported, where the API server answers in protobuf.
        from osmo_listener.kubernetes.json_decoding import JsonDecoder  # noqa: PLC0415

        return JsonDecoder(self._resource.type, self._resource.transform)

    def _load_protobuf(self) -> None:
        """Importing it takes up to 30 ms; the API server is at work meanwhile."""
        if self._protobuf is None:
            from osmo_listener.kubernetes.protobuf_decoding import (  # noqa: PLC0415
                ProtobufDecoder,
            )

            self._protobuf = ProtobufDecoder(self._resource.type, self._resource.transform)


def _page(events: Iterable[Event[T]]) -> Page[T]:
    """What a part of the initial events leaves: among them are changes that happened meanwhile."""
    objects: dict[str, T] = {}
    gone: list[str] = []
    unread: set[str] = set()
    version = None
    for event in events:
        if event.type is EventType.BOOKMARK:
            # The first one ends the initial events.
            version = event.version
            break
        key = event.unread if event.object is None else object_key(event.object)
        if event.type is EventType.DELETED:
            objects.pop(key, None)
            unread.discard(key)
            gone.append(key)
        elif event.object is None:
            unread.add(key)
        else:
            objects[key] = event.object
    return Page(list(objects.values()), version, gone, [*unread])
