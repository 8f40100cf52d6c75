"""Tests of `osmo_simulator`."""
