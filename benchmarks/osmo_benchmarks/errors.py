"""What can go wrong in a run of the benchmarks."""


class BenchmarkError(Exception):
    """Root of this package's errors; the text says what to do."""


class RunFileError(BenchmarkError):
    """The file of a run cannot be written or read."""


class PlanError(BenchmarkError):
    """There is no such table or system, or this machine cannot run it."""


class ProgramError(BenchmarkError):
    """A program under measurement did not start, ended or went silent; the text has the tail of its
    log."""


class WrongResultError(BenchmarkError):
    """A run ended, but messages are missing or the final state is not the cluster's."""


class FailedRunError(BenchmarkError):
    """A run was interrupted, or what it measured is wrong; its results are saved all the same."""
