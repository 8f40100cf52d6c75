"""Let anything happen to random clusters and their pipelines, and compare in the end.

The same seed makes the same choices. What fails is printed with the steps that led to it."""

import argparse
import logging
import sys
import time

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import WorldMachine

RUNS = 50
"""Runs between two lines about how far it is."""


def main() -> None:
    """Run at least so many steps, and say how far it is."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000, help="how many at least")
    parser.add_argument("--seed", type=int, default=1, help="where the choices come from")
    parser.add_argument("--run-steps", type=int, default=80, help="how many in one run at most")
    parser.add_argument("--shrink", action="store_true", help="make what fails short, in minutes")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    limits = settings(
        max_examples=RUNS,
        stateful_step_count=arguments.run_steps,
        deadline=None,
        database=None,
        phases=[Phase.generate, *([Phase.shrink] if arguments.shrink else [])],
        suppress_health_check=list(HealthCheck),
    )
    began, number = time.monotonic(), arguments.seed
    while WorldMachine.steps < arguments.steps:
        run_state_machine_as_test(seed(number)(WorldMachine), settings=limits)
        number += 1
        sys.stdout.write(
            f"seeds {arguments.seed}-{number - 1}: {WorldMachine.steps} steps in"
            f" {WorldMachine.runs} runs, {WorldMachine.virtual / 3600:.1f} hours of the model,"
            f" {time.monotonic() - began:.0f} s\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
