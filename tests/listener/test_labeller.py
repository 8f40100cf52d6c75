"""The labels of nodes: written where they differ, once at a time for a node, never dropped."""

import asyncio
import logging

import pytest

from osmo_listener.kubernetes.connecting import Endpoint
from osmo_listener.kubernetes.credentials import Credentials, Issued
from tests.helpers import eventually
from tests.listener.labels import LABEL, Delays, Patches, at_work, patching, settled
from tests.listener.wire import refusal
from tests.listener_rules.nodes import make_node

CONFLICT = refusal(409, "Conflict")
THROTTLED = refusal(429, "TooManyRequests", headers="Retry-After: 7\r\n")
OVERLOADED = refusal(429, "TooManyRequests", headers="Retry-After: 3600\r\n")
FAILED = refusal(500, "InternalError")
FORBIDDEN = refusal(403, "Forbidden", 'nodes "a" is forbidden')
NOT_FOUND = refusal(404, "NotFound")
UNAUTHORIZED = refusal(401, "Unauthorized")


async def test_a_label_that_differs_is_written() -> None:
    """Both values, and where there is no label yet; what shows its verdict is left alone."""
    patches = Patches()
    async with patching(patches) as labeller:
        labeller.on_verdict(make_node("a"), True)
        labeller.on_verdict(make_node("b", labels={LABEL: "True"}), False)
        labeller.on_verdict(make_node("c", labels={LABEL: "True"}), True)
        labeller.on_verdict(make_node("d", labels={LABEL: "False"}), False)
        labeller.on_verdict(make_node("e", labels={LABEL: "yes"}), True)
        await settled(labeller)
    assert sorted(patches.got) == [("a", "True"), ("b", "False"), ("e", "True")]
    assert labeller.written == 3


async def test_many_changes_are_one_patch() -> None:
    """The newest wanted value counts, and one that the node shows already needs no patch."""
    patches = Patches()
    patches.answering.clear()
    async with patching(patches, concurrency=1) as labeller:
        labeller.on_verdict(make_node("busy"), True)
        await eventually(lambda: patches.open)
        for flip in range(100):
            labeller.on_verdict(make_node("a"), flip % 2 == 0)
            labeller.on_verdict(make_node("b", labels={LABEL: "True"}), flip % 2 == 1)
        assert labeller.pending == 2
        patches.answering.set()
        await settled(labeller)
    assert patches.got == [("busy", "True"), ("a", "False")]


async def test_a_change_while_it_is_written() -> None:
    """What the node showed says nothing about what it will show: the newest value is written
    behind; the one that is on its way is not repeated."""
    patches = Patches()
    patches.answering.clear()
    a, b = make_node("a", labels={LABEL: "True"}), make_node("b", labels={LABEL: "True"})
    async with patching(patches) as labeller:
        labeller.on_verdict(a, False)
        labeller.on_verdict(b, False)
        await eventually(lambda: len(patches.open) == 2)
        labeller.on_verdict(a, True)
        labeller.on_verdict(b, True)
        labeller.on_verdict(b, False)
        labeller.on_verdict(make_node("c"), True)
        await eventually(lambda: len(patches.open) == 3)
        assert sorted(patches.open) == ["a", "b", "c"]
        patches.answering.set()
        await settled(labeller)
    assert sorted(patches.got[:2]) == [("a", "False"), ("b", "False")]
    assert patches.got[2:] == [("c", "True"), ("a", "True")]


async def test_what_waits_when_another_process_decides_is_not_written() -> None:
    """Nor is what it is told from then on; what it is told when it decides again is."""
    patches = Patches()
    patches.answering.clear()
    decides = [True]
    async with patching(patches, concurrency=1, decides=lambda: decides[0]) as labeller:
        labeller.on_verdict(make_node("busy"), True)
        labeller.on_verdict(make_node("waits"), True)
        await eventually(lambda: patches.open)
        decides[0] = False
        labeller.on_verdict(make_node("late"), True)
        patches.answering.set()
        await settled(labeller)
        decides[0] = True
        labeller.on_verdict(make_node("waits"), False)
        await settled(labeller)
    assert patches.got == [("busy", "True"), ("waits", "False")]


async def test_so_many_at_once() -> None:
    """Not more patches than `concurrency` are on their way, and as many as that."""
    patches = Patches()
    patches.answering.clear()
    async with patching(patches, concurrency=3) as labeller:
        for number in range(20):
            labeller.on_verdict(make_node(f"n{number}"), True)
        await eventually(lambda: len(patches.open) == 3)
        assert labeller.pending == 20
        patches.answering.set()
        await settled(labeller)
    assert len(patches.got) == 20


@pytest.mark.parametrize(
    ("answers", "delays"),
    [
        ([CONFLICT, CONFLICT], [0.5, 1.0]),
        ([FAILED] * 8, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]),
        ([THROTTLED, THROTTLED], [7.5, 8.0]),
        ([OVERLOADED], [60.5]),
        ([FORBIDDEN, FORBIDDEN], [60.5, 61.0]),
        ([refusal(422, "Invalid"), refusal(400, "BadRequest")], [0.5, 1.0]),
    ],
    ids=["409", "500", "429", "429 for ever", "403", "other"],
)
async def test_an_error_is_waited_out(answers: list[bytes], delays: list[float]) -> None:
    """The delays have full jitter under a cap that doubles, on top of what the server asks for;
    none of it drops a label."""
    patches, slept = Patches(), Delays()
    patches.answers["a"] = list(answers)
    async with patching(patches, delays=slept, draw=lambda: 1.0) as labeller:
        labeller.on_verdict(make_node("a"), True)
        await settled(labeller)
        assert slept.seconds == delays
        assert patches.got == [("a", "True")] * (len(answers) + 1)
        assert labeller.written == 1
        assert labeller.failures.total() == len(answers)


