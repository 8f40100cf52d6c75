"""Implementations of the transport contract, one per module; the factory chooses by URL."""
