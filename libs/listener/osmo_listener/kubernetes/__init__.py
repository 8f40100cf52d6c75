"""The Kubernetes API: credentials, HTTP, and objects straight from its bytes."""
