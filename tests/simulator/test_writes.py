"""Create, update, patch and delete, on the simulator and on a real API server."""

from typing import Any

import pytest

from tests.simulator.harness import MERGE, NODES, PODS, STRATEGIC, ApiClient, Json

SPEC = {"containers": [{"name": "main", "image": "none"}]}


async def test_create_fills_the_metadata(api: ApiClient) -> None:
    """A created object has a uid, a version, a time and its namespace, and starts as Pending."""
    pod = await api.create_pod("a")
    metadata = pod["metadata"]
    assert metadata["namespace"] == "osmo"
    assert len(metadata["uid"]) == 36
    assert metadata["resourceVersion"].isdecimal()
    assert metadata["creationTimestamp"].endswith("Z")
    assert pod["status"]["phase"] == "Pending"
    got = await api.send("GET", f"{PODS}/a")
    assert got.body["metadata"] == metadata
    assert (got.body["kind"], got.body["apiVersion"]) == ("Pod", "v1")


async def test_create_ignores_a_pod_status_and_keeps_a_node_status(api: ApiClient) -> None:
    """The kubelet registers a node with its status, while a pod begins as Pending."""
    pod = {"metadata": {"name": "a"}, "spec": SPEC, "status": {"phase": "Running"}}
    assert (await api.send("POST", PODS, pod)).body["status"]["phase"] == "Pending"
    ready = [{"type": "Ready", "status": "True"}]
    node = {"metadata": {"name": "n"}, "status": {"conditions": ready}}
    created = (await api.send("POST", NODES, node)).body
    assert created["status"]["conditions"][0]["type"] == "Ready"


async def test_generate_name(api: ApiClient) -> None:
    """A generated name begins with the prefix and is never the same."""
    body = {"metadata": {"generateName": "task-"}, "spec": SPEC}
    created = [(await api.send("POST", PODS, body)).body["metadata"]["name"] for _ in range(3)]
    assert len(set(created)) == 3
    assert all(name.startswith("task-") and len(name) == 10 for name in created)


@pytest.mark.parametrize(
    ("path", "metadata", "code", "reason"),
    [
        (PODS, {"name": "taken"}, 409, "AlreadyExists"),
        (PODS, {}, 422, "Invalid"),
        (PODS, {"name": "a", "namespace": "other"}, 400, "BadRequest"),
        ("/api/v1/namespaces/absent/pods", {"name": "a"}, 404, "NotFound"),
        ("/api/v1/pods", {"name": "a"}, 405, "MethodNotAllowed"),
        ("/api/v1/unknown", {"name": "a"}, 404, "NotFound"),
    ],
)
async def test_refused_creations(
    api: ApiClient, path: str, metadata: Json, code: int, reason: str
) -> None:
    """Each refusal has its status and reason."""
    await api.create_pod("taken")
    reply = await api.send("POST", path, {"metadata": metadata, "spec": SPEC})
    assert (reply.code, reply.reason, reply.body["code"]) == (code, reason, code)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"kind":"Node","metadata":{"name":"a"}}'])
async def test_malformed_bodies(api: ApiClient, body: bytes) -> None:
    """What is not a pod is refused."""
    reply = await api.send("POST", PODS, body)
    assert (reply.code, reply.reason) == (400, "BadRequest")


async def test_absent_objects(api: ApiClient) -> None:
    """Every verb on an object that does not exist is NotFound, with its name and kind."""
    for method, body in (("GET", None), ("DELETE", None), ("PATCH", {})):
        reply = await api.send(method, f"{PODS}/absent", body, Content_Type=MERGE)
        assert (reply.code, reply.reason) == (404, "NotFound")
        assert reply.body["details"] == {"name": "absent", "kind": "pods"}
        assert reply.body["message"] == 'pods "absent" not found'


async def test_update_needs_the_latest_version(api: ApiClient) -> None:
    """An update that carries an older version is a conflict and changes nothing."""
    pod = await api.create_pod("a")
    newer = await api.patch(f"{PODS}/a", {"metadata": {"labels": {"step": "1"}}})
    pod["metadata"]["labels"] = {"step": "2"}
    refused = await api.send("PUT", f"{PODS}/a", pod)
    assert (refused.code, refused.reason) == (409, "Conflict")
    newer["metadata"]["labels"] = {"step": "2"}
    accepted = await api.send("PUT", f"{PODS}/a", newer)
    assert accepted.code == 200
    assert accepted.body["metadata"]["labels"] == {"step": "2"}


async def test_update_checks_the_name(api: ApiClient) -> None:
    """The name in the path and in the object must be the same."""
    pod = await api.create_pod("a")
    await api.create_pod("b")
    reply = await api.send("PUT", f"{PODS}/b", pod)
    assert (reply.code, reply.reason) == (400, "BadRequest")


