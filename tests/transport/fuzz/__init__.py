"""A fuzzer of both sides of each transport: `python -m tests.transport.fuzz --help`.

It puts the promise to the test that who breaks the protocol loses his connection, is told why, and
harms nobody else, and that memory stays within the stated limits. Everything that is said is drawn
from a seed, for each connection by its number; in which order connections meet is up to chance.
"""
