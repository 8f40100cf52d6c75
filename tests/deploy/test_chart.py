"""The chart, as Helm renders it: what its pods run, what they may do, and what it refuses."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

import osmo_listener.__main__
import osmo_operator.__main__
import osmo_worker.__main__
from osmo_deployed.layout import OsmoLayout
from osmo_operator.door import check_door
from osmo_operator.rules_file import RulesFile
from osmo_pipeline.web.config import WebConfig
from osmo_pipeline.web.server import SHUTDOWN_TIMEOUT
from osmo_reports import open_directory
from osmo_reports.kinds import WEIGHTS
from osmo_runtime import __version__, settings
from osmo_transport import QueueConfig
from osmo_transport.queues.redis.layout import OwnLayout
from tests.deploy.pods import pods
from tests.deploy.tools import (
    CHART,
    EXAMPLES,
    NAMESPACE,
    RELEASE,
    Object,
    component,
    objects,
    of_kind,
    rendered,
    run_helm,
    template,
)
from tests.listener.test_permissions import RBAC
from tests.test_layout import ROOT

PROGRAMS: dict[str, type[Any]] = {
    "osmo-operator": osmo_operator.__main__.Settings,
    "osmo-worker": osmo_worker.__main__.Settings,
    "osmo-listener": osmo_listener.__main__.Settings,
    "osmo-pipeline web": WebConfig,
}
SECRETS = {
    ("osmo-queue", "url"): "redis://:secret@redis:6379",
    ("osmo-store", "url"): "postgresql://osmo:secret@postgres/osmo",
}
EVERYWHERE = dict.fromkeys(("operator", "worker", "listener", "web"), "0.0.0.0")

example = pytest.mark.parametrize("example", EXAMPLES)


def pod_specs(name: str) -> Iterator[tuple[Object, Object]]:
    """Each pod of an example, with its only container."""
    for deployment in of_kind(objects(name), "Deployment").values():
        spec = deployment["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        yield spec, container


def configurations(name: str, folder: Path) -> dict[str, Any]:
    """What each program of an example makes of what it is given, by component."""
    found = {}
    for pod in pods(objects(name), folder, SECRETS, EVERYWHERE).values():
        config = PROGRAMS[pod.program]
        loaded = settings.load(pod.program, config, pod.arguments, pod.environment)
        assert not loaded.warnings
        found[pod.component] = loaded.config
    return found


@example
def test_helm_finds_nothing_to_mend(example: str) -> None:
    """Neither in the chart nor in what it makes of the values."""
    values = CHART.parent / "examples" / f"{example}.yaml"
    done = run_helm("lint", "--strict", str(CHART), "--values", str(values))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_chart_has_the_version_of_its_programs() -> None:
    """A chart without a tag runs the image of its own release."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__


@example
def test_programs_take_their_configuration(example: str, tmp_path: Path) -> None:
    """Each reads its file and its environment without a complaint, and shows itself where the
    probes ask."""
    found = configurations(example, tmp_path)
    assert found
    for name, config in found.items():
        if name == "web":
            assert config.listen == "0.0.0.0:8090"
            assert (config.queue, config.store) == (found["worker"].queue, found["worker"].store)
            assert config.layout == found["worker"].layout
        else:
            assert config.operations == "0.0.0.0:9464"
    if "operator" in found and "listener" in found:
        schemes = {url.partition(":")[0] for url in found["operator"].listen}
        assert found["listener"].connect.partition(":")[0] in schemes
    if "operator" in found and "worker" in found:
        queues = {re.sub("//[^@/]*@", "//", found[name].queue) for name in ("operator", "worker")}
        assert len(queues) == 1, "but for the user"
        assert found["operator"].layout == found["worker"].layout


def test_settings_arrive(tmp_path: Path) -> None:
    """Numbers that count stay whole, others keep their fraction, and secrets come as they are."""
    found = configurations("full", tmp_path)
    operator, worker = found["operator"], found["worker"]
    assert (operator.server.max_connections, operator.server.lease) == (4000, 12.5)
    assert operator.limits.max_entries == worker.limits.max_entries == 2_000_000
    assert (operator.queue, worker.store) == tuple(SECRETS.values())
    web = found["web"]
    assert (web.max_entries, web.allow_replay) == (2_000_000, True)
    found = configurations("standby", tmp_path)
    assert found["listener"].rules.node.label is True
    assert found["listener"].rules.node.label_prefix == "osmo.example/"


