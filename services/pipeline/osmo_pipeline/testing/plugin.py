"""The pytest plugin: a cluster, and a whole pipeline, in the process of a user's own test.

    async def test_a_pod_is_seen(osmo_cluster: Clusters) -> None:
        async with osmo_cluster.open() as cluster:
            (pod,) = cluster.start_workflow().pods
            ...  # what is tested follows `cluster.kubeconfig`, or `cluster.simulator.url`
            pod.run()

    async def test_users_see_it(osmo_pipeline: Pipelines) -> None:
        async with osmo_pipeline.open() as pipeline:
            (pod,) = pipeline.cluster.start_workflow().pods
            pod.fail("out-of-memory")
            await pipeline.settled()
            (task,) = await pipeline.store.tasks()

What a test does with what it opened takes `PATIENCE` seconds at most, as with the fixtures of
`osmo_transport.testing.plugin`; `patience` of a fixture is to be set where a test takes longer.

Reports of one pod coalesce wherever they wait: of several changes in a row the store may see the
last one only. A test that wants to see each settles behind each.

Both fixtures are plain functions, so that they work under any plugin that runs `async` tests, on
asyncio. They import what they need when something is opened; what is not installed is told with the
extra that brings it.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from osmo_transport.testing.patience import PATIENCE, patience

if TYPE_CHECKING:
    from osmo_pipeline.testing.cluster import SimulatedCluster
    from osmo_pipeline.testing.pipeline import Pipeline


class Clusters:
    """Opens simulated clusters; their files are in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.patience = PATIENCE
        """Seconds that a test may take with what it opens from now on."""

    @asynccontextmanager
    async def open(
        self, *, nodes: int = 1, namespace: str = "osmo"
    ) -> "AsyncIterator[SimulatedCluster]":
        """See `osmo_pipeline.testing.cluster.open_cluster`.

        Raises:
            MissingExtraError: the simulator's library is not installed.
        """
        __tracebackhide__ = True
        from osmo_pipeline.testing.cluster import open_cluster  # noqa: PLC0415

        async with (
            open_cluster(self._folder, nodes=nodes, namespace=namespace) as cluster,
            patience(self.patience),
        ):
            yield cluster


class Pipelines:
    """Opens whole pipelines; their files are in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.patience = PATIENCE
        """Seconds that a test may take with what it opens from now on."""

    @asynccontextmanager
    async def open(
        self,
        *,
        transport: str = "memory://",
        queue: str = "",
        store: str = "",
        backend: str = "backend",
        listeners: Sequence[str] = ("workflow", "node", "event"),
        nodes: int = 1,
    ) -> "AsyncIterator[Pipeline]":
        """See `osmo_pipeline.testing.pipeline.open_pipeline`.

        With the URLs of the fixtures `osmo_transport` and `osmo_queue` a test runs over each
        transport and queue that is installed.

        Raises:
            MissingExtraError: a library of it is not installed.
        """
        __tracebackhide__ = True
        from osmo_pipeline.testing.pipeline import open_pipeline  # noqa: PLC0415

        async with (
            open_pipeline(
                self._folder,
                transport=transport,
                queue=queue,
                store=store,
                backend=backend,
                listeners=listeners,
                nodes=nodes,
            ) as pipeline,
            patience(self.patience, stands=pipeline.stands),
        ):
            yield pipeline


@pytest.fixture
def osmo_cluster(tmp_path: Path) -> Clusters:
    """Simulated clusters, to be opened: served over HTTP, with verbs for what happens in them."""
    return Clusters(tmp_path)


@pytest.fixture
def osmo_pipeline(tmp_path: Path) -> Pipelines:
    """Whole pipelines, to be opened. Of changes of one pod in a row the store may see the last one
    only: settle behind each that matters."""
    return Pipelines(tmp_path)
