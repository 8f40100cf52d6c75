"""A custom resource for tests, with a struct of one's own."""

import contextlib
import time
from typing import Any

import msgspec

from osmo_listener.informer import ObjectMeta
from osmo_listener.kubernetes.config import resource_path
from osmo_simulator.api_server import ApiError, RealCluster

DEFINITIONS = resource_path("apiextensions.k8s.io/v1/customresourcedefinitions")
WIDGETS = "shop.example/v1/widgets"
PATH = resource_path(WIDGETS, "default")
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.shop.example"},
    "spec": {
        "group": "shop.example",
        "scope": "Namespaced",
        "names": {"kind": "Widget", "plural": "widgets", "singular": "widget"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}


class Size(msgspec.Struct, frozen=True):
    width: int = 0


class Widget(msgspec.Struct):
    metadata: ObjectMeta
    spec: Size = Size()


def define(cluster: RealCluster) -> None:
    """Let the cluster have widgets; an API server serves them some moments later."""
    cluster.request("POST", DEFINITIONS, DEFINITION)
    served = False
    while not served:
        time.sleep(0.02)
        with contextlib.suppress(ApiError):
            served = bool(cluster.request("GET", PATH))


def widget(name: str, width: int, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "shop.example/v1",
        "kind": "Widget",
        "metadata": {"name": name, "labels": labels},
        "spec": {"width": width, "colours": ["red", "green"]},
    }
