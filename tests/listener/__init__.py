"""Tests of `osmo_listener` below its listeners: the API client and the informer."""
