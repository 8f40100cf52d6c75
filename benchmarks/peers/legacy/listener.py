"""Reports the pods of a namespace: a thread follows the API server, and the event loop sends."""

import asyncio
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import websockets
from kubernetes import client, config, watch
from urllib3.exceptions import HTTPError

from legacy.pod_status import pod_status
from legacy.window import Window
from legacy.wire import MAX_FRAME, new_message

SELECTOR = "osmo.task_uuid,osmo.workflow_uuid"
PAGE = 1_000
MAX_UNACKED = 100
TRACKED = 200_000
"""Tasks whose last status is known; with the deployed 1 024, large clusters are reported twice."""
GONE = 410

logger = logging.getLogger(__name__)

Key = tuple[str, str, int]
Body = dict[str, Any]


class Tracker:
    """Tells what is to be reported of a pod."""

    def __init__(self, report: Callable[[Body], None]) -> None:
        self._report = report
        self._sent: OrderedDict[Key, str] = OrderedDict()

    def seen(self, pod: Any) -> None:
        """Report the pod if its status has changed."""
        labels = pod.metadata.labels
        retry = labels.get("osmo.retry_id", "0")
        key = labels["osmo.workflow_uuid"], labels["osmo.task_uuid"], int(retry or 0)
        state = pod_status(pod)
        if state.status == "UNKNOWN" or self._sent.get(key) == state.status:
            return
        self._sent[key] = state.status
        if len(self._sent) > TRACKED:
            self._sent.popitem(last=False)
        self._report(
            {
                "workflow_uuid": key[0],
                "task_uuid": key[1],
                "retry_id": key[2],
                "container": pod.spec.containers[0].name if pod.spec.containers else "",
                "node": pod.spec.node_name,
                "pod_ip": pod.status.pod_ip,
                "message": state.message,
                "status": state.status,
                "exit_code": state.exit_code,
                "backend": "bench",
                "conditions": [
                    {
                        "type": each.type,
                        "status": each.status == "True",
                        "reason": each.reason,
                        "message": each.message,
                    }
                    for each in pod.status.conditions or ()
                ],
            }
        )


def follow(kubeconfig: str, namespace: str, tracker: Tracker) -> None:
    """List and watch for ever."""
    config.load_kube_config(kubeconfig)
    api = client.CoreV1Api()
    while True:
        try:
            version = _list(api, namespace, tracker)
            while True:
                for event in watch.Watch().stream(
                    api.list_namespaced_pod,
                    namespace=namespace,
                    label_selector=SELECTOR,
                    resource_version=version,
                ):
                    version = event["object"].metadata.resource_version
                    tracker.seen(event["object"])
        except client.ApiException as exc:
            if exc.status != GONE:
                logger.warning("the API server answered %s; listing again", exc.status)
        except HTTPError as exc:
            logger.warning("the connection broke: %s; listing again", exc)


def _list(api: client.CoreV1Api, namespace: str, tracker: Tracker) -> str:
    more = None
    while True:
        page: Any = api.list_namespaced_pod(
            namespace, label_selector=SELECTOR, limit=PAGE, _continue=more
        )
        for pod in page.items:
            tracker.seen(pod)
        more = page.metadata._continue  # noqa: SLF001 (so the generated class names it)
        if not more:
            version: str = page.metadata.resource_version
            return version


async def run_listener(url: str, kubeconfig: str, namespace: str) -> None:
    """Report until the connection ends."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[Body] = asyncio.Queue()

    def report(body: Body) -> None:
        loop.call_soon_threadsafe(queue.put_nowait, body)

    thread = threading.Thread(
        target=follow, args=(kubeconfig, namespace, Tracker(report)), daemon=True
    )
    async with websockets.connect(url, compression=None, max_size=MAX_FRAME) as connection:
        thread.start()
        window = Window(MAX_UNACKED)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(window.read_acks(connection))
            tasks.create_task(_send(connection, window, queue))


async def _send(
    connection: websockets.ClientConnection, window: Window, queue: asyncio.Queue[Body]
) -> None:
    while True:
        message = new_message(await queue.get())
        await window.add(message)
        await connection.send(json.dumps(message))