@example
def test_an_operator_lets_no_stranger_in_unless_that_is_chosen(
    example: str, tmp_path: Path
) -> None:
    """Each example has made its choice, with which its operator starts."""
    if "operator" in (found := configurations(example, tmp_path)):
        check_door(found["operator"])


def test_the_chart_asks_who_may_report() -> None:
    """It makes nothing that would let in everybody without a word."""
    done = template("minimal", {"operator.insecure": False})
    assert done.returncode != 0
    assert "say with operator.auth who may report" in done.stderr


@pytest.mark.parametrize("page", ["README.md", "docs/kubernetes.md"])
def test_what_a_page_says_installs(page: str) -> None:
    """The command as it stands there is one that the chart takes."""
    text = (ROOT / page).read_text().replace("\\\n", "")
    (command,) = re.findall(r"^helm install (.*)$", text, re.MULTILINE)
    name, chart, *options = shlex.split(command)
    done = run_helm("template", name, str(ROOT / chart), *options)
    assert done.returncode == 0, done.stderr


def test_a_listener_gets_its_token(tmp_path: Path) -> None:
    """From the Secret, as a file that follows it."""
    client = configurations("standby", tmp_path)["listener"].client
    assert client.token.file == Path("/etc/osmo/token/token")
    (spec, container), *_ = pod_specs("standby")
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["token"] == "/etc/osmo/token"
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert volumes["token"]["secret"]["secretName"] == "osmo-listener-token"


