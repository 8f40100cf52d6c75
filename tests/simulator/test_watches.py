"""Watches, on the simulator and on a real API server."""

import pytest

from tests.simulator.harness import INITIAL_EVENTS_END, PODS, TABLE, ApiClient, Json


def summary(event: Json) -> tuple[str, str]:
    """An event's type and its object's name."""
    return event["type"], event["object"]["metadata"].get("name", "")


async def test_every_change_in_order(api: ApiClient) -> None:
    """A watch from a list's version gives each later change once, with rising versions."""
    await api.create_pod("old")
    async with api.watch(resourceVersion=await api.version()) as watch:
        await api.create_pod("a")
        await api.patch(f"{PODS}/a/status", {"status": {"phase": "Running"}})
        await api.delete_pod("a")
        events = [await watch.next() for _ in range(4)]
    assert [summary(event) for event in events] == [
        ("ADDED", "a"),
        ("MODIFIED", "a"),
        ("MODIFIED", "a"),
        ("DELETED", "a"),
    ]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(set(versions))
    assert {(e["object"]["kind"], e["object"]["apiVersion"]) for e in events} == {("Pod", "v1")}
    assert "deletionTimestamp" in events[2]["object"]["metadata"]
    assert events[3]["object"]["status"]["phase"] == "Running"


@pytest.mark.parametrize("version", ["", "0"])
async def test_watch_without_a_version_sends_the_state(api: ApiClient, version: str) -> None:
    """A watch from no version or 0 begins with what exists."""
    await api.create_pod("a")
    await api.create_pod("b")
    async with api.watch(resourceVersion=version) as watch:
        assert sorted(await watch.seen(2)) == [("ADDED", "a"), ("ADDED", "b")]
        await api.create_pod("c")
        assert await watch.seen(1) == [("ADDED", "c")]


