"""The loop around a source: what is asked for after each error, and how long it waits."""

import itertools
from collections.abc import AsyncGenerator, Sequence

import pytest

from osmo_listener.errors import (
    ForbiddenError,
    KubernetesError,
    MalformedError,
    NotFoundError,
    ServerFailedError,
    StatusError,
    ThrottledError,
    TruncatedError,
    UnauthorizedError,
    UnreachableError,
)
from osmo_listener.informer import Event, Informer, Page
from osmo_listener.informer.reflector import RELISTS
from osmo_listener.informer.store import ChangeType
from osmo_listener.listeners.objects import Pod
from osmo_listener.testing import FakeSource
from tests.helpers import eventually
from tests.listener.harness import NO_RESYNC, Recorder, Time, make_pod, running


@pytest.fixture
def source() -> FakeSource[Pod]:
    """A cluster with three pods, on two pages."""
    source: FakeSource[Pod] = FakeSource()
    for name in ("a", "b", "c"):
        source.add(make_pod(name))
    return source


@pytest.fixture
def time() -> Time:
    """A clock that does not wait."""
    return Time()


async def watches_reach(source: FakeSource[Pod], count: int) -> None:
    """Wait until so many watches were asked for."""
    await eventually(lambda: len(source.watched_from) >= count)


async def test_watch_resumes_where_it_broke(source: FakeSource[Pod], time: Time) -> None:
    """After a broken connection the watch goes on from the last version, without a list."""
    async with running(source, NO_RESYNC, time) as (informer, recorder):
        await informer.synced()
        source.modify(make_pod("a", "Running"))
        await eventually(lambda: recorder.told("a")[-1][1] == "Running")
        before = source.version
        source.reset_watch()
        await eventually(lambda: source.watched_from[-1] == before)
        source.modify(make_pod("a", "Succeeded"))
        await eventually(lambda: recorder.told("a")[-1][1] == "Succeeded")
        assert source.lists == 1


async def test_change_during_the_break_is_not_lost(source: FakeSource[Pod], time: Time) -> None:
    """What changes while the connection is down is shown by the next watch."""
    async with running(source, NO_RESYNC, time) as (informer, recorder):
        await informer.synced()
        source.reset_watch()
        source.modify(make_pod("a", "Running"))
        source.delete(make_pod("b"))
        await eventually(lambda: "b" not in recorder.pods)
        assert recorder.told("a")[-1] == (ChangeType.MODIFIED, "Running")
        assert source.lists == 1


async def test_expired_watch_lists_again_and_finds_missed_deletes(
    source: FakeSource[Pod], time: Time
) -> None:
    """410 leads to one list, which tells what changed, appeared and vanished, and nothing else."""
    async with running(source, NO_RESYNC, time) as (informer, recorder):
        await informer.synced()
        source.delete(make_pod("b"))
        source.modify(make_pod("c", "Running"))
        source.add(make_pod("d"))
        source.expire()
        told = len(recorder.changes)
        await eventually(lambda: len(recorder.syncs) == 2)
        news = [(change.type, change.resource_version) for change in recorder.changes[told:]]
        assert news == [
            (ChangeType.MODIFIED, 105),
            (ChangeType.ADDED, 106),
            (ChangeType.VANISHED, source.version),
        ]
        assert (source.lists, recorder.syncs[-1]) == (2, (source.version, 3))


async def test_expiry_while_disconnected(source: FakeSource[Pod], time: Time) -> None:
    """A watch that resumes from a version which is gone leads to a list."""
    async with running(source, NO_RESYNC, time) as (informer, recorder):
        await informer.synced()
        source.fail(UnreachableError("refused"), 3)
        source.reset_watch()
        source.delete(make_pod("a"))
        source.expire()
        await eventually(lambda: len(recorder.syncs) == 2)
        assert recorder.told("a")[-1][0] is ChangeType.VANISHED


async def test_expired_second_page_starts_the_list_over(
    source: FakeSource[Pod], time: Time
) -> None:
    """410 in the middle of a list begins it anew; nobody is told that half a list is all."""
    source.expire_lists(3)
    async with running(source, NO_RESYNC, time) as (informer, recorder):
        await informer.synced()
        assert source.lists == 4
        assert recorder.syncs == [(source.version, 3)]
        assert [change.type for change in recorder.changes] == [ChangeType.ADDED] * 3


async def test_half_a_list_deletes_nothing(source: FakeSource[Pod], time: Time) -> None:
    """A list that breaks after its first page makes no object vanish."""
    async with running(source, NO_RESYNC, time) as (informer, recorder):
        await informer.synced()
        source.expire_lists(2)
        source.expire()
        await eventually(lambda: len(recorder.syncs) == 2)
        assert {change.type for change in recorder.changes} == {ChangeType.ADDED}


