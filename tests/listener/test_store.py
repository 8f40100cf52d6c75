"""The store: what changes it tells, against a naive model."""

from hypothesis import given, settings
from hypothesis import strategies as st

from osmo_listener.informer.source import Event, EventType, Page
from osmo_listener.informer.store import Change, ChangeType, Store
from osmo_listener.listeners.objects import Pod
from tests.listener.harness import make_pod

ADDED, MODIFIED, DELETED, BOOKMARK = EventType

names = st.sampled_from("abcde")
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), names, st.booleans()),
        st.tuples(st.just("delete"), names, st.just(False)),
        st.tuples(st.just("relist"), st.integers(0, 5).map(str), st.booleans()),
        st.tuples(st.just("lose"), st.just(""), st.booleans()),
    ),
    max_size=60,
)


class Cluster:
    """The truth: pods by name, and the events that a watch would show."""

    def __init__(self) -> None:
        self.version = 0
        self.pods: dict[str, Pod] = {}
        self.events: list[Event[Pod]] = []

    def write(self, name: str, recreate: bool) -> None:
        old = self.pods.get(name)
        if old is not None and recreate:
            self.delete(name)
            old = None
        self.version += 1
        uid = old.metadata.uid if old else f"uid-{self.version}"
        self.pods[name] = make_pod(name, uid=uid, version=self.version)
        self.events.append(Event(MODIFIED if old else ADDED, self.version, self.pods[name]))

    def delete(self, name: str) -> None:
        old = self.pods.pop(name, None)
        if old is not None:
            self.version += 1
            last = make_pod(name, uid=old.metadata.uid, version=self.version)
            self.events.append(Event(DELETED, self.version, last))


class Reader:
    """What somebody knows who reads the changes alone."""

    def __init__(self) -> None:
        self.pods: dict[str, Pod] = {}
        self.seen: dict[str, int] = {}
        """By uid, the version of the last change."""

    def take(self, changes: list[Change[Pod]]) -> None:
        for change in changes:
            pod = change.new or change.old
            assert pod is not None
            name, uid = pod.metadata.name, pod.metadata.uid
            assert change.resource_version >= self.seen.get(uid, 0), "a version went back"
            self.seen[uid] = change.resource_version
            known = self.pods.get(name)
            if change.type is ChangeType.ADDED:
                assert known is None
                assert change.old is None
            elif change.type is ChangeType.DELETED:
                assert known is not None
                assert known.metadata.uid == uid
            else:
                assert change.old == known
                assert known is not None
            if change.new is None:
                del self.pods[name]
            else:
                self.pods[name] = change.new


@settings(max_examples=150, deadline=None)
@given(steps)
def test_changes_lead_to_the_cluster(script: list[tuple[str, str, bool]]) -> None:
    """However writes, lost events, broken lists and watches follow each other, the store and a
    reader of its changes hold what the cluster holds once they have caught up."""
    cluster, store, reader = Cluster(), Store[Pod](), Reader()
    listed_once = False
    lost = True
    for verb, name, flag in script:
        if verb == "write":
            cluster.write(name, flag)
        elif verb == "delete":
            cluster.delete(name)
        elif verb == "lose":
            lost = True
            cluster.events.clear()
        elif verb == "relist":
            store.start_list()
            pods, version = sorted(cluster.pods.values(), key=str), cluster.version
            cluster.events.clear()
            if flag and listed_once:  # broken after some of its objects
                reader.take(store.apply_page(Page(pods[: int(name)], None)))
                lost = True
                continue
            split = int(name)
            reader.take(store.apply_page(Page(pods[:split], None)))
            reader.take(store.apply_page(Page(pods[split:], None)))
            reader.take(store.finish_list(version))
            listed_once, lost = True, False
        if not lost:
            reader.take(store.apply(cluster.events))
            cluster.events.clear()
            assert reader.pods == cluster.pods
            assert {pod.metadata.name: pod for pod in store.values()} == cluster.pods


def synced_store(*pods: Pod) -> Store[Pod]:
    store: Store[Pod] = Store()
    store.start_list()
    store.apply_page(Page(pods, None))
    store.finish_list(100)
    return store


def test_same_version_changes_nothing() -> None:
    """An object that is shown again unchanged, by a list or an event, is no change."""
    pod = make_pod("a", version=5)
    store = synced_store(pod)
    store.start_list()
    assert store.apply_page(Page([pod], None)) == []
    assert store.apply([Event(ADDED, 5, pod), Event(MODIFIED, 5, pod)]) == []


def test_missed_delete_has_the_version_of_the_list() -> None:
    """What a list no longer holds has vanished, with the list's version."""
    pod = make_pod("a", version=5)
    store = synced_store(pod)
    store.start_list()
    assert store.finish_list(200) == [Change(ChangeType.VANISHED, pod, None, 200)]
    assert len(store) == 0


def test_unfinished_list_deletes_nothing() -> None:
    """Half a list never makes an object vanish, not even through the next list."""
    a, b = make_pod("a", version=5), make_pod("b", version=6)
    store = synced_store(a, b)
    store.start_list()
    store.apply_page(Page([a], None))
    store.start_list()
    store.apply_page(Page([b], None))
    assert [change.old for change in store.finish_list(200)] == [a]


def test_recreated_object_comes_after_the_end_of_the_old_one() -> None:
    """A new object under a known name first ends the old one, with a version before its own."""
    old, new = make_pod("a", uid="1", version=5), make_pod("a", uid="2", version=9)
    store = synced_store(old)
    assert store.apply([Event(ADDED, 9, new)]) == [
        Change(ChangeType.VANISHED, old, None, 8),
        Change(ChangeType.ADDED, None, new, 9),
    ]


def test_late_delete_of_the_old_object_is_ignored() -> None:
    """A delete of an object whose name is taken by a newer one changes nothing."""
    new = make_pod("a", uid="2", version=9)
    store = synced_store(new)
    assert store.apply([Event(DELETED, 10, make_pod("a", uid="1", version=10))]) == []
    assert store.get("osmo/a") == new


def test_delete_shows_the_final_state() -> None:
    """The last state of a deleted object is the one that the server sent with the delete."""
    store = synced_store(make_pod("a", "Running", version=5))
    last = make_pod("a", "Failed", version=7)
    assert store.apply([Event(DELETED, 7, last)]) == [Change(ChangeType.DELETED, last, None, 7)]
