"""`Deadlines` against the obvious dict."""

from hypothesis import given, settings
from hypothesis import strategies as st

from osmo_listener.listeners.deadlines import Deadlines

KEYS = st.sampled_from("abcdefgh")
STEPS = st.one_of(
    st.tuples(st.just("set"), KEYS, st.integers(0, 50)),
    st.tuples(st.just("clear"), KEYS, st.just(0)),
    st.tuples(st.just("take"), st.just(""), st.integers(0, 50)),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(STEPS, max_size=60))
def test_equals_a_dict(steps: list[tuple[str, str, int]]) -> None:
    """Whatever is set, cleared and taken, the next deadline and what is due are those of a dict."""
    deadlines, model = Deadlines[str](), dict[str, float]()
    for verb, key, at in steps:
        if verb == "set":
            deadlines.set(key, at)
            model[key] = at
        elif verb == "clear":
            deadlines.set(key, None)
            model.pop(key, None)
        else:
            due = deadlines.take_due(at)
            assert [model[key] for key in due] == sorted(v for v in model.values() if v <= at)
            assert len(set(due)) == len(due)
            model = {other: v for other, v in model.items() if other not in due}
        assert deadlines.next() == min(model.values(), default=None)
        assert len(deadlines) == len(model)


def test_memory_is_bounded_by_the_keys() -> None:
    """Moving one deadline for ever does not pile up what is outdated."""
    deadlines: Deadlines[str] = Deadlines()
    for at in range(10_000):
        deadlines.set("a", float(at))
        assert len(deadlines._heap) < 100
    assert deadlines.next() == 9_999
