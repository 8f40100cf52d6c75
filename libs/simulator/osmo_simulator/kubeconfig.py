"""The file that tells kubectl and other clients how to reach the simulator."""

import json


def kubeconfig(url: str, token: str | None, namespace: str) -> str:
    """A kubeconfig (YAML) for one server, with `namespace` as the default one."""
    user = {"token": token} if token else {}
    # JSON is YAML, and quotes whatever the token holds.
    return f"""\
apiVersion: v1
kind: Config
current-context: simulator
clusters:
- {json.dumps({"name": "simulator", "cluster": {"server": url}})}
users:
- {json.dumps({"name": "simulator", "user": user})}
contexts:
- name: simulator
  context:
    cluster: simulator
    user: simulator
    namespace: {json.dumps(namespace)}
"""
