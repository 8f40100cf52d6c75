"""Which watches the chosen listeners need, and who is told of what each of them shows.

Each listener has a watch of its own, but for two cases: the workflow and the usage listener share
one of all pods, and the usage listener also needs the nodes, whose hostnames it reports.
"""

from collections.abc import Coroutine, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from osmo_listener.config import ListenerConfig
from osmo_listener.hostnames import Hostnames
from osmo_listener.informer import Informer
from osmo_listener.informer.fanout import Branch, Fanout
from osmo_listener.kubernetes.config import Resource
from osmo_listener.kubernetes.credentials import Credentials
from osmo_listener.kubernetes.listwatch import ListWatch
from osmo_listener.kubernetes.patching import Patcher
from osmo_listener.labeller import NodeLabeller
from osmo_listener.listeners.node import NodeListener
from osmo_listener.listeners.registry import NODE, Listener, ListenerType, Surroundings, shared_pods
from osmo_listener.listeners.reporting import ObjectListener
from osmo_listener.listeners.slimming import task_pods
from osmo_listener.listeners.usage import UsageListener
from osmo_listener.listeners.workflow import WorkflowListener
from osmo_listener.pods_current import Dated, tell_pods_current
from osmo_listener.reporter import Reporter
from osmo_listener.rules import follow_rules
from osmo_transport import Client

if TYPE_CHECKING:
    from osmo_runtime.operations.tracing import Tracer

Work = Coroutine[Any, Any, NoReturn]


def resources_of(types: Mapping[str, ListenerType[Any]], namespace: str) -> list[Resource[Any]]:
    """What these listeners have to be allowed to follow."""
    found = [each.resource(namespace) for each in types.values()]
    if "usage" in types:
        found.append(NODE.resource(namespace))
    return list({each.path: each for each in found}.values())


class Feed:
    """What one listener is told from."""

    def __init__(self) -> None:
        self.informers: list[Informer[Any]] = []
        self.branch: Branch[Any] | None = None
        """With the objects that it reports."""

    @property
    def silence(self) -> float:
        """Seconds since the API server was last heard of, by that which has heard nothing for the
        longest time."""
        return max((each.status().silence for each in self.informers), default=0.0)


class Watches:
    """The chosen listeners, and the watches that feed them.

    Args:
        config: how to report.
        types: what to report, by the listeners' names.
        credentials: the way to the API server.
        client: takes the messages.
        tracer: makes a span of each; None: nobody does.
    """

    def __init__(
        self,
        config: ListenerConfig,
        types: Mapping[str, ListenerType[Any]],
        credentials: Credentials,
        client: Client,
        tracer: "Tracer | None" = None,
    ) -> None:
        self._config = config
        self._types = types
        self._credentials = credentials
        self._client = client
        self._tracer = tracer
        self._hostnames = Hostnames(self._renamed)
        self._patcher: Patcher | None = None
        self._labeller: NodeLabeller | None = None
        if "node" in types and config.rules.node.label:
            self._patcher = Patcher(credentials, config.http)
            self._labeller = NodeLabeller(
                self._patcher,
                config.rules.node.label_prefix,
                config.labeller,
                decides=self._decides,
            )
        self.feeds = {name: Feed() for name in types}
        """By listener, what it is told from; complete when `tasks` was called."""
        self._listeners = {name: self._listener(each) for name, each in types.items()}
        self._reporters = {name: self._reporter(name) for name in types}

    def tasks(self) -> list[Work]:
        """What has to run; each ends with an error only."""
        return [*self._labelling(), *self._reporting(), *self._watching()]

    def _listener(self, kind: ListenerType[Any]) -> Listener[Any]:
        around = Surroundings(
            config=self._config.rules,
            namespace=self._config.namespace,
            hostname=self._hostnames.get,
        )
        if (labeller := self._labeller) is not None:
            around = replace(around, on_verdict=labeller.on_verdict, on_gone=labeller.on_gone)
        return kind.create(around)

    def _reporter(self, name: str) -> Reporter[Any]:
        listener = self._listeners[name]
        if isinstance(listener, WorkflowListener | NodeListener | ObjectListener):
            return Reporter(
                listener, self._client, name=name, instead=listener.refused, tracer=self._tracer
            )
        return Reporter(listener, self._client, name=name, tracer=self._tracer)

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
            pods = {"workflow": tasks, "usage": Branch(alone.pop("usage"))}
            yield from self._watch(shared_pods(namespace), pods)
        if "usage" in reporters:
            nodes: dict[str, Branch[Any]] = {"usage": Branch(self._hostnames)}
            if "node" in alone:
                nodes["node"] = Branch(alone.pop("node"))
            yield from self._watch(NODE.resource(namespace), nodes)
        for name, reporter in alone.items():
            yield from self._watch(self._types[name].resource(namespace), {name: Branch(reporter)})

    def _watch(
        self, resource: Resource[Any], branches: Mapping[str, Branch[Any]]
    ) -> Iterator[Work]:
        source = ListWatch(
            self._credentials, resource, self._config.list_watch, http=self._config.http
        )
        dated = Dated(source)
        informer: Informer[Any] = Informer(
            dated, Fanout([*branches.values()]), self._config.informer
        )
        for name, branch in branches.items():
            self.feeds[name].informers.append(informer)
            if isinstance(branch.handler, Reporter):
                self.feeds[name].branch = branch
                branch.handler.read_from(partial(branch.among, informer.store.values()))
                if name == "workflow":
                    interval = self._config.heartbeat_interval
                    yield tell_pods_current(branch.handler, dated, self._config.backend, interval)
        yield self._follow(source, informer)

    async def _follow(self, source: ListWatch[Any], informer: Informer[Any]) -> NoReturn:
        with closing(source):
            await informer.run()

    async def _label(self, patcher: Patcher, labeller: NodeLabeller) -> NoReturn:
        with closing(patcher):
            await labeller.run()

    def _decides(self) -> bool:
        # Who stands by does not know the rules; when it takes over it judges every node anew.
        return self._client.epoch > 0 and self._client.holder is None

    def _renamed(self, node: str) -> None:
        listener = self._listeners["usage"]
        if isinstance(listener, UsageListener):
            listener.node_changed(node)
