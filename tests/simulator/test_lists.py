"""Lists, on the simulator and on a real API server."""

import pytest

from tests.simulator.harness import MERGE, NODES, PODS, TABLE, ApiClient, Reply


def names(reply: Reply) -> list[str]:
    """The names in a list's answer."""
    assert reply.code == 200, reply
    return [item["metadata"]["name"] for item in reply.body["items"]]


async def test_list_is_ordered_and_versioned(api: ApiClient) -> None:
    """A list is ordered by name, and its version is not older than its newest object."""
    for name in ("c", "a", "b"):
        newest = await api.create_pod(name)
    reply = await api.list()
    assert names(reply) == ["a", "b", "c"]
    assert reply.body["kind"] == "PodList"
    assert reply.body["apiVersion"] == "v1"
    listed = int(reply.body["metadata"]["resourceVersion"])
    assert listed >= int(newest["metadata"]["resourceVersion"])
    assert "kind" not in reply.body["items"][0]


async def test_list_of_nothing(api: ApiClient) -> None:
    """An empty list has items, and a namespace that does not exist is an empty list."""
    assert (await api.list()).body["items"] == []
    assert names(await api.list("/api/v1/namespaces/absent/pods")) == []


async def test_all_namespaces(api: ApiClient) -> None:
    """Without a namespace in the path, every namespace is listed."""
    await api.create_pod("a")
    reply = await api.list("/api/v1/pods")
    found = [(i["metadata"]["namespace"], i["metadata"]["name"]) for i in reply.body["items"]]
    assert found == [("osmo", "a")]


async def test_namespaces_exist(api: ApiClient) -> None:
    """The usual namespaces exist, and kube-system has the uid that identifies a cluster."""
    assert {"default", "kube-system", "osmo"} <= set(names(await api.list("/api/v1/namespaces")))
    reply = await api.send("GET", "/api/v1/namespaces/kube-system")
    assert reply.body["metadata"]["uid"]


async def test_pages_show_one_state(api: ApiClient) -> None:
    """Every page shows the state of the first one, whatever happens meanwhile."""
    for name in ("a", "b", "c", "d"):
        await api.create_pod(name, step="before")
    first = await api.list(limit=2)
    await api.delete_pod("c")
    await api.patch(f"{PODS}/d", {"metadata": {"labels": {"step": "after"}}})
    await api.create_pod("e")
    second = await api.list(limit=2, **{"continue": first.body["metadata"]["continue"]})
    assert (names(first), names(second)) == (["a", "b"], ["c", "d"])
    assert second.body["items"][1]["metadata"]["labels"]["step"] == "before"
    versions = {page.body["metadata"]["resourceVersion"] for page in (first, second)}
    assert len(versions) == 1
    assert first.body["metadata"]["remainingItemCount"] == 2
    assert "continue" not in second.body["metadata"]


async def test_pages_of_selected(api: ApiClient) -> None:
    """A page is filled with objects that match, and the count of what is left is not guessed."""
    for number in range(6):
        await api.create_pod(f"p{number}", even=str(number % 2 == 0).lower())
    first = await api.list(limit=2, labelSelector="even=true")
    assert names(first) == ["p0", "p2"]
    assert "remainingItemCount" not in first.body["metadata"]
    token = first.body["metadata"]["continue"]
    second = await api.list(limit=2, labelSelector="even=true", **{"continue": token})
    assert names(second) == ["p4"]
    assert not second.body["metadata"].get("continue")


async def test_exact_version(api: ApiClient) -> None:
    """`resourceVersionMatch=Exact` shows a past state."""
    await api.create_pod("a")
    version = await api.version()
    await api.create_pod("b")
    past = await api.list(resourceVersion=version, resourceVersionMatch="Exact")
    assert names(past) == ["a"]
    assert past.body["metadata"]["resourceVersion"] == version
    newest = await api.version()
    newer = await api.list(resourceVersion=newest, resourceVersionMatch="NotOlderThan")
    assert names(newer) == ["a", "b"]
    assert names(await api.list(resourceVersion=0)) == ["a", "b"]


