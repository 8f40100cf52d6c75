"""A resource of somebody's own, from a real API server to a table of his: Jobs, as the documents
show it, by nothing but a package that is installed."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from osmo_simulator.api_server import RealCluster
from tests.e2e.programs import Program, wait_until
from tests.examples import ROOT, examples

pytestmark = pytest.mark.cluster

JOBS = "/apis/batch/v1/namespaces/osmo/jobs"


def job(name: str) -> dict[str, object]:
    """A Job that nobody runs."""
    container = {"name": "main", "image": "image"}
    template = {"spec": {"containers": [container], "restartPolicy": "Never"}}
    return {"metadata": {"name": name}, "spec": {"template": template}}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package of the documents, with its entry points, where Python finds it."""
    folder = tmp_path / "packages"
    info = folder / "osmo_jobs-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "osmo_jobs.py").write_text(examples()["libs_listener_EXTENDING_0"])
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: osmo-jobs\nVersion: 1.0\n")
    text = (ROOT / "libs/listener/EXTENDING.md").read_text()
    table = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
    assert table
    entries = re.sub(r'\[project\.entry-points\."(.*)"\]', r"[\1]", table[1])
    (info / "entry_points.txt").write_text(re.sub(r'"(\S+)"\s+#.*', r"\1", entries))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("JOBS_DATABASE", str(tmp_path / "jobs.db"))


@pytest.fixture
def cluster(real_cluster: RealCluster) -> Iterator[RealCluster]:
    """Without Jobs, before and after."""
    real_cluster.clear()
    real_cluster.request("DELETE", JOBS)
    yield real_cluster
    real_cluster.request("DELETE", JOBS)


def create(cluster: RealCluster, name: str) -> None:
    cluster.request("POST", JOBS, job(name))


def set_active(cluster: RealCluster, name: str, active: int) -> None:
    patch = {"status": {"active": active}}
    kind = "application/merge-patch+json"
    cluster.request("PATCH", f"{JOBS}/{name}/status", patch, content_type=kind)


def delete(cluster: RealCluster, name: str) -> None:
    cluster.request("DELETE", f"{JOBS}/{name}?propagationPolicy=Background")


def test_jobs_reach_their_own_table(cluster: RealCluster, installed: None, tmp_path: Path) -> None:
    """What there is, what changes, what goes; and what went while nobody watched."""
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(cluster.kubeconfig())
    store = f"sqlite:///{tmp_path / 'store.db'}"

    def rows() -> dict[str, int]:
        with closing(sqlite3.connect(tmp_path / "jobs.db")) as database:
            try:
                return dict(database.execute("SELECT job, active FROM jobs"))
            except sqlite3.OperationalError:
                return {}

    program = Program(tmp_path / "log", "tests.e2e.own_kind", str(kubeconfig), store)
    create(cluster, "first")
    create(cluster, "missed")
    program.start()
    try:
        wait_until(lambda: rows() == {"osmo/first": 0, "osmo/missed": 0}, 30)
        create(cluster, "second")
        set_active(cluster, "second", 3)
        wait_until(lambda: rows().get("osmo/second") == 3, 30)
        delete(cluster, "first")
        wait_until(lambda: rows() == {"osmo/missed": 0, "osmo/second": 3}, 30)
        assert program.stop() == 0, program.log()
        delete(cluster, "missed")
        set_active(cluster, "second", 4)
        program.start()
        wait_until(lambda: rows() == {"osmo/second": 4}, 30)
    finally:
        assert program.stop() == 0, program.log()
    assert "Traceback" not in program.log()