async def test_update_of_another_object_of_that_name(api: ApiClient) -> None:
    """A uid that is not the stored one is a conflict: the object was deleted and made again."""
    pod = await api.create_pod("a")
    del pod["metadata"]["resourceVersion"]
    pod["metadata"]["uid"] = "00000000-0000-4000-8000-000000000000"
    reply = await api.send("PUT", f"{PODS}/a", pod)
    assert (reply.code, reply.reason) == (409, "Conflict")


async def test_status_is_a_subresource(api: ApiClient) -> None:
    """The main path never changes the status, and `/status` never the spec."""
    pod = await api.create_pod("a")
    main = await api.patch(f"{PODS}/a", {"status": {"phase": "Failed"}})
    assert main["status"]["phase"] == "Pending"
    patch = {
        "metadata": {"labels": {"step": "1"}},
        "spec": {"nodeName": "n"},
        "status": {"phase": "Running"},
    }
    status = await api.patch(f"{PODS}/a/status", patch)
    assert status["status"]["phase"] == "Running"
    assert "nodeName" not in status["spec"]
    assert status["metadata"]["labels"] == {"step": "1"}
    put = await api.send("PUT", f"{PODS}/a/status", {**pod, **_succeeded(pod)})
    assert put.body["status"]["phase"] == "Succeeded"
    assert (await api.send("GET", f"{PODS}/a/status")).body == put.body


def _succeeded(pod: Json) -> Json:
    """The pod as succeeded, for an update that does not name a version."""
    metadata = {k: v for k, v in pod["metadata"].items() if k != "resourceVersion"}
    return {"metadata": metadata, "status": {"phase": "Succeeded"}}


async def test_change_of_nothing_keeps_the_version(api: ApiClient) -> None:
    """A patch without effect makes no new version."""
    pod = await api.create_pod("a", step="1")
    same = await api.patch(f"{PODS}/a", {"metadata": {"labels": {"step": "1"}}})
    assert same["metadata"]["resourceVersion"] == pod["metadata"]["resourceVersion"]


@pytest.mark.parametrize("content_type", [MERGE, STRATEGIC])
async def test_labels(api: ApiClient, content_type: str) -> None:
    """Both kinds of patch merge labels, and null removes one."""
    await api.create_pod("a", keep="1", drop="1")
    patch = {"metadata": {"labels": {"drop": None, "new": "1"}}}
    pod = await api.patch(f"{PODS}/a", patch, content_type=content_type)
    assert pod["metadata"]["labels"] == {"keep": "1", "new": "1"}


def condition(kind: str, status: str) -> Json:
    """A pod condition."""
    return {"type": kind, "status": status}


def conditions(pod: Json) -> list[tuple[str, str]]:
    """The types and statuses of a pod's conditions."""
    return [(c["type"], c["status"]) for c in pod["status"]["conditions"]]


async def test_strategic_merge_of_conditions(api: ApiClient) -> None:
    """A strategic merge patch changes conditions by type, and leaves the others alone."""
    await api.create_pod("a")
    first: Any = {"status": {"conditions": [condition("A", "True"), condition("B", "True")]}}
    await api.patch(f"{PODS}/a/status", first)
    second: Any = {"status": {"conditions": [condition("B", "False"), condition("C", "True")]}}
    pod = await api.patch(f"{PODS}/a/status", second)
    assert sorted(conditions(pod)) == [("A", "True"), ("B", "False"), ("C", "True")]
    third: Any = {
        "status": {
            "conditions": [{"type": "A", "$patch": "delete"}],
            "$setElementOrder/conditions": [{"type": "C"}, {"type": "B"}],
        }
    }
    pod = await api.patch(f"{PODS}/a/status", third)
    assert conditions(pod) == [("C", "True"), ("B", "False")]
    fourth: Any = {"status": {"conditions": [{"$patch": "replace"}, condition("D", "True")]}}
    pod = await api.patch(f"{PODS}/a/status", fourth)
    assert conditions(pod) == [("D", "True")]


async def test_merge_patch_replaces_lists(api: ApiClient) -> None:
    """A merge patch replaces a list as a whole."""
    await api.create_pod("a")
    for kinds in (("A", "B"), ("C",)):
        patch = {"status": {"conditions": [condition(kind, "True") for kind in kinds]}}
        pod = await api.patch(f"{PODS}/a/status", patch, content_type=MERGE)
    assert conditions(pod) == [("C", "True")]


async def test_container_statuses_are_replaced(api: ApiClient) -> None:
    """Container statuses have no merge key: the node always reports all of them."""
    await api.create_pod("a")
    for names in (("x", "y"), ("y",)):
        statuses = [
            {"name": n, "image": "i", "imageID": "", "ready": True, "restartCount": 0}
            for n in names
        ]
        pod = await api.patch(f"{PODS}/a/status", {"status": {"containerStatuses": statuses}})
    assert [status["name"] for status in pod["status"]["containerStatuses"]] == ["y"]


