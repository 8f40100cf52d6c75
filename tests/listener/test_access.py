"""Which cluster and which resource, as users name them."""

from pathlib import Path

import pytest

from osmo_listener.errors import KubeconfigError
from osmo_listener.kubernetes import access
from osmo_listener.kubernetes.access import find_credentials
from osmo_listener.kubernetes.config import Resource, resource_path
from osmo_listener.listeners.objects import Pod

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: {name}
clusters: [{{name: {name}, cluster: {{server: "http://{name}.example:8080"}}}}]
users: [{{name: {name}, user: {{}}}}]
contexts: [{{name: {name}, context: {{cluster: {name}, user: {name}}}}}]
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of one's own, outside of any cluster."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setattr(access, "SERVICE_ACCOUNT", tmp_path / "none")
    return tmp_path


def test_a_file_that_is_named_comes_first(home: Path) -> None:
    """Also one in the home directory."""
    (home / "mine").write_text(KUBECONFIG.format(name="mine"))
    assert find_credentials(Path("~/mine")).endpoint.host == "mine.example"


def test_the_usual_file_comes_next(home: Path) -> None:
    """Where kubectl looks too."""
    (home / ".kube").mkdir()
    (home / ".kube/config").write_text(KUBECONFIG.format(name="usual"))
    assert find_credentials().endpoint.host == "usual.example"


def test_nothing_at_all_says_what_to_do(home: Path) -> None:
    """It names the place where it looked."""
    with pytest.raises(KubeconfigError, match=r"\.kube/config does not exist; name a kubeconfig"):
        find_credentials()


@pytest.mark.parametrize(
    ("name", "namespace", "path"),
    [
        ("v1/pods", None, "/api/v1/pods"),
        ("v1/pods", "shop", "/api/v1/namespaces/shop/pods"),
        ("batch/v1/jobs", "shop", "/apis/batch/v1/namespaces/shop/jobs"),
        ("shop.example/v1alpha1/widgets", None, "/apis/shop.example/v1alpha1/widgets"),
    ],
)
def test_where_a_resource_is_listed(name: str, namespace: str | None, path: str) -> None:
    """Core or not, in one namespace or in all."""
    assert resource_path(name, namespace) == path
    assert Resource(path=path, type=Pod).namespace == namespace


@pytest.mark.parametrize("name", ["pods", "", "a/b/c/d", "v1/", "/v1/pods", "/api/v1/pods"])
def test_what_names_no_resource_is_refused(name: str) -> None:
    """With an example of what does."""
    with pytest.raises(ValueError, match="apps/v1/deployments"):
        resource_path(name)