async def test_watch_resumes_from_the_past(api: ApiClient) -> None:
    """A watch from an old version gives what was missed."""
    before = await api.version()
    first = await api.create_pod("a")
    await api.delete_pod("a")
    await api.create_pod("b")
    later = [("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "b")]
    async with api.watch(resourceVersion=before) as watch:
        assert await watch.seen(4) == [("ADDED", "a"), *later]
    async with api.watch(resourceVersion=first["metadata"]["resourceVersion"]) as watch:
        assert await watch.seen(3) == later


async def test_watch_from_the_future_is_silent(api: ApiClient) -> None:
    """A watch from a version that was never reached gives nothing older than it."""
    async with api.watch(resourceVersion=2**40, timeoutSeconds=1) as watch:
        await api.create_pod("a")
        assert await watch.rest() == []


async def test_label_selector(api: ApiClient) -> None:
    """An object that stops matching is deleted for this watch, one that starts is added."""
    async with api.watch(resourceVersion=await api.version(), labelSelector="app=x") as watch:
        await api.create_pod("a", app="x")
        await api.create_pod("b", app="y")
        left = await api.patch(f"{PODS}/a", {"metadata": {"labels": {"app": "y"}}})
        await api.patch(f"{PODS}/b", {"metadata": {"labels": {"app": "x"}}})
        await api.patch(f"{PODS}/b/status", {"status": {"phase": "Running"}})
        await api.delete_pod("a")
        await api.delete_pod("b")
        events = [await watch.next() for _ in range(6)]
    assert [summary(event) for event in events] == [
        ("ADDED", "a"),
        ("DELETED", "a"),
        ("ADDED", "b"),
        ("MODIFIED", "b"),
        ("MODIFIED", "b"),
        ("DELETED", "b"),
    ]
    gone = events[1]["object"]["metadata"]
    assert gone["labels"] == {"app": "x"}, "the content is that of the last match"
    assert gone["resourceVersion"] == left["metadata"]["resourceVersion"]


async def test_field_selector(api: ApiClient) -> None:
    """A pod that leaves the selected phase is deleted for this watch."""
    selector = "status.phase=Running"
    async with api.watch(resourceVersion=await api.version(), fieldSelector=selector) as watch:
        await api.create_pod("a")
        await api.patch(f"{PODS}/a/status", {"status": {"phase": "Running"}})
        await api.patch(f"{PODS}/a/status", {"status": {"phase": "Succeeded"}})
        assert await watch.seen(2) == [("ADDED", "a"), ("DELETED", "a")]


async def test_namespace_and_name(api: ApiClient) -> None:
    """A watch sees its namespace and, with a field selector, one object."""
    version = await api.version()
    async with (
        api.watch(
            "/api/v1/namespaces/default/pods", resourceVersion=version, timeoutSeconds=1
        ) as w,
        api.watch(
            "/api/v1/pods", resourceVersion=version, fieldSelector="metadata.name=b"
        ) as named,
    ):
        await api.create_pod("a")
        await api.create_pod("b")
        assert await named.seen(1) == [("ADDED", "b")]
        assert await w.rest() == []


async def test_timeout_ends_the_watch(api: ApiClient) -> None:
    """`timeoutSeconds` ends a watch cleanly, with all events before the end."""
    await api.create_pod("a")
    async with api.watch(resourceVersion=0, timeoutSeconds=1) as watch:
        assert [summary(event) for event in await watch.rest()] == [("ADDED", "a")]


async def test_watch_list(api: ApiClient) -> None:
    """The streaming list: the state, a bookmark that marks its end, then the changes."""
    for name in ("a", "b"):
        await api.create_pod(name)
    async with api.watch(
        sendInitialEvents="true",
        resourceVersionMatch="NotOlderThan",
        resourceVersion="",
        allowWatchBookmarks="true",
    ) as watch:
        assert sorted(await watch.seen(2)) == [("ADDED", "a"), ("ADDED", "b")]
        end = await watch.next()
        assert end["type"] == "BOOKMARK"
        metadata = end["object"]["metadata"]
        assert metadata["annotations"] == {INITIAL_EVENTS_END: "true"}
        await api.create_pod("c")
        assert await watch.seen(1) == [("ADDED", "c")]
    async with api.watch(resourceVersion=metadata["resourceVersion"]) as resumed:
        assert await resumed.seen(1) == [("ADDED", "c")]


async def test_watch_list_of_nothing(api: ApiClient) -> None:
    """The end of an empty streaming list is marked too."""
    async with api.watch(
        sendInitialEvents="true",
        resourceVersionMatch="NotOlderThan",
        allowWatchBookmarks="true",
        labelSelector="absent",
    ) as watch:
        end = await watch.next()
    assert (end["type"], end["object"]["kind"]) == ("BOOKMARK", "Pod")
    assert end["object"]["metadata"]["annotations"] == {INITIAL_EVENTS_END: "true"}


async def test_no_initial_events(api: ApiClient) -> None:
    """`sendInitialEvents=false` begins with the next change."""
    await api.create_pod("a")
    async with api.watch(
        sendInitialEvents="false", resourceVersionMatch="NotOlderThan", timeoutSeconds=1
    ) as watch:
        await api.create_pod("b")
        events = await watch.rest()
    assert [summary(event) for event in events if event["type"] != "BOOKMARK"] == [("ADDED", "b")]


@pytest.mark.parametrize(
    "params",
    [
        {"sendInitialEvents": "true"},
        {"sendInitialEvents": "true", "resourceVersionMatch": "Exact", "resourceVersion": "1"},
        {"resourceVersionMatch": "NotOlderThan", "resourceVersion": "1"},
    ],
)
async def test_bad_parameters(api: ApiClient, params: dict[str, str]) -> None:
    """Parameters of the streaming list that do not go together are refused."""
    reply = await api.list(watch="1", **params)
    assert (reply.code, reply.reason) == (422, "Invalid")


async def test_tables(api: ApiClient) -> None:
    """A watch of tables has one row per event, and the columns in the first one alone."""
    async with api.watch(resourceVersion=await api.version(), accept=TABLE) as watch:
        await api.create_pod("a")
        await api.patch(f"{PODS}/a/status", {"status": {"phase": "Running"}})
        first, second = [await watch.next() for _ in range(2)]
    assert (first["type"], second["type"]) == ("ADDED", "MODIFIED")
    assert first["object"]["columnDefinitions"][0]["name"] == "Name"
    assert not second["object"]["columnDefinitions"]
    assert second["object"]["rows"][0]["cells"][2] == "Running"
