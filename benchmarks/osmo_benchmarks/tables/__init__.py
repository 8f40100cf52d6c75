"""The tables of the study, a module each."""

from collections.abc import Callable

from osmo_benchmarks.plan import Table
from osmo_benchmarks.tables import (
    large_cluster,
    round_trip,
    scale_out,
    startup,
    sustained,
    workers,
)

TABLES: dict[str, Callable[[bool], Table]] = {
    "round-trip": round_trip.table,
    "startup": startup.table,
    "large-cluster": large_cluster.table,
    "huge-cluster": large_cluster.huge_table,
    "workers": workers.table,
    "sustained": sustained.table,
    "scale-out": scale_out.table,
}
"""By name, in the order of the report; the argument says whether the run is a quick one."""

ON_DEMAND = frozenset({"huge-cluster"})
"""Only measured when they are named: each takes many minutes."""