async def test_version_in_the_future(api: ApiClient) -> None:
    """A version that was never reached is a timeout that asks for patience."""
    reply = await api.list(resourceVersion=2**40)
    assert (reply.code, reply.reason) == (504, "Timeout")
    assert reply.body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    assert reply.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"labelSelector": "a in (b"}, 400),
        ({"labelSelector": "a b"}, 400),
        ({"labelSelector": ",a"}, 400),
        ({"fieldSelector": "spec.unknown=a"}, 400),
        ({"fieldSelector": "metadata.name"}, 400),
        ({"continue": "nonsense"}, 400),
        ({"resourceVersion": "abc"}, 400),
        ({"limit": "many"}, 400),
        ({"resourceVersionMatch": "Exact"}, 422),
        ({"resourceVersionMatch": "Exact", "resourceVersion": "0"}, 422),
        ({"resourceVersionMatch": "Odd", "resourceVersion": "1"}, 422),
        ({"sendInitialEvents": "true"}, 422),
    ],
)
async def test_bad_parameters(api: ApiClient, params: dict[str, str], code: int) -> None:
    """A malformed or contradictory request is refused with a Status."""
    reply = await api.list(**params)
    assert (reply.code, reply.body["kind"], reply.body["status"]) == (code, "Status", "Failure")


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("app", ["a", "b", "c"]),
        ("!app", ["d"]),
        ("app=x", ["a"]),
        ("app==x,tier=1", ["a"]),
        ("app!=x", ["b", "c", "d"]),
        ("app in (x, y)", ["a", "b"]),
        ("app notin (x,y)", ["c", "d"]),
        ("app,app notin (x,y)", ["c"]),
        ("tier>1", ["b", "c"]),
        ("tier<2", ["a"]),
        ("app=", ["c"]),
        ("osmo.task_uuid,!absent", ["d"]),
    ],
)
async def test_label_selectors(api: ApiClient, selector: str, expected: list[str]) -> None:
    """Each form of label selector selects what the API server's own does."""
    await api.create_pod("a", app="x", tier="1")
    await api.create_pod("b", app="y", tier="2")
    await api.create_pod("c", app="", tier="3")
    await api.create_pod("d", **{"osmo.task_uuid": "t"})
    assert names(await api.list(labelSelector=selector)) == expected


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("metadata.name=a", ["a"]),
        ("metadata.namespace=osmo,metadata.name!=a", ["b"]),
        ("status.phase=Running", ["a"]),
        ("status.phase!=Running", ["b"]),
        ("spec.nodeName=", ["a", "b"]),
        ("spec.nodeName=absent", []),
    ],
)
async def test_field_selectors(api: ApiClient, selector: str, expected: list[str]) -> None:
    """Pods are selected by the fields that the API server supports."""
    await api.create_pod("a")
    await api.create_pod("b")
    await api.patch(f"{PODS}/a/status", {"status": {"phase": "Running"}})
    assert names(await api.list(fieldSelector=selector)) == expected


async def test_events_of_an_object(api: ApiClient) -> None:
    """Events are selected by the object that they are about."""
    for name in ("a", "b"):
        event = {
            "metadata": {"name": f"event-{name}", "namespace": "osmo"},
            "involvedObject": {"kind": "Pod", "namespace": "osmo", "name": name, "uid": f"u{name}"},
            "reason": "Started",
        }
        assert (await api.send("POST", "/api/v1/namespaces/osmo/events", event)).code == 201
    selector = "involvedObject.kind=Pod,involvedObject.name=b,involvedObject.uid=ub"
    found = await api.list("/api/v1/namespaces/osmo/events", fieldSelector=selector)
    assert names(found) == ["event-b"]


async def test_unschedulable_nodes(api: ApiClient) -> None:
    """A node without the field counts as schedulable."""
    await api.send("POST", NODES, {"metadata": {"name": "a"}})
    await api.send("POST", NODES, {"metadata": {"name": "b"}})
    await api.patch(f"{NODES}/b", {"spec": {"unschedulable": True}}, content_type=MERGE)
    assert names(await api.list(NODES, fieldSelector="spec.unschedulable=false")) == ["a"]
    assert names(await api.list(NODES, fieldSelector="spec.unschedulable=true")) == ["b"]


@pytest.mark.parametrize("plural", ["pods", "nodes", "events", "namespaces"])
async def test_table_columns(api: ApiClient, plural: str) -> None:
    """A table has the columns that kubectl shows, and marks the wide ones."""
    reply = await api.send("GET", f"/api/v1/{plural}", Accept=TABLE)
    assert (reply.body["kind"], reply.body["apiVersion"]) == ("Table", "meta.k8s.io/v1")
    columns = [(c["name"], c["priority"]) for c in reply.body["columnDefinitions"]]
    assert columns == COLUMNS[plural]


COLUMNS = {
    "pods": [
        *((name, 0) for name in ("Name", "Ready", "Status", "Restarts", "Age")),
        *((name, 1) for name in ("IP", "Node", "Nominated Node", "Readiness Gates")),
    ],
    "nodes": [
        *((name, 0) for name in ("Name", "Status", "Roles", "Age", "Version")),
        *((name, 1) for name in ("Internal-IP", "External-IP", "OS-Image")),
        *((name, 1) for name in ("Kernel-Version", "Container-Runtime")),
    ],
    "events": [
        *((name, 0) for name in ("Last Seen", "Type", "Reason", "Object")),
        *((name, 1) for name in ("Subobject", "Source")),
        *(("Message", 0), ("First Seen", 1), ("Count", 1), ("Name", 1)),
    ],
    "namespaces": [("Name", 0), ("Status", 0), ("Age", 0)],
}


async def test_table_rows(api: ApiClient) -> None:
    """A row has a cell per column and as much of its object as was asked for."""
    await api.create_pod("a")
    for include, kind in (("Metadata", "PartialObjectMetadata"), ("Object", "Pod")):
        reply = await api.send("GET", PODS, params={"includeObject": include}, Accept=TABLE)
        (row,) = reply.body["rows"]
        assert row["cells"][:4] == ["a", "0/1", "Pending", row["cells"][3]]
        assert str(row["cells"][3]) == "0"
        assert (row["object"]["kind"], row["object"]["metadata"]["name"]) == (kind, "a")
    one = await api.send("GET", f"{PODS}/a", Accept=TABLE)
    assert one.body["rows"][0]["cells"][0] == "a"
