"""What holds of every table."""

import pytest

from osmo_benchmarks.tables import ON_DEMAND, TABLES


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("quick", [False, True])
def test_rows_refer_to_what_is_run(name: str, *, quick: bool) -> None:
    """Experiments of the table, systems that take part in them, and heats that there are."""
    made = TABLES[name](quick)
    assert made.name == name
    experiments = {each.name: each for each in made.experiments}
    assert len(experiments) == len(made.experiments)
    assert len({row.id for row in made.rows}) == len(made.rows)
    for row in made.rows:
        heats = experiments[row.experiment].heats
        assert {row.ours, *row.limits} <= {system for heat in heats for system in heat}
        assert row.heat in ("", *("+".join(heat) for heat in heats))
        aimed = row.aim is not None or any(each is not None for each in row.limits.values())
        assert bool(row.no_target) != aimed, f"{row.id} needs a target, or a reason for none"
    assert {row.experiment for row in made.rows} == set(experiments)
    assert name in ON_DEMAND or any(each.quick for each in made.experiments)
