"""Kinds of messages for tests: one of each policy, and a stream for each of four weights."""

from osmo_transport.kinds import Policy, register_kind, register_stream

FIRST, SECOND, THIRD, LAST = "testing-first", "testing-second", "testing-third", "testing-last"

WEIGHTS = {FIRST: 8, SECOND: 4, THIRD: 2, LAST: 1}
"""By stream, its share of a consumer's reads."""

STATE = "testing_state"
"""Of policy `latest`, in the stream `FIRST`."""
OTHER = "testing_other"
"""Of policy `latest`, in the stream `SECOND`."""
EVENT = "testing_event"
"""Of policy `every`, in the stream `THIRD`."""
FIGURE = "testing_figure"
"""Of policy `latest`, in the stream `LAST`."""

KIND_OF_STREAM = {FIRST: STATE, SECOND: OTHER, THIRD: EVENT, LAST: FIGURE}

for _stream, _weight in WEIGHTS.items():
    register_stream(_stream, _weight)
for _kind, _policy, _stream in (
    (STATE, Policy.LATEST, FIRST),
    (OTHER, Policy.LATEST, SECOND),
    (EVENT, Policy.EVERY, THIRD),
    (FIGURE, Policy.LATEST, LAST),
):
    register_kind(_kind, _policy, _stream)
