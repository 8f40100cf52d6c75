"""The Kubernetes API: credentials, HTTP, and the slim objects that the listeners read."""
