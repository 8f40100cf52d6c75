"""Fuzzers of everything that reads what others wrote: `python -m tests.fuzz --help`.

Each family draws its inputs from a seed, made up or mutated, and gives them to its readers. These
may take them or refuse them, with the errors that they are documented to raise; none may take long,
or fill the memory. `tests.transport.fuzz` puts hostile peers to the transports as a whole.
"""
