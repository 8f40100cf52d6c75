"""Reports the pods of a namespace: a thread follows the API server, and the event loop sends."""

import asyncio
import contextlib
import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from kubernetes import client, config, watch
from urllib3.exceptions import HTTPError

from legacy.pod_status import State, pod_status
from legacy.window import Window
from legacy.wire import BACKEND, Body, connect, timestamp

SELECTOR = "osmo.task_uuid,osmo.workflow_uuid"
PAGE = 1_000
"""Pods of a list at once, as deployed."""
MAX_UNACKED = 100
"""As deployed."""
BUFFERED = 10_000
"""Reports that the thread may be ahead of the connection: some 10 MB."""
TRACKED = 200_000
"""Tasks whose last status is known; with the deployed 1 024, large clusters are reported twice."""
GONE = 410

logger = logging.getLogger(__name__)

Key = tuple[str, str, int]


class Tracker:
    """Tells what is to be reported of a pod."""

    def __init__(self, report: Callable[[Body], None]) -> None:
        self._report = report
        self._sent: OrderedDict[Key, str] = OrderedDict()

    def seen(self, pod: Any) -> None:
        """Report the pod if its status has changed."""
        key, state = _key(pod), pod_status(pod)
        unknown = state.status == "UNKNOWN" or pod.status.phase == "Unknown"
        if unknown or self._sent.get(key) == state.status:
            return
        self._sent[key] = state.status
        if len(self._sent) > TRACKED:
            self._sent.popitem(last=False)
        self._report(_body(pod, key, state))

    def gone(self, pod: Any) -> None:
        """Look at its last state once more, and then forget it."""
        self.seen(pod)
        self._sent.pop(_key(pod), None)


def _key(pod: Any) -> Key:
    labels = pod.metadata.labels
    retry = re.match(r"\d+", labels.get("osmo.retry_id", ""))
    return (
        labels["osmo.workflow_uuid"],
        labels["osmo.task_uuid"],
        int(retry[0]) if retry else 0,
    )


def _body(pod: Any, key: Key, state: State) -> Body:
    workflow, task, retry = key
    return {
        "workflow_uuid": workflow,
        "task_uuid": task,
        "retry_id": retry,
        "container": pod.spec.containers[0].name,
        "node": pod.spec.node_name,
        "pod_ip": pod.status.pod_ip,
        "message": state.message,
        "status": state.status,
        "exit_code": state.exit_code,
        "backend": BACKEND,
        "conditions": [
            {
                "type": each.type,
                "status": each.status == "True",
                "reason": each.reason,
                "message": each.message,
                "timestamp": each.last_transition_time and timestamp(each.last_transition_time),
            }
            for each in pod.status.conditions or ()
        ],
    }


def follow(kubeconfig: str, namespace: str, tracker: Tracker) -> None:
    """List and watch for ever.

    Raises: what the client raises where listing again does not help.
    """
    config.load_kube_config(kubeconfig)
    api = client.CoreV1Api()
    while True:
        try:
            version = _list(api, namespace, tracker)
            _watch(api, namespace, tracker, version)
        except client.ApiException as exc:
            if exc.status != GONE:
                raise


def _list(api: Any, namespace: str, tracker: Tracker) -> str:
    more = None
    while True:
        page = api.list_namespaced_pod(
            namespace, label_selector=SELECTOR, limit=PAGE, _continue=more
        )
        for pod in page.items:
            tracker.seen(pod)
        more = page.metadata._continue  # noqa: SLF001  (so the generated class names it)
        if not more:
            version: str = page.metadata.resource_version
            return version


def _watch(api: Any, namespace: str, tracker: Tracker, version: str) -> None:
    try:
        for event in watch.Watch().stream(
            api.list_namespaced_pod,
            namespace=namespace,
            label_selector=SELECTOR,
            resource_version=version,
        ):
            see = tracker.gone if event["type"] == "DELETED" else tracker.seen
            see(event["object"])
    except HTTPError as exc:
        logger.warning("the watch broke: %s; listing again", exc)


class Reports:
    """On their way from the thread to the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Body | Exception] = asyncio.Queue()
        self._room = threading.Semaphore(BUFFERED)

    def put(self, found: Body | Exception) -> None:
        """From the thread; waits for room."""
        self._room.acquire()
        self._loop.call_soon_threadsafe(self._queue.put_nowait, found)

    async def get(self) -> Body:
        """The next.

        Raises: what the thread ended with.
        """
        found = await self._queue.get()
        self._room.release()
        if isinstance(found, Exception):
            raise found
        return found


async def run_listener(url: str, kubeconfig: str, namespace: str) -> None:
    """Report until it is cancelled.

    Raises:
        RuntimeError: the cluster cannot be followed.
        ConnectionClosed: the service has gone.
    """
    reports = Reports()

    def run() -> None:
        # A daemon thread may outlive the event loop, which then takes nothing any more.
        with contextlib.suppress(RuntimeError):
            try:
                follow(kubeconfig, namespace, Tracker(reports.put))
            except Exception as exc:  # noqa: BLE001  (whatever it was, nothing is followed now)
                reports.put(RuntimeError(f"cannot follow the cluster: {exc}"))

    async with connect(url) as connection:
        threading.Thread(target=run, daemon=True).start()
        window = Window(connection, MAX_UNACKED)
        await window.attend(_send(window, reports))


async def _send(window: Window, reports: Reports) -> None:
    while True:
        await window.send(await reports.get())
