"""Which watches the chosen listeners need, and who is told of what each of them shows.

Each listener has a watch of its own, but for two cases: the workflow and the usage listener share
one of all pods, and the usage listener also needs the nodes, whose hostnames it reports.
"""

from collections.abc import Coroutine, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

from osmo_listener.config import ListenerConfig
from osmo_listener.fanout import Branch, Fanout
from osmo_listener.hostnames import Hostnames
from osmo_listener.informer import Informer
from osmo_listener.kubernetes.config import Resource
from osmo_listener.kubernetes.credentials import Credentials
from osmo_listener.kubernetes.listwatch import ListWatch
from osmo_listener.kubernetes.objects import Node
from osmo_listener.kubernetes.patching import Patcher
from osmo_listener.kubernetes.slimming import task_pods
from osmo_listener.labeller import NodeLabeller
from osmo_listener.listeners.node import NodeListener
from osmo_listener.listeners.registry import LISTENERS, Listener, Surroundings, shared_pods
from osmo_listener.listeners.usage import UsageListener
from osmo_listener.reporter import Reporter
from osmo_listener.rules import follow_rules
from osmo_transport import Client

Work = Coroutine[Any, Any, NoReturn]


class Watches:
    """The chosen listeners, and the watches that feed them.

    Args:
        config: what to report, and how.
        credentials: the way to the API server.
        client: takes the messages.
    """

    def __init__(self, config: ListenerConfig, credentials: Credentials, client: Client) -> None:
        self._config = config
        self._credentials = credentials
        self._client = client
        self._names = list(dict.fromkeys(config.listeners))
        self._hostnames = Hostnames(self._renamed)
        self._patcher: Patcher | None = None
        self._labeller: NodeLabeller | None = None
        if "node" in self._names and config.rules.node.label:
            self._patcher = Patcher(credentials, config.http)
            self._labeller = NodeLabeller(
                self._patcher, config.rules.node.label_prefix, config.labeller
            )
        self._listeners = {name: self._listener(name) for name in self._names}
        self._reporters = {
            name: Reporter(listener, client, name=name)
            for name, listener in self._listeners.items()
        }

    def tasks(self) -> list[Work]:
        """What has to run; each ends with an error only."""
        return [*self._labelling(), *self._reporting(), *self._watching()]

    def _listener(self, name: str) -> Listener[Any]:
        around = Surroundings(
            config=self._config.rules,
            namespace=self._config.namespace,
            hostname=self._hostnames.get,
        )
        if (labeller := self._labeller) is not None:
            around = replace(
                around, on_verdict=partial(self._judged, labeller), on_gone=labeller.on_gone
            )
        return LISTENERS[name].create(around)

    def _labelling(self) -> Iterator[Work]:
        if self._patcher is not None and self._labeller is not None:
            yield self._label(self._patcher, self._labeller)

    def _reporting(self) -> Iterator[Work]:
        for name, reporter in self._reporters.items():
            yield reporter.follow_epochs()
            yield reporter.keep_time()
            listener = self._listeners[name]
            if isinstance(listener, NodeListener):
                yield follow_rules(self._client, reporter, listener)

    def _watching(self) -> Iterator[Work]:
        namespace, reporters = self._config.namespace, self._reporters
        alone = dict(reporters)
        if {"workflow", "usage"} <= alone.keys():
            tasks = Branch(alone.pop("workflow"), task_pods(namespace))
            yield self._watch(shared_pods(namespace), tasks, Branch(alone.pop("usage")))
        if "usage" in reporters:
            nodes = [Branch(self._hostnames)]
            if "node" in alone:
                nodes.append(Branch(alone.pop("node")))
            yield self._watch(LISTENERS["node"].resource(namespace), *nodes)
        for name, reporter in alone.items():
            yield self._watch(LISTENERS[name].resource(namespace), Branch(reporter))

    async def _watch(self, resource: Resource[Any], *branches: Branch[Any]) -> NoReturn:
        source = ListWatch(
            self._credentials, resource, self._config.list_watch, http=self._config.http
        )
        informer: Informer[Any] = Informer(source, Fanout(branches), self._config.informer)
        for branch in branches:
            if isinstance(branch.handler, Reporter):
                branch.handler.read_from(partial(branch.among, informer.store.values()))
        with closing(source):
            await informer.run()

    async def _label(self, patcher: Patcher, labeller: NodeLabeller) -> NoReturn:
        with closing(patcher):
            await labeller.run()

    def _judged(self, labeller: NodeLabeller, node: Node, available: bool) -> None:
        # Who stands by does not know the rules; when it takes over it judges every node anew.
        if self._client.epoch and self._client.holder is None:
            labeller.on_verdict(node, available)

    def _renamed(self, node: str) -> None:
        listener = self._listeners["usage"]
        if isinstance(listener, UsageListener):
            listener.node_changed(node)
