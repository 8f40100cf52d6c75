"""The study's Python design, as programs that the benchmarks run beside this project's."""
