"""Helm and promtool, where this machine has them, and what the chart renders."""

import functools
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "chart"
EXAMPLES = sorted(path.stem for path in (DEPLOY / "examples").glob("*.yaml"))
"""The names of the value sets."""

KUBERNETES = "1.30"
"""The release that Helm renders for, where it knows no cluster."""
RELEASE, NAMESPACE = "pipeline", "osmo"

HELM_MISSING = "no helm: set OSMO_TEST_HELM to a path of it"
PROMTOOL_MISSING = "no promtool: set OSMO_TEST_PROMTOOL to a path of it"

Object = dict[str, Any]


def helm() -> str | None:
    """The program, or None where there is none."""
    return shutil.which(os.environ.get("OSMO_TEST_HELM") or "helm")


def promtool() -> str | None:
    """The program, or None where there is none."""
    return shutil.which(os.environ.get("OSMO_TEST_PROMTOOL") or "promtool")


def run_helm(command: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command of Helm's, or skip the test."""
    program = helm()
    if program is None:
        pytest.skip(HELM_MISSING)
    line = [program, command, *arguments, "--kube-version", KUBERNETES]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def template(
    example: str, changes: Mapping[str, object] | None = None
) -> "subprocess.CompletedProcess[str]":
    """What Helm says of an example, with changes by their path, such as `worker.replicas`."""
    given = [
        f"{path}={msgspec.json.encode(value).decode()}" for path, value in (changes or {}).items()
    ]
    return run_helm(
        "template",
        *(RELEASE, str(CHART), "--namespace", NAMESPACE),
        *("--values", str(DEPLOY / "examples" / f"{example}.yaml")),
        *(part for each in given for part in ("--set-json", each)),
    )


def rendered(example: str, changes: Mapping[str, object] | None = None) -> list[Object]:
    """The objects that the chart makes of an example."""
    done = template(example, changes)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


@functools.cache
def objects(example: str) -> tuple[Object, ...]:
    """The objects of an example as it is, for reading."""
    return tuple(rendered(example))


def of_kind(all_objects: "list[Object] | tuple[Object, ...]", kind: str) -> dict[str, Object]:
    """Those of a kind, by name."""
    return {each["metadata"]["name"]: each for each in all_objects if each["kind"] == kind}


def component(each: Object) -> str:
    """Of which program it is."""
    return str(each["metadata"]["labels"]["app.kubernetes.io/component"])
