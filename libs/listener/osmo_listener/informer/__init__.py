"""Keeps what a program knows of one resource equal to the cluster, and tells it of every change.

`watch` is the short way. `Informer` with a `Handler` of your own tells as soon as the first page of
a list is there; `Fanout` shares one informer among several handlers; a `Source` may be anything
that lists and watches (over HTTP it is `osmo_listener.kubernetes.listwatch.ListWatch`).
"""

from osmo_listener.informer.fanout import Branch, Fanout
from osmo_listener.informer.informer import Handler, Informer, InformerConfig, InformerStatus
from osmo_listener.informer.objects import ObjectMeta, Unstructured
from osmo_listener.informer.reflector import Reflector, ReflectorConfig
from osmo_listener.informer.source import (
    Event,
    EventType,
    KubernetesObject,
    Metadata,
    Page,
    Source,
    object_key,
)
from osmo_listener.informer.store import Change, ChangeType, Store
from osmo_listener.informer.watching import Objects, follow, watch

__all__ = (
    "Branch",
    "Change",
    "ChangeType",
    "Event",
    "EventType",
    "Fanout",
    "Handler",
    "Informer",
    "InformerConfig",
    "InformerStatus",
    "KubernetesObject",
    "Metadata",
    "ObjectMeta",
    "Objects",
    "Page",
    "Reflector",
    "ReflectorConfig",
    "Source",
    "Store",
    "Unstructured",
    "follow",
    "object_key",
    "watch",
)
