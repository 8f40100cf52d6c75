"""The node listener behind a real informer: what a store knows after lists and gaps."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from osmo_listener.informer import Informer
from osmo_listener.listeners import NodeListener
from osmo_listener.listeners.objects import Node
from osmo_listener.reporter import Reporter
from osmo_listener.testing import FakeSource
from osmo_transport import Client, Message, Server, connect, listen
from tests.helpers import eventually
from tests.listener.harness import INSTANT
from tests.listener_rules.nodes import Listed, Rows, Sent, make_node, sent


class World:
    """A cluster, a listener of its nodes, and a store."""

    def __init__(self, server: Server, client: Client) -> None:
        self.source: FakeSource[Node] = FakeSource(page_size=1)
        self.client = client
        self.messages: list[Message] = []
        self.rows = Rows()
        self._server = server
        self._reporter = Reporter(NodeListener(), client)
        self.informer = Informer(self.source, self._reporter, INSTANT)
        self._reporter.read_from(self.informer.store.values)

    def tasks(self) -> list[asyncio.Task[None]]:
        work = (self._receive(), self.informer.run(), self._reporter.follow_epochs())
        return [asyncio.create_task(each) for each in work]

    async def _receive(self) -> None:
        while incoming := await self._server.receive():
            for each in incoming:
                for message in each.messages:
                    self.messages.append(message)
                    self.rows.apply(message)
                each.acknowledge()

    @property
    def inventories(self) -> list[tuple[str, ...]]:
        """The names in each inventory so far."""
        return [each.nodes for each in sent(self.messages) if isinstance(each, Listed)]

    async def until(self, condition: Callable[[], object]) -> None:
        await eventually(condition)
        await self.client.flush()


@asynccontextmanager
async def world(*names: str) -> AsyncIterator[World]:
    """One that knows these nodes."""
    async with listen("memory://") as server, connect(server.url, backend="b") as client:
        made = World(server, client)
        for name in names:
            made.source.add(make_node(name))
        tasks = made.tasks()
        try:
            await made.until(lambda: made.inventories)
            yield made
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_first_list_ends_with_an_inventory() -> None:
    """Each node, as it comes, and then the names of all with the version of the list."""
    async with world("b", "a") as w:
        epoch = w.client.epoch
        assert sent(w.messages) == [
            Sent("b", (epoch, 101)),
            Sent("a", (epoch, 102)),
            Listed((epoch, 102), ("a", "b")),
        ]


async def test_a_list_after_a_gap_brings_another() -> None:
    """It knows what came and went while nobody watched."""
    async with world("a", "b", "c") as w:
        w.source.delete(make_node("b"))
        w.source.add(make_node("d"))
        w.source.delete(make_node("c"))
        w.source.add(make_node("c", uid="another", unschedulable=True))
        w.source.expire()
        await w.until(lambda: len(w.inventories) == 2)
        assert w.inventories[-1] == ("a", "c", "d")
        assert {name: row.available for name, row in w.rows.live().items()} == {
            "a": True,
            "c": False,
            "d": True,
        }


async def test_an_epoch_that_begins_in_the_middle_of_a_list() -> None:
    """Its inventory is of what was known then; the one after the list takes that back."""
    async with world("a", "b", "c") as w:
        w.source.hold_lists()
        w.source.delete(make_node("c"))
        w.source.add(make_node("d"))
        w.source.expire()
        await eventually(lambda: w.source.lists == 2)
        w.client.renew_epoch()
        await w.until(lambda: len(w.inventories) == 2)
        assert w.inventories[-1] == ("a", "b", "c")
        w.source.release_lists()
        await w.until(lambda: len(w.inventories) == 3)
        assert w.inventories[-1] == ("a", "b", "d")
        assert w.rows.live().keys() == {"a", "b", "d"}