async def test_a_label_that_was_written_ends_the_trouble() -> None:
    """The next error is waited out from the shortest delay on; jitter takes its part of it."""
    patches, slept = Patches(), Delays()
    patches.answers = {"a": [FAILED, FAILED], "b": [FAILED]}
    async with patching(patches, concurrency=1, delays=slept) as labeller:
        labeller.on_verdict(make_node("a"), True)
        await settled(labeller)
        labeller.on_verdict(make_node("b"), True)
        await settled(labeller)
    assert slept.seconds == [0.25, 0.5, 0.25]


async def test_one_node_holds_up_no_other() -> None:
    """A label that cannot be written goes behind those that wait."""
    patches = Patches()
    patches.answers["bad"] = [CONFLICT] * 3
    async with patching(patches, concurrency=1) as labeller:
        for name in ("bad", "a", "b", "c"):
            labeller.on_verdict(make_node(name), True)
        await settled(labeller)
    nodes = [node for node, _ in patches.got]
    assert nodes == ["bad", "a", "b", "c", "bad", "bad", "bad"]


async def test_a_newer_verdict_replaces_one_that_failed() -> None:
    """What waits for its next try is not tried when something else is wanted by then."""
    patches, slept = Patches(), Delays()
    patches.answers["a"] = [FAILED]
    slept.passing.clear()
    async with patching(patches, delays=slept) as labeller:
        labeller.on_verdict(make_node("a"), True)
        await eventually(lambda: slept.seconds)
        labeller.on_verdict(make_node("a"), False)
        slept.passing.set()
        await settled(labeller)
    assert patches.got == [("a", "True"), ("a", "False")]


async def test_a_node_that_is_not_found_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    """404: the node is gone, which the listener may not know yet; no error, and no further try."""
    patches, slept = Patches(), Delays()
    patches.answers["a"] = [NOT_FOUND]
    async with patching(patches, delays=slept) as labeller:
        labeller.on_verdict(make_node("a"), True)
        await settled(labeller)
        assert (labeller.written, labeller.failures.total()) == (0, 0)
    assert patches.got == [("a", "True")]
    assert slept.seconds == []
    assert caplog.records == []


async def test_a_node_that_is_gone_is_forgotten() -> None:
    """Whether its label waits, or is waiting for its next try."""
    patches, slept = Patches(), Delays()
    patches.answers["a"] = [FAILED]
    slept.passing.clear()
    async with patching(patches, concurrency=1, delays=slept) as labeller:
        labeller.on_verdict(make_node("a"), True)
        labeller.on_verdict(make_node("b"), True)
        await eventually(lambda: slept.seconds)
        labeller.on_gone("a")
        labeller.on_gone("b")
        labeller.on_gone("unknown")
        assert labeller.pending == 0
        slept.passing.set()
        labeller.on_verdict(make_node("c"), True)
        await settled(labeller)
    assert patches.got == [("a", "True"), ("c", "True")]


async def test_a_missing_permission_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """One error names the permission, and none follows until it was there and is gone again."""
    patches = Patches()
    patches.answers = {"a": [FORBIDDEN] * 5, "b": [FORBIDDEN] * 5, "c": [FORBIDDEN]}
    async with patching(patches, concurrency=2) as labeller:
        labeller.on_verdict(make_node("a"), True)
        labeller.on_verdict(make_node("b"), True)
        await settled(labeller)
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert record.getMessage() == (
            'nodes are not labelled: the permission "patch nodes" is missing: nodes "a" is'
            " forbidden; grant this user patch on them"
        )
        labeller.on_verdict(make_node("c"), True)
        await settled(labeller)
        assert len(caplog.records) == 2


async def test_refused_credentials_are_dropped() -> None:
    """401: the plugin is asked for others."""
    patches = Patches()
    patches.answers["a"] = [UNAUTHORIZED]
    tokens = iter(["Bearer old", "Bearer new"])
    credentials = Credentials(
        endpoint=Endpoint(host="", port=0),
        secure=False,
        plugin=lambda: Issued(authorization=next(tokens)),
    )
    async with patching(patches, credentials=credentials) as labeller:
        labeller.on_verdict(make_node("a"), True)
        await settled(labeller)
    assert patches.tokens == ["Bearer old", "Bearer new"]


async def test_a_run_that_was_cancelled_loses_nothing() -> None:
    """The next run writes what was on its way and what waited."""
    patches = Patches()
    patches.answering.clear()
    async with patching(patches, concurrency=1) as labeller:
        labeller.on_verdict(make_node("a"), True)
        labeller.on_verdict(make_node("b"), False)
        await eventually(lambda: patches.open)
    assert labeller.pending == 2
    again = Patches()
    async with patching(again) as other:
        labeller._patcher = other._patcher
        async with at_work(labeller):
            await settled(labeller)
    assert sorted(again.got) == [("a", "True"), ("b", "False")]


async def test_nothing_is_written_twice_by_repeated_verdicts() -> None:
    """A resync tells every verdict again while labels are on their way."""
    patches = Patches()
    patches.answering.clear()
    async with patching(patches) as labeller:
        for _ in range(3):
            for number in range(8):
                labeller.on_verdict(make_node(f"n{number}"), True)
            await asyncio.sleep(0)
        patches.answering.set()
        await settled(labeller)
    assert len(patches.got) == len(set(patches.got)) == 8
