"""What the chart makes, as a real API server judges it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from osmo_simulator.api_server import RealCluster, kubectl
from tests.deploy.tools import EXAMPLES, template

pytestmark = pytest.mark.cluster

CRDS = Path(__file__).parent / "crds.yaml"


class Kubectl:
    """kubectl, for one cluster."""

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig

    def run(self, *arguments: str, given: str = "") -> "subprocess.CompletedProcess[str]":
        """Its answer."""
        program = kubectl()
        assert program is not None
        command = [program, "--kubeconfig", str(self._kubeconfig), *arguments]
        return subprocess.run(command, input=given, capture_output=True, text=True, check=False)

    def judge(self, text: str) -> "subprocess.CompletedProcess[str]":
        """What the server would say if it was asked to apply this."""
        return self.run("apply", "--dry-run=server", "--validate=strict", "-f", "-", given=text)


@pytest.fixture(scope="module")
def server(
    real_cluster: RealCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kubectl]:
    """With the resources of others that the chart uses, and the namespaces of the examples."""
    kubeconfig = tmp_path_factory.mktemp("chart") / "kubeconfig"
    kubeconfig.write_text(real_cluster.kubeconfig())
    server = Kubectl(kubeconfig)
    for arguments in (
        ("apply", "-f", str(CRDS)),
        ("wait", "--for=condition=Established", "-f", str(CRDS)),
        ("create", "namespace", "workflows"),
    ):
        done = server.run(*arguments)
        assert done.returncode == 0, done.stderr
    yield server
    server.run("delete", "--wait=false", "-f", str(CRDS))
    server.run("delete", "--wait=false", "namespace", "workflows")


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_real_api_server_takes_every_object(example: str, server: Kubectl) -> None:
    """Without a word about a field that it does not know."""
    text = template(example).stdout
    done = server.judge(text)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    applied = done.stdout.count("(server dry run)")
    assert applied == text.count("\nkind: ") > 5


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        (
            "livenessProbe:",
            "livenessProb:",
            'unknown field "spec.template.spec.containers[0].livenessProb"',
        ),
        ("maxUnavailable: 0}", "maxUnavailable: none}", "a valid percent string"),
        ("minReplicaCount: 2", "minReplicaCount: two", "must be of type integer"),
        ("interval: 30s", "interval: often", "should match"),
    ],
)
def test_it_would_have_told(right: str, wrong: str, words: str, server: Kubectl) -> None:
    """The judge above sees a mistake in each kind of object."""
    text = template("full").stdout
    assert right in text
    done = server.judge(text.replace(right, wrong, 1))
    assert done.returncode != 0
    assert words in done.stderr, done.stderr
