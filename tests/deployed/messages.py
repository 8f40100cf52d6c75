"""Messages of deployed listeners, of every kind and with any content."""

import hypothesis.strategies as st

from osmo_deployed.messages import (
    ConditionMessage,
    ListenerMessage,
    LoggingBody,
    LoggingType,
    NodeInventoryBody,
    PodEventBody,
    Taint,
    UpdateNodeBody,
    UpdateNodeUsageBody,
    UpdatePodBody,
)
from osmo_deployed.times import written

KINDS = (
    *("update_pod", "update_node", "update_node_usage"),
    *("node_inventory", "pod_event", "logging"),
)

_texts = st.text(max_size=8)
_names = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1)
_numbers = st.integers(-(2**31), 2**31 - 1)
_maps = st.dictionaries(_texts, _texts, max_size=3)
_times = st.integers(0, 1_767_300_000_000_000).map(lambda micros: written(micros / 1e6))
_some_times = st.one_of(st.just(""), _times)

_conditions = st.builds(
    ConditionMessage,
    reason=_texts,
    message=_texts,
    timestamp=_times,
    status=st.booleans(),
    type=_texts,
)
_taints = st.builds(Taint, key=_texts, value=_texts, effect=_texts, time_added=_some_times)
_bodies: dict[str, st.SearchStrategy[object]] = {
    "update_pod": st.builds(
        UpdatePodBody,
        workflow_uuid=_texts,
        task_uuid=_texts,
        retry_id=_numbers,
        container=_texts,
        node=_texts,
        pod_ip=_texts,
        message=_texts,
        status=_texts,
        exit_code=_numbers,
        backend=st.just("east"),
        conditions=st.lists(_conditions, max_size=3).map(tuple),
    ),
    "update_node": st.builds(
        UpdateNodeBody,
        hostname=_names,
        available=st.booleans(),
        conditions=st.lists(_texts, max_size=3).map(tuple),
        processed_fields=_maps,
        allocatable_fields=_maps,
        label_fields=_maps,
        taints=st.lists(_taints, max_size=3).map(tuple),
        delete=st.booleans(),
    ),
    "update_node_usage": st.builds(
        UpdateNodeUsageBody,
        hostname=_names,
        usage_fields=_maps,
        non_workflow_usage_fields=_maps,
    ),
    "node_inventory": st.builds(
        NodeInventoryBody, hostnames=st.lists(_texts, max_size=3).map(tuple)
    ),
    "pod_event": st.builds(
        PodEventBody, pod_name=_names, reason=_texts, message=_texts, timestamp=_times
    ),
    "logging": st.builds(
        LoggingBody, type=st.sampled_from(LoggingType), text=_texts, workflow_uuid=_texts
    ),
}


def messages() -> st.SearchStrategy[ListenerMessage]:
    """As a deployed listener of the backend `east` writes them before 2026-01-02."""
    return st.one_of(
        [
            st.builds(ListenerMessage, uuid=_names, timestamp=_times, **{kind: body})
            for kind, body in _bodies.items()
        ]
    )
