"""Queues: `abc` is their contract, `delivery` what goes in and comes out; `memory` and `redis` are
ours. `rules` and `fair` are what every queue decides alike.
"""
