"""What kinds of messages there are, and the streams that carry them."""

import subprocess
import sys

import pytest

from osmo_transport import (
    DEFAULT_STREAM,
    Kind,
    Policy,
    QueueConfig,
    UsageError,
    kind_of,
    register_kind,
    register_stream,
)
from osmo_transport import kinds as registry
from osmo_transport.kinds import UNKNOWN, stream_weights
from osmo_transport.testing import kinds

NAME = "kind of a test"
"""Of a kind or a stream that nobody else registers."""


@pytest.fixture(autouse=True)
def _of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is registered stays so: each test has a registry that is forgotten with it."""
    monkeypatch.setattr(registry, "_kinds", dict(registry._kinds))
    monkeypatch.setattr(registry, "_weights", dict(registry._weights))


def test_a_kind_is_what_it_was_registered_as() -> None:
    """With its policy and its stream."""
    register_stream(NAME, weight=3)
    register_kind(NAME, Policy.LATEST, NAME)
    assert kind_of(NAME) == Kind(Policy.LATEST, NAME)


def test_a_kind_that_names_no_stream_has_the_default_one() -> None:
    """Which every queue has."""
    register_kind(NAME, Policy.LATEST)
    assert kind_of(NAME) == Kind(Policy.LATEST, DEFAULT_STREAM)


def test_a_kind_that_nobody_registered_is_kept() -> None:
    """Each message of it, for somebody who knows it."""
    assert kind_of(NAME) == UNKNOWN == Kind(Policy.EVERY, DEFAULT_STREAM)


def test_the_same_again_is_allowed() -> None:
    """A module may be loaded twice, and two may need the same stream."""
    for _ in range(2):
        register_stream(NAME, weight=2)
        register_kind(NAME, Policy.EVERY, NAME)
    assert kind_of(NAME) == Kind(Policy.EVERY, NAME)
    assert stream_weights()[NAME] == 2


@pytest.mark.parametrize(
    ("policy", "stream"), [(Policy.EVERY, kinds.FIRST), (Policy.LATEST, DEFAULT_STREAM)]
)
def test_a_kind_is_not_registered_as_two(policy: Policy, stream: str) -> None:
    """Half of a program would coalesce what the other half must keep; the first one stays."""
    register_kind(NAME, Policy.LATEST, kinds.FIRST)
    with pytest.raises(UsageError, match=f"{NAME}.*already.*{kinds.FIRST}"):
        register_kind(NAME, policy, stream)
    assert kind_of(NAME) == Kind(Policy.LATEST, kinds.FIRST)


def test_a_kind_of_no_stream_is_refused() -> None:
    """Its messages would go where nobody reads; the kind stays unknown."""
    with pytest.raises(UsageError, match=f"{NAME}.*'nowhere', which is not registered"):
        register_kind(NAME, Policy.LATEST, "nowhere")
    assert kind_of(NAME) is UNKNOWN


@pytest.mark.parametrize("weight", [0, -1])
def test_a_stream_has_a_share(weight: int) -> None:
    """One without any would never be read."""
    with pytest.raises(UsageError, match="at least 1"):
        register_stream(NAME, weight)
    assert NAME not in stream_weights()


@pytest.mark.parametrize("stream", [kinds.FIRST, DEFAULT_STREAM])
def test_a_stream_has_one_share(stream: str) -> None:
    """The first one that was given, the default stream's included."""
    weight = stream_weights()[stream]
    with pytest.raises(UsageError, match=f"already, with weight {weight}"):
        register_stream(stream, weight + 1)
    register_stream(stream, weight)
    assert stream_weights()[stream] == weight


def test_a_queue_has_the_streams_of_its_time() -> None:
    """Those that are registered when it is configured; what is changed in it changes nothing
    elsewhere."""
    before = QueueConfig()
    register_stream(NAME, weight=5)
    after = QueueConfig()
    assert NAME not in before.weights
    assert after.weights == {**before.weights, NAME: 5}
    weights = stream_weights()
    weights[NAME] = 9
    assert stream_weights()[NAME] == 5


def test_the_kinds_for_tests_are_of_both_policies_and_of_every_weight() -> None:
    """Each stream of theirs carries the kind that is said of it."""
    assert {kind_of(kind).policy for kind in kinds.KIND_OF_STREAM.values()} == set(Policy)
    for stream, kind in kinds.KIND_OF_STREAM.items():
        assert kind_of(kind).stream == stream
        assert stream_weights()[stream] == kinds.WEIGHTS[stream]
    assert len(set(kinds.WEIGHTS.values())) == 4


def test_this_library_has_no_kinds_of_its_own() -> None:
    """What is reported is the matter of its users, and of the tools for tests."""
    said = subprocess.run(
        [
            sys.executable,
            "-c",
            "import osmo_transport, osmo_transport.kinds as kinds;"
            "print(kinds._kinds, kinds.stream_weights())",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert said.stdout == f"{{}} {{'{DEFAULT_STREAM}': 1}}\n"
