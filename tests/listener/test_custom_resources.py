"""The informer as a library, on a real API server: resources of anybody's."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from osmo_listener.errors import NotFoundError
from osmo_listener.informer import Change, ChangeType, Unstructured, watch
from osmo_simulator.api_server import RealCluster
from tests.examples import names_of
from tests.helpers import eventually
from tests.listener.widgets import DEFINITIONS, PATH, WIDGETS, Widget, define, widget

pytestmark = pytest.mark.cluster


class Shop:
    """A cluster that has widgets."""

    def __init__(self, cluster: RealCluster, folder: Path) -> None:
        self.cluster = cluster
        self.kubeconfig = folder / "config"
        self.kubeconfig.write_text(cluster.kubeconfig())

    async def create(self, name: str, width: int, **labels: str) -> None:
        await self._request("POST", PATH, widget(name, width, labels))

    async def resize(self, name: str, width: int) -> None:
        patch = {"spec": {"width": width}}
        kind = {"content_type": "application/merge-patch+json"}
        await self._request("PATCH", f"{PATH}/{name}", patch, **kind)

    async def delete(self, name: str) -> None:
        await self._request("DELETE", f"{PATH}/{name}")

    async def _request(self, *arguments: Any, **headers: str) -> None:
        await asyncio.to_thread(self.cluster.request, *arguments, **headers)


@pytest.fixture(scope="module")
def with_widgets(real_cluster: RealCluster) -> Iterator[RealCluster]:
    """A cluster that knows what widgets are."""
    define(real_cluster)
    yield real_cluster
    real_cluster.request("DELETE", f"{DEFINITIONS}/widgets.shop.example")


@pytest.fixture
def shop(with_widgets: RealCluster, tmp_path: Path) -> Shop:
    """Without any widget."""
    with_widgets.request("DELETE", PATH)
    return Shop(with_widgets, tmp_path)


async def next_of(changes: AsyncIterator[Change[Widget]]) -> tuple[ChangeType, int, int]:
    """The next change: what, and the width before and after; 0 for none."""
    async with asyncio.timeout(30):
        kind, old, new, _ = await anext(changes)
    return kind, old.spec.width if old else 0, new.spec.width if new else 0


async def test_the_example_of_the_documents(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints what there is, and what becomes of it."""
    await shop.create("first", 1)
    watching = asyncio.create_task(
        names_of("libs_listener_README")["watch_widgets"](shop.kubeconfig)
    )
    printed = ""

    def said(text: str) -> bool:
        nonlocal printed
        printed += capsys.readouterr().out
        return text in printed

    await eventually(lambda: said("known: first"))
    await eventually(lambda: said("added None -> 1 at "))
    await shop.create("second", 2)
    await eventually(lambda: said("added None -> 2 at "))
    await shop.resize("second", 3)
    await eventually(lambda: said("modified 2 -> 3 at "))
    await shop.delete("second")
    await eventually(lambda: said("deleted 3 -> None at "))
    watching.cancel()
    await asyncio.wait([watching])


async def test_each_change_is_told(shop: Shop) -> None:
    """In a struct of one's own, with what it was before, in the order of the versions."""
    await shop.create("a", 1)
    async with watch(WIDGETS, Widget, namespace="default", kubeconfig=shop.kubeconfig) as widgets:
        changes = aiter(widgets)
        assert await next_of(changes) == (ChangeType.ADDED, 0, 1)
        await shop.resize("a", 2)
        await shop.resize("a", 3)
        await shop.delete("a")
        assert await next_of(changes) == (ChangeType.MODIFIED, 1, 2)
        assert await next_of(changes) == (ChangeType.MODIFIED, 2, 3)
        assert await next_of(changes) == (ChangeType.DELETED, 3, 0)
        assert len(widgets) == 0


async def test_only_what_is_selected_is_told(shop: Shop) -> None:
    """By labels, as the server evaluates them."""
    await shop.create("a", 1, colour="red")
    await shop.create("b", 2, colour="green")
    red = "colour=red"
    async with watch(WIDGETS, Widget, label_selector=red, kubeconfig=shop.kubeconfig) as widgets:
        assert [each.metadata.labels for each in widgets.store.values()] == [{"colour": "red"}]


async def test_without_a_struct_there_is_all(shop: Shop) -> None:
    """An object is its JSON, with the usual metadata as attributes."""
    await shop.create("a", 1)
    async with watch(WIDGETS, Unstructured, kubeconfig=shop.kubeconfig) as widgets:
        known = widgets.store.get("default/a")
        assert known is not None
        assert known["spec"] == {"width": 1, "colours": ["red", "green"]}
        assert known["metadata"]["uid"] == known.metadata.uid
        changes = aiter(widgets)
        await anext(changes)
        await shop.resize("a", 2)
        change = await anext(changes)
        assert change.new is not None
        assert change.new["spec"]["width"] == 2


async def test_a_resource_that_does_not_exist_is_an_error_at_once(
    shop: Shop,
) -> None:
    """Nobody waits for a mistyped name."""
    with pytest.raises(NotFoundError):
        async with watch("shop.example/v1/gadgets", Widget, kubeconfig=shop.kubeconfig):
            raise AssertionError("it has entered")
