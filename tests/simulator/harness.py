"""One HTTP client for the simulator and for a real API server."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp

from osmo_simulator.api_server import RealCluster
from osmo_simulator.server import Simulator

PODS = "/api/v1/namespaces/osmo/pods"
NODES = "/api/v1/nodes"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
INITIAL_EVENTS_END = "k8s.io/initial-events-end"

Json = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """An answer, decoded."""

    code: int
    body: Any
    headers: dict[str, str]

    @property
    def reason(self) -> str:
        """The `reason` of a Status."""
        return str(self.body.get("reason", ""))


class Watching:
    """The events of an open watch."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    async def next(self) -> Json:
        """The next event; fails when none comes or the watch ended."""
        async with asyncio.timeout(10):
            line = await self._response.content.readline()
        assert line, "the watch ended"
        event: Json = json.loads(line)
        return event

    async def seen(self, count: int) -> list[tuple[str, str]]:
        """The types and names of the next events."""
        events = [await self.next() for _ in range(count)]
        return [(event["type"], event["object"]["metadata"].get("name", "")) for event in events]

    async def rest(self) -> list[Json]:
        """Every event up to the watch's end."""
        async with asyncio.timeout(10):
            text = await self._response.content.read()
        return [json.loads(line) for line in text.splitlines()]


class ApiClient:
    """Requests to one API server; both servers answer the same."""

    def __init__(
        self, session: aiohttp.ClientSession, url: str, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        self.url = url
        self._session = session
        self._ssl = ssl_context or True

    async def send(
        self, method: str, path: str, body: object = None, *, params: Json | None = None, **h: str
    ) -> Reply:
        """One request; keyword arguments are headers with `_` for `-`."""
        headers = {name.replace("_", "-"): value for name, value in h.items()}
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        async with asyncio.timeout(15):
            async with self._session.request(
                method, self.url + path, data=data, params=params, headers=headers, ssl=self._ssl
            ) as response:
                text = await response.read()
                decoded = json.loads(text) if text.startswith((b"{", b"[")) else text.decode()
                return Reply(response.status, decoded, dict(response.headers))

    async def list(self, path: str = PODS, **params: object) -> Reply:
        """A list; keyword arguments are query parameters."""
        return await self.send("GET", path, params={k: str(v) for k, v in params.items()})

    async def create_pod(self, name: str, **labels: str) -> Json:
        """Create a small pod and return it."""
        pod = {
            "metadata": {"name": name, "labels": labels},
            "spec": {"containers": [{"name": "main", "image": "none"}]},
        }
        reply = await self.send("POST", PODS, pod)
        assert reply.code == 201, reply
        body: Json = reply.body
        return body

    async def patch(
        self, path: str, patch: object, *, content_type: str = STRATEGIC, code: int = 200
    ) -> Json:
        """Patch and return the object, or the Status when another code is expected."""
        reply = await self.send("PATCH", path, patch, Content_Type=content_type)
        assert reply.code == code, reply
        body: Json = reply.body
        return body

    async def delete_pod(self, name: str) -> Reply:
        """Delete a pod at once."""
        return await self.send("DELETE", f"{PODS}/{name}", params={"gracePeriodSeconds": "0"})

    async def version(self) -> str:
        """The current resource version."""
        return str((await self.list()).body["metadata"]["resourceVersion"])

    @contextlib.asynccontextmanager
    async def watch(self, path: str = PODS, **params: object) -> AsyncIterator[Watching]:
        """An open watch; keyword arguments are query parameters."""
        query = {"watch": "1", **{k: str(v) for k, v in params.items()}}
        headers = {}
        if accept := query.pop("accept", ""):
            headers["Accept"] = accept
        async with self._session.get(
            self.url + path, params=query, headers=headers, ssl=self._ssl
        ) as response:
            assert response.status == 200, await response.text()
            yield Watching(response)


@contextlib.asynccontextmanager
async def simulator_client(sim: Simulator) -> AsyncIterator[ApiClient]:
    """A client of the simulator, with its token if it has one."""
    token = sim.config.token
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession(headers=headers, read_bufsize=2**20) as session:
        yield ApiClient(session, sim.url)


@contextlib.asynccontextmanager
async def real_client(cluster: RealCluster) -> AsyncIterator[ApiClient]:
    """A client of a real API server; what tests before it left behind is deleted."""
    await asyncio.to_thread(cluster.clear)
    context = ssl.create_default_context(cafile=cluster.ca_file)
    headers = {"Authorization": f"Bearer {cluster.token}"}
    async with aiohttp.ClientSession(headers=headers, read_bufsize=2**20) as session:
        yield ApiClient(session, cluster.url, context)
