"""The words that kubectl shows for a pod."""

from typing import Any

from osmo_simulator.resources import Object


def ready_text(pod: Object) -> str:
    """How many of the containers are ready."""
    statuses = _statuses(pod, "containerStatuses")
    ready = sum(bool(status.get("ready")) for status in statuses)
    return f"{ready}/{len(pod.get('spec', {}).get('containers') or [])}"


def restart_count(pod: Object) -> int:
    """How often the containers were started again."""
    return sum(status.get("restartCount", 0) for status in _statuses(pod, "containerStatuses"))


def status_text(pod: Object) -> str:
    """The one word that sums up a pod: a container's trouble, else the pod's reason or phase."""
    status = pod.get("status") or {}
    text = status.get("reason") or status.get("phase") or "Unknown"
    initializing = _init_text(pod)
    if initializing:
        text = initializing
    else:
        running = False
        for container in reversed(_statuses(pod, "containerStatuses")):
            trouble = _reason(container)
            if trouble:
                text = trouble
            elif container.get("ready") and "running" in _state(container):
                running = True
        if text == "Completed" and running:
            text = "Running" if _is_ready(status) else "NotReady"
    if pod["metadata"].get("deletionTimestamp"):
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return str(text)


def _init_text(pod: Object) -> str:
    total = len(pod.get("spec", {}).get("initContainers") or [])
    for number, container in enumerate(_statuses(pod, "initContainerStatuses")):
        state = _state(container)
        terminated = state.get("terminated")
        if terminated is not None and terminated.get("exitCode") == 0:
            continue
        reason = _reason(container)
        if terminated is not None or (reason and reason != "PodInitializing"):
            return f"Init:{reason}"
        return f"Init:{number}/{total}"
    return ""


def _reason(container: dict[str, Any]) -> str:
    state = _state(container)
    if waiting := state.get("waiting"):
        return str(waiting.get("reason", ""))
    terminated = state.get("terminated")
    if terminated is None:
        return ""
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _is_ready(status: dict[str, Any]) -> bool:
    conditions = status.get("conditions") or []
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _statuses(pod: Object, field: str) -> list[dict[str, Any]]:
    return (pod.get("status") or {}).get(field) or []


def _state(container: dict[str, Any]) -> dict[str, Any]:
    return container.get("state") or {}
