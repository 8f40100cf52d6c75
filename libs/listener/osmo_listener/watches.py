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
    """The tasks of the listeners that `config` names; `tasks` makes them.

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
        self._reporters: dict[str, Reporter[Any]] = {}
        self._listeners: dict[str, Listener[Any]] = {}
        self._labeller: NodeLabeller | None = None
        self._patcher: Patcher | None = None
        self._hostnames = Hostnames(self._renamed)

    def tasks(self) -> Iterator[Work]:
        """What has to run; each ends with an error only."""
        if "node" in self._names and self._config.rules.node.label:
            self._patcher = Patcher(self._credentials, self._config.http)
            self._labeller = NodeLabeller(
                self._patcher, self._config.rules.node.label_prefix, self._config.labeller
            )
            yield self._label(self._patcher, self._labeller)
        for name in self._names:
            yield from self._report(name)
        waiting = set(self._names)
        if {"workflow", "usage"} <= waiting:
            waiting -= {"workflow", "usage"}
            namespace = self._config.namespace
            tasks = Branch(self._reporters["workflow"], task_pods(namespace))
            yield self._watch(shared_pods(namespace), tasks, Branch(self._reporters["usage"]))
        if "usage" in self._names:
            waiting.discard("node")
            handlers = [Branch(self._hostnames)]
            if "node" in self._names:
                handlers.append(Branch(self._reporters["node"]))
            yield self._watch(LISTENERS["node"].resource(self._config.namespace), *handlers)
        for name in waiting:
            resource = LISTENERS[name].resource(self._config.namespace)
            yield self._watch(resource, Branch(self._reporters[name]))

    def _report(self, name: str) -> Iterator[Work]:
        labeller = self._labeller
        around = Surroundings(
            config=self._config.rules,
            namespace=self._config.namespace,
            hostname=self._hostnames.get,
        )
        if labeller is not None:
            around = replace(around, on_verdict=labeller.on_verdict, on_gone=labeller.on_gone)
        listener = LISTENERS[name].create(around)
        reporter = Reporter(listener, self._client, name=name)
        self._listeners[name], self._reporters[name] = listener, reporter
        yield reporter.follow_epochs()
        yield reporter.keep_time()
        if isinstance(listener, NodeListener):
            yield follow_rules(self._client, reporter, listener)

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

    def _renamed(self, node: str) -> None:
        listener = self._listeners["usage"]
        if isinstance(listener, UsageListener):
            listener.node_changed(node)