async def test_changes_during_a_list_are_caught_up(source: FakeSource[Pod], time: Time) -> None:
    """What changes between the pages of a list is told by the watch that follows it."""
    source.hold_lists()
    async with running(source, NO_RESYNC, time) as (informer, recorder):
        await eventually(lambda: recorder.told("a"))
        source.modify(make_pod("a", "Running"))
        source.delete(make_pod("c"))
        source.add(make_pod("d"))
        source.release_lists()
        await eventually(lambda: recorder.pods.keys() == {"a", "b", "d"})
        assert recorder.pods["a"].status.phase == "Running"
        assert recorder.told("c") == [
            (ChangeType.ADDED, "Pending"),
            (ChangeType.DELETED, "Pending"),
        ]
        assert informer.status().lists == 1


async def test_list_broken_by_changes_under_it(source: FakeSource[Pod], time: Time) -> None:
    """A list that expires while objects change is begun anew and ends with what is true then."""
    source.hold_lists()
    source.expire_lists()
    async with running(source, NO_RESYNC, time) as (informer, recorder):
        await eventually(lambda: recorder.told("a"))
        source.delete(make_pod("a"))
        source.modify(make_pod("b", "Running"))
        source.release_lists()
        await informer.synced()
        assert recorder.told("a")[-1] == (ChangeType.VANISHED, "Pending")
        assert recorder.told("b")[-1] == (ChangeType.MODIFIED, "Running")
        assert recorder.syncs == [(source.version, 2)]


async def test_endless_expiry_does_not_spin(source: FakeSource[Pod], time: Time) -> None:
    """When every watch ends with 410, lists come slower and slower, to one in half a minute."""
    async with running(source, NO_RESYNC, time):
        await eventually(lambda: source.watched_from)
        for watches in range(2, 12):
            source.expire()
            await watches_reach(source, watches)
    assert time.slept[:10] == [0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 15.0, 15.0, 15.0, 15.0]
    assert source.lists == 11


async def test_silent_watch_is_asked_again(source: FakeSource[Pod], time: Time) -> None:
    """A watch that shows nothing for too long is replaced by one from the same version."""
    async with running(source, NO_RESYNC, time) as (informer, recorder):
        await informer.synced()
        source.hang()
        source.modify(make_pod("a", "Running"))
        await eventually(lambda: recorder.told("a")[-1][1] == "Running")
        assert source.lists == 1
        assert source.watched_from == [source.version - 1] * 2


async def test_bookmark_moves_the_position(source: FakeSource[Pod], time: Time) -> None:
    """A watch resumes from the last bookmark, so that an idle one does not expire."""
    async with running(source, NO_RESYNC, time) as (informer, _):
        await informer.synced()
        source.version += 50
        source.bookmark()
        source.reset_watch()
        await eventually(lambda: len(source.watched_from) == 2)
        assert source.watched_from[-1] == source.version


