"""Public test tools: a simulated cluster, and a whole pipeline of it, in the process of a test.

`osmo_pipeline.testing.plugin` has them as pytest fixtures, `osmo_cluster` and `osmo_pipeline`.
"""
