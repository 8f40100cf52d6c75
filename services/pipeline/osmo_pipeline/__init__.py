"""The whole pipeline in one process, and the check that a store equals its cluster."""