async def test_labels_are_strings(api: ApiClient) -> None:
    """A label of another type is refused, in an object and in a patch."""
    malformed: list[Any] = [{"n": 1}, {"n": {}}, ["n"]]
    for labels in malformed:
        pod = {"metadata": {"name": "a", "labels": labels}, "spec": SPEC}
        assert (await api.send("POST", PODS, pod)).code == 400
    await api.create_pod("a")
    patch = {"metadata": {"labels": {"n": 1}}}
    reply = await api.send("PATCH", f"{PODS}/a", patch, Content_Type=MERGE)
    assert reply.code in {400, 422}


async def test_node_conditions_and_taints(api: ApiClient) -> None:
    """Node conditions merge by type, taints are replaced."""
    await api.send("POST", NODES, {"metadata": {"name": "n"}})
    for kind in ("Ready", "DiskPressure"):
        patch = {"status": {"conditions": [condition(kind, "True")]}}
        node = await api.patch(f"{NODES}/n/status", patch)
    assert {kind for kind, _ in conditions(node)} == {"Ready", "DiskPressure"}
    for key in ("a", "b"):
        taints = [{"key": key, "effect": "NoSchedule"}]
        node = await api.patch(f"{NODES}/n", {"spec": {"taints": taints}})
    assert [taint["key"] for taint in node["spec"]["taints"]] == ["b"]


async def test_patch_preconditions(api: ApiClient) -> None:
    """A patch that names an old version, or another object, is refused."""
    await api.create_pod("a")
    stale = await api.patch(f"{PODS}/a", {"metadata": {"resourceVersion": "1"}}, code=409)
    assert stale["reason"] == "Conflict"
    renamed = await api.patch(f"{PODS}/a", {"metadata": {"name": "b"}}, code=400)
    assert renamed["reason"] == "BadRequest"


async def test_unknown_patch_type(api: ApiClient) -> None:
    """A patch of an unknown media type is refused."""
    await api.create_pod("a")
    refused = await api.patch(f"{PODS}/a", {}, content_type="application/odd", code=415)
    assert refused["reason"] == "UnsupportedMediaType"


async def test_delete(api: ApiClient) -> None:
    """A deleted pod is returned and gone; a deleted node is answered with a Status."""
    await api.create_pod("a")
    deleted = await api.delete_pod("a")
    assert (deleted.body["kind"], deleted.body["metadata"]["name"]) == ("Pod", "a")
    assert (await api.delete_pod("a")).code == 404
    node = (await api.send("POST", NODES, {"metadata": {"name": "n"}})).body
    success = (await api.send("DELETE", f"{NODES}/n")).body
    assert (success["kind"], success["status"]) == ("Status", "Success")
    assert success["details"] == {"name": "n", "kind": "nodes", "uid": node["metadata"]["uid"]}


async def test_delete_preconditions(api: ApiClient) -> None:
    """A pod with another uid or version than the request names is not deleted."""
    pod = await api.create_pod("a")
    for field in ("uid", "resourceVersion"):
        reply = await api.send("DELETE", f"{PODS}/a", {"preconditions": {field: "1"}})
        assert (reply.code, reply.reason) == (409, "Conflict")
    right = {
        "gracePeriodSeconds": 0,
        "preconditions": {field: pod["metadata"][field] for field in ("uid", "resourceVersion")},
    }
    assert (await api.send("DELETE", f"{PODS}/a", right)).code == 200


async def test_delete_collection(api: ApiClient) -> None:
    """Deleting a collection deletes what its selector selects."""
    for name in ("a", "b", "c"):
        await api.create_pod(name, keep=str(name == "b").lower())
    params = {"labelSelector": "keep!=true", "gracePeriodSeconds": "0"}
    reply = await api.send("DELETE", PODS, params=params)
    assert [pod["metadata"]["name"] for pod in reply.body["items"]] == ["a", "c"]
    left = await api.list()
    assert [pod["metadata"]["name"] for pod in left.body["items"]] == ["b"]


async def test_recreated_object_is_another_one(api: ApiClient) -> None:
    """A name that is used again belongs to a new uid."""
    first = await api.create_pod("a")
    await api.delete_pod("a")
    second = await api.create_pod("a")
    assert first["metadata"]["uid"] != second["metadata"]["uid"]


@pytest.mark.parametrize("path", ["/version", "/api", "/apis", "/api/v1", "/readyz"])
async def test_discovery(api: ApiClient, path: str) -> None:
    """What clients ask before they ask for objects is answered."""
    reply = await api.send("GET", path)
    assert reply.code == 200
    if path == "/api/v1":
        served = {entry["name"]: entry for entry in reply.body["resources"]}
        assert served["pods"]["namespaced"]
        assert served["nodes"]["kind"] == "Node"
        assert "patch" in served["pods/status"]["verbs"]
