"""Implementations of `Queue`, one per module; `osmo_transport.factory` chooses by URL."""