def test_a_listener_may_be_known_by_its_service_account(tmp_path: Path) -> None:
    """The kubelet makes the token for the audience alone; of a second one it is told."""
    other = {"listener.token.secret": "", "listener.token.audience": "osmo"}
    made = rendered("standby", other)
    pod = pods(made, tmp_path, SECRETS, EVERYWHERE)["listener"]
    config = settings.load(pod.program, PROGRAMS[pod.program], pod.arguments, {}).config
    assert config.client.token.file == Path("/etc/osmo/token/token")
    (deployment,) = of_kind(made, "Deployment").values()
    spec = deployment["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    mounts = {each["name"]: each["mountPath"] for each in spec["containers"][0]["volumeMounts"]}
    (source,) = volumes["identity"]["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == "osmo"
    assert mounts["identity"] == "/etc/osmo/token"
    done = template("standby", {"listener.token.audience": "osmo"})
    assert done.returncode != 0
    assert "a listener has one token" in done.stderr


@pytest.mark.parametrize(
    ("entry", "reviews"),
    [
        ("kubernetes?audience=osmo", True),
        ("kubernetes?audience=osmo&kubeconfig=/etc/osmo/auth/config", False),
        ("token?file=/etc/osmo/auth/kubernetes", False),
    ],
)
def test_who_asks_the_api_server_whose_a_token_is_may_do_so(entry: str, reviews: bool) -> None:
    """And nobody else has an account for it, or a way to the API server."""
    made = rendered("minimal", {"operator.auth": [entry], "networkPolicy.enabled": True})
    spec = of_kind(made, "Deployment")[f"{RELEASE}-operator"]["spec"]["template"]["spec"]
    roles = [
        (each["roleRef"]["name"], each["subjects"])
        for each in of_kind(made, "ClusterRoleBinding").values()
    ]
    subject = {"kind": "ServiceAccount", "name": f"{RELEASE}-operator", "namespace": NAMESPACE}
    assert (("system:auth-delegator", [subject]) in roles) is reviews
    assert (subject["name"] in of_kind(made, "ServiceAccount")) is reviews
    assert spec.get("serviceAccountName") == (subject["name"] if reviews else None)
    assert spec["automountServiceAccountToken"] is reviews
    policy = of_kind(made, "NetworkPolicy")[f"{RELEASE}-operator"]
    ports = {each["port"] for each in policy["spec"]["egress"][0]["ports"]}
    assert ({443, 6443} <= ports) is reviews


async def test_rules_arrive(tmp_path: Path) -> None:
    """As a file that the operators can use, by any text; without rules it declares none."""
    path = configurations("full", tmp_path)["operator"].rules_file
    assert path == tmp_path / "operator" / "rules.json"
    rules = {"Ready": "True", "^Gpu.*Problem$": "False|Unknown", '"<&\\ ü {{ f }}': "\\w+"}
    for given, expected in (({"a": {"Ready": "x"}, "b": rules},) * 2, ({}, {})):
        data = of_kind(rendered("minimal", {"operator.rules": given}), "ConfigMap")
        (text,) = (each["data"]["rules.json"] for each in data.values() if len(each["data"]) == 2)
        path.write_text(text)
        async with await open_directory("memory://") as directory:
            told = await RulesFile(path).declare(directory, {})
        assert {name: known.rules for name, known in told.items()} == expected


def test_any_text_can_be_a_setting(tmp_path: Path) -> None:
    """What is special in YAML, JSON, TOML or HTML arrives as it was."""
    text = "a <b> & \"c\" 'd' \\ # = [e] \n\t ü \u2028 {{ f }}"
    made = rendered("standby", {"listener.config.source": text, "listener.config.context": ""})
    pod = pods(made, tmp_path, SECRETS, EVERYWHERE)["listener"]
    config = PROGRAMS[pod.program]
    assert settings.load(pod.program, config, pod.arguments, {}).config.source == text


@example
def test_a_stop_has_its_time(example: str, tmp_path: Path) -> None:
    """No program is killed while it drains, by default or as configured."""
    made = pods(objects(example), tmp_path, SECRETS, EVERYWHERE)
    for name, config in configurations(example, tmp_path).items():
        match name:
            case "listener":
                drain = config.client.drain_timeout
            case "web":
                drain = SHUTDOWN_TIMEOUT
            case _:
                drain = config.drain_timeout
        assert drain + 20 <= made[name].grace <= drain + 25


@example
def test_pods_may_do_no_more_than_they_need(example: str) -> None:
    """Not root, no writable root, no capabilities, no variables of Services; a token of the API
    server for the listener alone."""
    for spec, container in pod_specs(example):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 1001
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert spec["enableServiceLinks"] is False
        listens = container["name"] == "listener"
        assert spec["automountServiceAccountToken"] is listens
        assert set(container["resources"]) == {"requests", "limits"}
        assert spec["topologySpreadConstraints"]
        assert "command" not in container, "it would take the place of the image's process 1"


@example
def test_probes_ask_at_the_operations_port(example: str) -> None:
    """Whether it lives decides about restarts, whether it is ready about traffic alone. The page
    has no such port: it is asked for itself."""
    for _, container in pod_specs(example):
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        if container["name"] == "web":
            assert ports == {"web": 8090}
            for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
                assert container[probe]["httpGet"] == {"path": "/", "port": "web"}
            continue
        assert ports["operations"] == 9464
        asked = {
            probe: container[probe]["httpGet"]
            for probe in ("livenessProbe", "readinessProbe", "startupProbe")
        }
        assert asked == {
            "livenessProbe": {"path": "/livez", "port": "operations"},
            "readinessProbe": {"path": "/readyz", "port": "operations"},
            "startupProbe": {"path": "/livez", "port": "operations"},
        }


@example
def test_certificates_follow_their_secret(example: str) -> None:
    """Secrets are mounted as whole folders, and hold every file that a program is told of."""
    for spec, container in pod_specs(example):
        assert all("subPath" not in mount for mount in container["volumeMounts"])
        volumes = {volume["name"] for volume in spec["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_files_of_certificates_are_mounted(tmp_path: Path) -> None:
    """What a program's configuration or URLs name is in a folder of its pod."""
    configs = configurations("tls", tmp_path)
    found = 0
    for _, container in pod_specs("tls"):
        told = msgspec.json.encode(configs[container["name"]], enc_hook=str).decode()
        files = set(re.findall(r"/etc/osmo/[^\"&]+", told))
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {str(Path(each).parent) for each in files} <= mounted
        found += len(files)
    assert found == 5 + 4 + 3, "of the operator, a worker and a listener"


def test_each_program_gets_its_own_password(tmp_path: Path) -> None:
    """By the name of its user, where it has one, as a file that follows its Secret."""
    configs = configurations("tls", tmp_path)
    found = {}
    for spec, container in pod_specs("tls"):
        for volume in spec["volumes"]:
            if volume["name"].endswith("-password"):
                secret = volume["secret"]
                (item,) = secret["items"]
                assert item["path"] == "password"
                found[container["name"], volume["name"]] = secret["secretName"], item["key"]
    assert found == {
        ("operator", "queue-password"): ("redis-passwords", "osmo-operator"),
        ("worker", "queue-password"): ("redis-passwords", "osmo-worker"),
        ("worker", "store-password"): ("postgres-password", "password"),
    }
    assert configs["operator"].queue.startswith("rediss://osmo-operator@redis:6380/2?")
    assert configs["worker"].queue.startswith("rediss://osmo-worker@redis:6380/2?")
    assert configs["worker"].store_password_file == Path("/etc/osmo/store-password/password")


def test_a_secret_is_in_no_object() -> None:
    """URLs with passwords are referred to, in no ConfigMap and no command line."""
    for _, container in pod_specs("full"):
        for variable in container["env"]:
            if variable["name"] in {"OSMO_QUEUE", "OSMO_STORE"}:
                assert set(variable) == {"name", "valueFrom"}
    assert "Secret" not in {each["kind"] for each in objects("full")}


def rights(made: "list[Object] | tuple[Object, ...]") -> set[tuple[str, str, str, str]]:
    """What roles grant: scope, resource, a name of one or nothing, verb."""
    return {
        (role["kind"], resource, name, verb)
        for role in made
        if role["kind"] in {"Role", "ClusterRole"}
        for rule in role["rules"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    }


def test_the_listener_has_the_rights_that_it_needs() -> None:
    """Those of `rbac.yaml`, which a real API server was asked about, and no others."""
    needed = rights(list(yaml.safe_load_all(RBAC.read_text())))
    label = {("ClusterRole", "nodes", "", "patch")}
    assert rights(objects("minimal")) == needed - label
    assert rights(rendered("minimal", {"listener.labelNodes": True})) == needed


@pytest.mark.parametrize(
    ("listeners", "granted"),
    [
        (["workflow"], {("Role", "pods")}),
        (["event"], {("Role", "events")}),
        (["node"], {("ClusterRole", "nodes")}),
        (["usage"], {("ClusterRole", "nodes"), ("ClusterRole", "pods")}),
    ],
)
def test_who_reports_less_has_fewer_rights(
    listeners: list[str], granted: set[tuple[str, str]]
) -> None:
    """Each listener has those of its own resources alone."""
    found = {
        (scope, what)
        for scope, what, *_ in rights(
            rendered("standby", {"listener.listeners": listeners, "listener.labelNodes": False})
        )
    }
    assert found == {*granted, ("ClusterRole", "namespaces")}


@pytest.mark.parametrize("name", ["full", "tls", "osmo-layout"])
def test_workers_scale_with_every_stream(name: str, tmp_path: Path) -> None:
    """Each stream of the queue is looked at, by the key that the queue gives it; one worker is
    always there, and nobody else says how many there are."""
    layout = configurations(name, tmp_path)["worker"].layout
    make = {"own": OwnLayout, "osmo": OsmoLayout}[layout]
    (scaled,) = of_kind(objects(name), "ScaledObject").values()
    triggers = [trigger["metadata"] for trigger in scaled["spec"]["triggers"]]
    keys = set(make("osmo", QueueConfig(weights={"default": 1, **WEIGHTS})).keys.streams.values())
    assert {trigger["stream"] for trigger in triggers} == keys
    assert all(int(trigger["streamLength"]) > 0 for trigger in triggers)
    assert scaled["spec"]["minReplicaCount"] >= 1
    target = of_kind(objects(name), "Deployment")[scaled["spec"]["scaleTargetRef"]["name"]]
    assert "replicas" not in target["spec"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://redis", {"address": "redis:6379"}),
        (
            "rediss://redis:6380/3",
            {"address": "redis:6380", "databaseIndex": "3", "enableTLS": "true"},
        ),
        ("valkey://[fd00::1]:7000?namespace=other", {"address": "[fd00::1]:7000"}),
    ],
)
def test_the_scaler_finds_the_queue_by_its_url(url: str, expected: dict[str, str]) -> None:
    """The address, the database and TLS follow from it, and so does the namespace of the keys."""
    made = rendered("minimal", {"queue.url": url, "worker.autoscaling.enabled": True})
    (scaled,) = of_kind(made, "ScaledObject").values()
    namespace = "other" if "other" in url else "osmo"
    for trigger in scaled["spec"]["triggers"]:
        metadata = trigger["metadata"]
        assert metadata.pop("stream").startswith(f"{{{namespace}}}:stream:")
        assert metadata.pop("streamLength") == "20000"
        assert metadata == expected


def test_the_scaler_is_told_the_namespace_that_a_secret_hides() -> None:
    """Else it would look at keys that are never there, and never scale."""
    made = rendered(
        "minimal",
        {
            "queue.url": "",
            "queue.urlSecret.name": "queue",
            "queue.namespace": "other",
            "worker.autoscaling.enabled": True,
            "worker.autoscaling.trigger.metadata.address": "redis:6379",
        },
    )
    (scaled,) = of_kind(made, "ScaledObject").values()
    for trigger in scaled["spec"]["triggers"]:
        assert trigger["metadata"]["stream"].startswith("{other}:stream:")


@pytest.mark.parametrize(
    ("path", "url", "program", "ports"),
    [
        ("queue.url", "redis://redis:7000", "web", {7000, 5432}),
        ("store.url", "postgresql://osmo@db:6543/osmo", "web", {6379, 6543}),
        ("queue.url", "redis://redis", "operator", {6379}),
        (
            "queue.url",
            "redis://a:7000,b:7001,[fd00::1]:7002/0?cluster=true",
            "operator",
            {7000, 7001, 7002},
        ),
        ("store.url", "postgresql://osmo@db:6543/osmo", "worker", {6379, 6543}),
        ("store.url", "postgresql:///osmo?host=db1&host=db2", "worker", {6379, 5432}),
        ("listener.connect", "wss://operator.example", "listener", {443, 6443}),
        ("listener.connect", "grpc://operator.example:8002", "listener", {443, 6443, 8002}),
    ],
)
def test_who_is_named_can_be_reached(path: str, url: str, program: str, ports: set[int]) -> None:
    """The network policy of each program lets it go to the ports of its URLs, and to a resolver."""
    policies = of_kind(rendered("minimal", {path: url, "web.enabled": True}), "NetworkPolicy")
    (policy,) = (each for each in policies.values() if component(each) == program)
    (rule,) = policy["spec"]["egress"]
    assert {each["port"] for each in rule["ports"]} == {53, *ports}


def test_pods_are_reached_where_they_listen() -> None:
    """A policy, a Service, a budget and a monitor select the pods that they are for, by ports that
    these have."""
    made = objects("full")
    pods_of = {
        component(each): each["spec"]["template"] for each in of_kind(made, "Deployment").values()
    }
    labels = {name: pod["metadata"]["labels"].items() for name, pod in pods_of.items()}

    def selected(selector: dict[str, str]) -> set[str]:
        return {name for name, found in labels.items() if selector.items() <= found}

    for kind in ("NetworkPolicy", "PodDisruptionBudget"):
        for each in of_kind(made, kind).values():
            selector = each["spec"].get("selector") or each["spec"]["podSelector"]
            assert selected(selector["matchLabels"]) == {component(each)}
    (monitor,) = of_kind(made, "PodMonitor").values()
    ports_of = {
        name: {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
        for name, pod in pods_of.items()
    }
    watched = selected(monitor["spec"]["selector"]["matchLabels"])
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    told = {name for name in watched if endpoint["port"] in ports_of[name]}
    assert told == {"operator", "worker"}
    services = {component(each): each for each in of_kind(made, "Service").values()}
    assert services.keys() == {"operator", "web"}
    for name, service in services.items():
        assert selected(service["spec"]["selector"]) == {name}
        targets = {each["targetPort"] for each in service["spec"]["ports"]}
        assert targets == ports_of[name] - {"operations"}
    for policy in of_kind(made, "NetworkPolicy").values():
        named = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
        assert named == ports_of[component(policy)]


def test_the_page_answers_to_its_names(tmp_path: Path) -> None:
    """Those of its Service, and those that the ingress gives it."""
    (service,) = (each for each in of_kind(objects("full"), "Service") if each.endswith("-web"))
    assert configurations("full", tmp_path)["web"].hosts == (
        *(service, f"{service}.{NAMESPACE}", f"{service}.{NAMESPACE}.svc"),
        "osmo.example",
    )


def test_a_change_of_the_configuration_is_rolled_out() -> None:
    """Pods carry the sum of their configuration, and only theirs changes."""

    def sums(made: "list[Object] | tuple[Object, ...]") -> dict[str, str]:
        return {
            name: each["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
            for name, each in of_kind(made, "Deployment").items()
        }

    before = sums(objects("minimal"))
    after = sums(rendered("minimal", {"worker.config.read_limit": 500}))
    changed = {name for name, found in before.items() if after[name] != found}
    assert changed == {"pipeline-worker"}


def test_alerts_are_of_the_programs_that_run() -> None:
    """Where there is no listener, none is missed."""
    (rule,) = of_kind(objects("full"), "PrometheusRule").values()
    assert {group["name"] for group in rule["spec"]["groups"]} == {"osmo-operator", "osmo-worker"}


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("operator.replicas", "two", "'/operator/replicas': got string, want integer"),
        ("operator.ports.ws", 70_000, "'/operator/ports/ws': maximum: got 70,000, want 65,535"),
        ("worker.autoscaling.minReplicas", 0, "'/worker/autoscaling/minReplicas': minimum: got 0"),
        ("worker.env", {"A": "b"}, "'/worker/env': got object, want array"),
        ("listener.listeners", "node", "'/listener/listeners': got string, want array"),
        ("listener.labelNodes", "yes", "'/listener/labelNodes': got string, want boolean"),
        ("listener.connect", "http://x", "'/listener/connect': 'http://x' does not match"),
        ("listener.backends", "a", "'/listener': additional properties 'backends' not allowed"),
        ("web.hosts", "osmo.example", "'/web/hosts': got string, want array"),
        ("web.hosts", ["https://osmo.example"], "'/web/hosts/0': 'https://osmo.example' does not"),
        ("web.hosts", ["osmo.example:443"], "'/web/hosts/0': 'osmo.example:443' does not match"),
        ("web.port", 0, "'/web/port': minimum: got 0, want 1"),
        ("web.enabled", "yes", "'/web/enabled': got string, want boolean"),
        ("queue.layout", "new", "'/queue/layout': value must be one of 'own', 'osmo'"),
        ("queue.url", "", "say where the queue is: queue.url, or queue.urlSecret.name"),
        ("queue.url", "redis://a:b@h", "'/queue/url': 'redis://a:b@h' does not match pattern"),
        ("queue.users.web", "a:b", "'/queue/users/web': 'a:b' does not match pattern"),
        (
            "queue",
            {"urlSecret": {"name": "x"}, "users": {"operator": "a"}},
            "queue.users and queue.urlSecret exclude each other",
        ),
        ("store.url", "sqlite:///osmo.db", "'/store/url': 'sqlite:///osmo.db' does not match"),
        ("operator.enabled", False, "say where the operator is: listener.connect"),
        ("operator.ports", {"ws": 0, "grpc": 0}, "an operator needs a port"),
        ("web", {"enabled": True, "replicas": 2, "config": {"allow_replay": True}}, "one replica"),
        ("web", {"enabled": True, "config": {"hosts": []}}, "web.config.hosts cannot be set"),
        ("operator.config.listen", ["ws://x:1"], "operator.config.listen cannot be set"),
        ("worker.config.operations", "", "worker.config.operations cannot be set"),
        ("worker.config.store", "sqlite:///x", "worker.config.store cannot be set"),
        ("operator.config.queue", "redis://x", "operator.config.queue cannot be set"),
    ],
)
def test_what_is_wrong_is_named(path: str, value: object, words: str) -> None:
    """A value of a wrong type, out of its range, of no known name or against another one is refused
    with its path."""
    done = template("minimal", {path: value})
    assert done.returncode != 0
    assert words in done.stderr
