"""The commands of `osmo-pipeline` for whoever watches over a pipeline: each a configuration and a
coroutine, in a module for what it is about."""