@pytest.mark.parametrize(
    "error",
    [
        ThrottledError("slow down", code=429),
        UnreachableError("refused"),
        TruncatedError("broken"),
        ServerFailedError("oh", code=500),
        ForbiddenError("no", code=403),
        NotFoundError("no", code=404),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_trouble_costs_no_list(
    source: FakeSource[Pod], time: Time, error: KubernetesError
) -> None:
    """Once synced, these errors only delay the next watch, which resumes from the same version; the
    delays rise to their bound."""
    async with running(source, NO_RESYNC, time) as (informer, recorder):
        await informer.synced()
        version = source.version
        source.fail(error, 9)
        source.reset_watch()
        await eventually(lambda: len(source.watched_from) == 11)
        assert set(source.watched_from) == {version}
        assert source.lists == 1
        rising = [0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 15.0, 15.0, 15.0, 15.0]
        same = isinstance(error, TruncatedError)  # as the one that has ended the first watch
        assert time.slept == (rising if same else [0.4, *rising[:9]])
        assert informer.status().failures[type(error).__name__] >= 9
        assert informer.status().last_failure == str(error)
        assert len(recorder.syncs) == 1


async def test_retry_after_is_kept_and_bounded(source: FakeSource[Pod], time: Time) -> None:
    """What the server asks for is waited on top of the own delay, up to the bound."""
    async with running(source, NO_RESYNC, time) as (informer, _):
        await informer.synced()
        source.fail(ThrottledError("slow down", code=429, retry_after=7.0))
        source.fail(ThrottledError("slow down", code=429, retry_after=7000.0))
        source.reset_watch()
        await eventually(lambda: len(source.watched_from) == 4)
        assert time.slept == [0.4, 0.4 + 7.0, 0.8 + 60.0]


async def syncs_reach(recorder: Recorder, count: int) -> None:
    """Wait until so many lists were complete."""
    await eventually(lambda: len(recorder.syncs) >= count)


class Unwatchable(FakeSource[Pod]):
    """It answers lists alone."""

    def __init__(self, error: KubernetesError, time: Time) -> None:
        super().__init__()
        self._error = error
        self._time = time
        self.listed_at: list[float] = []

    async def list(self) -> AsyncGenerator[Page[Pod], None]:
        self.listed_at.append(self._time.now)
        async for page in super().list():
            yield page

    async def watch(self, version: int) -> AsyncGenerator[Sequence[Event[Pod]], None]:
        self.watched_from.append(version)
        raise self._error
        yield []


@pytest.mark.parametrize(
    "error",
    [
        ForbiddenError("may list and not watch", code=403),
        ThrottledError("storage is (re)initializing", code=429, retry_after=1.0),
        UnauthorizedError("another server does not know the token", code=401),
        TruncatedError("a proxy cuts streams"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_watch_that_never_comes_about_is_replaced_by_lists(
    time: Time, error: KubernetesError
) -> None:
    """About once a minute, while something happens in the cluster: nobody is blind for ever, and
    a server that wants to be spared is."""
    source = Unwatchable(error, time)
    source.add(make_pod("a"))
    async with running(source, NO_RESYNC, time) as (informer, recorder):
        await informer.synced()
        for phase in ("Running", "Succeeded", "Failed"):
            source.modify(make_pod("a", phase))
            await syncs_reach(recorder, source.lists + 1)
            assert recorder.told("a")[-1][1] == phase
        waited = [later - earlier for earlier, later in itertools.pairwise(source.listed_at)]
        assert all(60 <= each <= 60 + 15 + 1 for each in waited[:1]), waited
        tries = len(source.watched_from)
        await watches_reach(source, tries + 20)
        assert source.lists == 4, "nothing has happened since"


async def test_each_kind_of_error_has_its_own_delays(source: FakeSource[Pod], time: Time) -> None:
    """That a server was away for long delays neither what it asks for when it is back, nor the list
    that follows."""
    async with running(source, NO_RESYNC, time) as (informer, recorder):
        await informer.synced()
        source.fail(UnreachableError("refused"), 5)
        source.fail(ThrottledError("storage is (re)initializing", code=429, retry_after=1.0))
        source.reset_watch()
        await eventually(lambda: len(time.slept) == 7)
        source.delete(make_pod("b"))
        source.expire()
        await eventually(lambda: len(recorder.pods) == 2)
        assert time.slept == [0.4, *(0.4, 0.8, 1.6, 3.2, 6.4), 0.4 + 1.0, 0.4]


async def test_delays_begin_anew_after_a_healthy_watch_only(
    source: FakeSource[Pod], time: Time
) -> None:
    """A watch that was answered but broke at once does not reset the delays; a minute does."""
    async with running(source, NO_RESYNC, time) as (informer, _):
        await informer.synced()
        for _ in range(3):
            source.reset_watch()
            await watches_reach(source, len(source.watched_from) + 1)
        assert time.slept == [0.4, 0.8, 1.6]
        time.now += 60
        source.reset_watch()
        await eventually(lambda: len(time.slept) == 4)
        assert time.slept[-1] == 0.4


async def test_watch_ended_by_the_server_is_no_error(source: FakeSource[Pod], time: Time) -> None:
    """The usual end of a watch leads to the next one without a delay."""
    async with running(source, NO_RESYNC, time) as (informer, _):
        await informer.synced()
        time.now += 300
        source.end_watch()
        await eventually(lambda: len(source.watched_from) == 2)
        assert time.slept == []
        assert informer.status().failures == {}


async def test_watches_ended_at_once_do_not_spin(source: FakeSource[Pod], time: Time) -> None:
    """A server that ends every watch at once is asked less and less often."""
    async with running(source, NO_RESYNC, time) as (informer, _):
        await informer.synced()
        for _ in range(4):
            source.end_watch()
            await watches_reach(source, len(source.watched_from) + 1)
        assert time.slept == [0.4, 0.8, 1.6, 3.2]


async def test_refused_credentials_are_read_again(source: FakeSource[Pod], time: Time) -> None:
    """401 in mid-run makes the source drop its credentials before the next try."""
    async with running(source, NO_RESYNC, time) as (informer, _):
        await informer.synced()
        source.fail(UnauthorizedError("expired", code=401), 2)
        source.reset_watch()
        await eventually(lambda: len(source.watched_from) == 4)
        assert source.forgotten == 2
        assert source.lists == 1


@pytest.mark.parametrize(
    "error",
    [
        UnauthorizedError("no", code=401),
        ForbiddenError("no", code=403),
        NotFoundError("no", code=404),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_hopeless_start_is_raised(
    source: FakeSource[Pod], time: Time, error: KubernetesError
) -> None:
    """What no retry mends ends the informer at once, with the error itself, while nothing has been
    listed yet."""
    source.fail(error)
    informer = Informer(source, Recorder(), NO_RESYNC, clock=time.clock, sleep=time.sleep)
    with pytest.raises(type(error)) as raised:
        await informer.run()
    assert raised.value is error
    assert time.slept == []


async def test_start_waits_for_the_server(source: FakeSource[Pod], time: Time) -> None:
    """A server that is not there yet is asked again until it is."""
    source.fail(UnreachableError("refused"), 20)
    async with running(source, NO_RESYNC, time) as (informer, recorder):
        await informer.synced()
        assert source.lists == 21
        assert len(recorder.pods) == 3


async def test_restore_from_a_backup_is_noticed_when_the_connection_breaks(
    source: FakeSource[Pod], time: Time
) -> None:
    """The source is asked where it stands, and that is behind us: the owner hears that versions
    went back, and then of every object again."""
    async with running(source, NO_RESYNC, time) as (informer, recorder):
        await informer.synced()
        source.restore([make_pod("a", version=51), make_pod("b", "Running", version=50)], 60)
        source.add(make_pod("d"))
        await eventually(lambda: len(recorder.syncs) == 2)
        assert recorder.calls == ["changed", "synced", "changed", "regressed", "changed", "synced"]
        assert recorder.pods.keys() == {"a", "b", "d"}
        assert recorder.told("c")[-1][0] is ChangeType.VANISHED
        for name in recorder.pods:
            assert recorder.told(name)[-1][0] is ChangeType.RESYNC
        assert recorder.syncs[-1] == (61, 3)
        source.modify(make_pod("d", "Running"))
        await eventually(lambda: recorder.told("d")[-1] == (ChangeType.MODIFIED, "Running"))


async def test_a_restored_cluster_counts_the_same_versions_again(
    source: FakeSource[Pod], time: Time
) -> None:
    """What has another content under a version that was seen before is told."""
    async with running(source, NO_RESYNC, time) as (informer, recorder):
        await informer.synced()
        known = recorder.pods["a"]
        source.restore([], int(known.metadata.resource_version) - 1)
        again = source.add(make_pod("a", "Running"))
        assert again.metadata == known.metadata
        await eventually(lambda: len(recorder.syncs) == 2)
        assert (ChangeType.MODIFIED, "Running") in recorder.told("a")
        assert [item.status.phase for item in informer.store.values()] == ["Running"]


async def test_restore_from_a_backup_is_noticed_by_a_bookmark(
    source: FakeSource[Pod], time: Time
) -> None:
    """Where the source cannot be asked, or was not: a bookmark is older than what we have seen."""
    async with running(source, NO_RESYNC, time) as (informer, recorder):
        await informer.synced()
        await eventually(lambda: source.watched_from)
        source.version = source._oldest = 60
        source.bookmark()
        await eventually(lambda: len(recorder.syncs) >= 2)
        assert informer.status().failures["RegressedError"] == 1


@pytest.mark.parametrize("ahead", [0, 1])
async def test_silence_where_bookmarks_are_due_is_listed_over(
    source: FakeSource[Pod], time: Time, ahead: int
) -> None:
    """Unless the source stands where we do: then nothing can have been missed."""
    async with running(source, NO_RESYNC, time) as (informer, recorder):
        await informer.synced()
        await eventually(lambda: source.watched_from)
        source.bookmark()
        await eventually(lambda: not source._orders)
        source.version += ahead
        source.hang()
        await eventually(lambda: len(source.watched_from) == 2)
        assert informer.status().failures["SilentError"] == 1
        assert len(recorder.syncs) == 1 + ahead


async def test_silence_where_there_are_no_bookmarks_is_none(
    source: FakeSource[Pod], time: Time, caplog: pytest.LogCaptureFixture
) -> None:
    """As of events, which an API server does not cache: nobody is told, nothing is counted."""
    async with running(source, NO_RESYNC, time) as (informer, recorder):
        await informer.synced()
        source.version += 1  # of other resources
        source.hang()
        await eventually(lambda: len(source.watched_from) == 2)
        assert not informer.status().failures
        assert (time.slept, len(recorder.syncs), caplog.records) == ([], 1, [])


@pytest.mark.parametrize("ends", ["silent", "in time"])
async def test_quiet_without_bookmarks_is_listed_over_at_last(
    source: FakeSource[Pod], time: Time, ends: str
) -> None:
    """Once in ten minutes, and only while the server moves on: it may show nothing of ours from
    where we stand, however regularly its watches end."""
    async with running(source, NO_RESYNC, time) as (informer, recorder):
        await informer.synced()
        source.version += 1  # of what no watch shows
        for watches in range(2, 10):
            assert len(recorder.syncs) == 1
            time.now += 80
            if ends == "silent":
                source.hang()
            else:
                source.end_watch()
            await eventually(lambda: len(source.watched_from) == watches)  # noqa: B023
        assert len(recorder.syncs) == 2
        assert (time.slept, informer.status().failures) == ([], {})
        for watches in range(10, 20):
            time.now += 80
            source.end_watch()
            await eventually(lambda: len(source.watched_from) == watches)  # noqa: B023
        assert len(recorder.syncs) == 2


@pytest.mark.parametrize(
    "error",
    [
        ServerFailedError("etcdserver: mvcc: required revision has been compacted", code=500),
        StatusError("resource version is not known here", code=400),
        None,
    ],
    ids=["500", "400", "ended at once"],
)
@pytest.mark.parametrize("ahead", [0, 1])
async def test_a_position_that_gives_nothing_ends_in_a_list(
    source: FakeSource[Pod], time: Time, error: KubernetesError | None, ahead: int
) -> None:
    """After some tries, whatever the server says, if it stands elsewhere."""
    async with running(source, NO_RESYNC, time) as (informer, recorder):
        await informer.synced()
        version = source.version
        source.version += ahead
        for tries in range(2, 12):
            if error is None:
                source.end_watch()
            else:
                source.fail(error)
                source.end_watch()
            await eventually(lambda: len(source.watched_from) >= tries)  # noqa: B023
            if len(recorder.syncs) == 2:
                break
        assert len(recorder.syncs) == 1 + ahead
        assert source.watched_from[1] == version


async def test_a_restored_server_that_comes_up_late_is_asked_again(
    source: FakeSource[Pod], time: Time
) -> None:
    """Between a question that fails and the next watch, which it takes from any position."""
    async with running(source, NO_RESYNC, time) as (informer, recorder):
        await informer.synced()
        watches = len(source.watched_from)
        source.leave_unanswered(UnreachableError("refused"), 2)
        source.version -= 50
        source._oldest = 0  # it takes every position
        source.reset_watch()
        await eventually(lambda: len(recorder.syncs) == 2)
        assert source.watched_from[watches:] == [source.version]


async def test_a_server_that_never_says_where_it_stands_is_watched(
    source: FakeSource[Pod], time: Time
) -> None:
    """Some proxies let no other requests through than those that they know."""
    async with running(source, NO_RESYNC, time) as (informer, _):
        await informer.synced()
        source.leave_unanswered(StatusError("no such thing", code=404), 100)
        source.reset_watch()
        await eventually(lambda: len(source.watched_from) == 2)
        assert source.positions == 3


async def test_malformed_events_lead_to_a_list(source: FakeSource[Pod], time: Time) -> None:
    """What cannot be read is not skipped: the list that follows shows what it was about."""
    async with running(source, NO_RESYNC, time) as (informer, recorder):
        await informer.synced()
        source.fail(MalformedError("no event"))
        source.modify(make_pod("a", "Running"))
        source.reset_watch()
        await eventually(lambda: len(recorder.syncs) == 2)
        assert recorder.pods["a"].status.phase == "Running"
        assert informer.status().failures["MalformedError"] == 1


@pytest.mark.parametrize("reason", RELISTS)
async def test_every_list_over_is_counted_with_its_reason(
    source: FakeSource[Pod], time: Time, reason: str
) -> None:
    """And nothing else is: the first list is none of them."""

    def lose() -> None:
        if reason == "expired":
            source.expire()
        elif reason == "unreadable":
            source._order(MalformedError("no JSON"))
        elif reason == "restored":
            source.restore([], 50)
        else:
            source.version += 1
            source.hang()

    async with running(source, NO_RESYNC, time) as (informer, recorder):
        await informer.synced()
        await eventually(lambda: source.watched_from)
        source.bookmark()
        await eventually(lambda: not source._orders)
        assert not any(informer.status().relists.values())
        lose()
        await eventually(lambda: len(recorder.syncs) == 2)
        counts = dict.fromkeys(RELISTS, 0)
        assert informer.status().relists == {**counts, reason: 1}
