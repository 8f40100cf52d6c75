"""Watches a Kubernetes cluster and reports what changes in it.

`kubernetes` is the client of an API server, `informer` what keeps a copy of some of its objects and
tells each change, `listeners` what makes reports of these, and `service` runs them all.
"""
