"""A Kubernetes API server over real HTTP, for demos, tests and benchmarks."""
