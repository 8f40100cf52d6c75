"""No secret is told by a program, whatever goes wrong, and however much it tells of it."""

import base64
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from osmo_listener.config import ListenerConfig
from osmo_operator.config import OperatorConfig
from osmo_pipeline.config import CommandConfig, DemoConfig
from osmo_pipeline.web.config import WebConfig
from osmo_simulator.server import SimulatorConfig
from osmo_transport import ClientConfig
from osmo_transport._token import TokenConfig
from osmo_transport.credentials import Presented
from osmo_transport.queues.redis.address import Address
from osmo_transport.testing.redis_server import RedisServer
from osmo_worker.config import WorkerConfig
from tests.pipeline.commands import Commands, commands

EVERYTHING = "--log-level=DEBUG"
NOWHERE = "127.0.0.1:1"
ARGUMENT = "everybody on this machine sees the secret"


class Planted:
    """Secrets, each of which was never seen before, and files with them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def secret(self) -> str:
        """A new one."""
        self._count += 1
        return f"sesame/{self._count}!"

    def url(self, scheme: str, host: str) -> str:
        """With a password, as a URL has it."""
        return f"{scheme}://osmo:{quote(self.secret(), safe='')}@{host}"

    def file(self, text: str) -> str:
        """The path of one with this text."""
        self._count += 1
        path = self._folder / f"file-{self._count}"
        path.touch(mode=0o600)
        path.write_text(text)
        return str(path)

    def kubeconfig(self, user: str, server: str = f"https://{NOWHERE}", proxy: str = "") -> str:
        """The path of one whose user is this, in YAML."""
        return self.file(
            f"clusters: [{{name: c, cluster: {{server: '{server}', proxy-url: '{proxy}'}}}}]\n"
            "contexts: [{name: c, context: {cluster: c, user: u}}]\n"
            f"current-context: c\nusers: [{{name: u, user: {{{user}}}}}]\n"
        )


def told(text: str) -> list[str]:
    """The lines of a text in which a secret stands, in one of the forms that it is given in."""
    forms = ["sesame", base64.b64encode(b"osmo:sesame").decode()[:14]]
    forms += [base64.b64encode(b"sesame").decode()[:8]]
    return [line for line in text.splitlines() if any(form in line for form in forms)]


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    """Secrets to plant."""
    return Planted(tmp_path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """The command lines."""
    with commands(tmp_path_factory.mktemp("commands")) as started:
        yield started


@pytest.fixture(scope="module")
def redis() -> Iterator[str]:
    """The host and port of a Redis that asks for another password."""
    with RedisServer(requirepass="another") as server:
        yield f"127.0.0.1:{server.port}"


def test_no_password_of_a_queue_is_told(planted: Planted, redis: str, run: Commands) -> None:
    """By services and commands: right or wrong, misspelt, in a file, an argument, the environment
    or a configuration file."""
    services = (
        ("osmo_operator", "--listen=ws://127.0.0.1:0"),
        ("osmo_worker", "--store=memory://"),
    )
    for program, option in services:
        wrong = planted.url("redis", redis)
        lines = [
            ("--queue", wrong),
            (f"--queue=redis://osmo@{redis}", "--queue-password-file", planted.file(wrong)),
            ("--queue", wrong, "--queue-password-file", planted.file(planted.secret())),
            ("--config", planted.file(f"queue = '{wrong}'\nqueue = '{wrong}'")),
            ("--config", planted.file(f"queue = ['{wrong}']")),
            ("--config", planted.file(f"[queue]\npassword = '{planted.secret()}'")),
            ("--queue", f"redis//osmo:{planted.secret()}@{redis}"),
            ("--queue", f"osmo:{planted.secret()}@{redis}"),
            ("--queue", f"{planted.url('redis', redis)}/no-number"),
            ("--queue", f"{planted.url('redis', 'host')}:no-number"),
            ("--queue", f"{wrong}?password={planted.secret()}"),
            ("--quue", wrong),
            (wrong,),
        ]
        # What reads a URL is the same in both.
        for line in lines if program == "osmo_operator" else lines[:4]:
            code, out, err = run(option, EVERYTHING, *line, program=program)
            assert code
            assert told(out + err) == [], line
        code, out, err = run(option, "--print-config", "--queue", wrong, program=program)
        assert code == 0
        assert told(out + err) == []
        code, out, err = run(option, EVERYTHING, program=program, environment={"OSMO_QUEUE": wrong})
        assert code == 1
        assert told(out + err) == []
        assert ARGUMENT not in err
    for command in ("queue status", "top --once"):
        for queue in (
            planted.url("redis", redis),
            planted.url("redis", NOWHERE),
            f"redis//osmo:{planted.secret()}@{redis}",
        ):
            code, out, err = run(*command.split(), EVERYTHING, "--queue", queue)
            assert code
            assert told(out + err) == [], command


def test_no_password_of_a_store_is_told(planted: Planted, run: Commands) -> None:
    """Nor what else its URL says."""
    there = planted.url("postgresql", f"{NOWHERE}/osmo")
    stores = [
        (there,),
        (f"{there}?password={planted.secret()}",),
        (f"{there}?sslmode=bogus",),
        (f"{there}?sslcert=/nowhere&sslpassword={planted.secret()}",),
        (planted.url("postgresql", "[broken"),),
        (planted.url("postgresql", "host:port"),),
        (planted.url("mysql", NOWHERE),),
        (f"postgresql//osmo:{planted.secret()}@{NOWHERE}",),
        (f"postgresql://osmo@{NOWHERE}/osmo", "--store-password-file", planted.file(there)),
        (f"postgresql://osmo@{NOWHERE}/osmo", "--store-password-file", planted.file(there * 99)),
    ]
    for store in stores:
        line = ("migrate", EVERYTHING, "--store", *store)
        code, out, err = run(*line, program="osmo_worker")
        assert code
        assert told(out + err) == [], store
    for line in (("backends", "list"), ("web",)):
        given = ("--queue=redis://127.0.0.1:1", "--store", there)
        for more in ((), ("--print-config",)):
            _, out, err = run(*line, EVERYTHING, *given, *more)
            assert told(out + err) == [], line


def test_no_credential_of_a_cluster_is_told(planted: Planted, run: Commands) -> None:
    """By a listener that cannot use its kubeconfig."""
    secret = planted.secret
    users = (
        f"token: [{secret()}]",
        f"token: {secret()}}}}} {{",
        f"token: a, password: {{a: {secret()}}}",
        f'token: "{secret()}\\n{secret()}"',
        f"client-certificate-data: {secret()}, client-key-data: {secret()}",
        "client-certificate-data: Zm9v, client-key-data: "
        + base64.b64encode(secret().encode()).decode(),
        f"auth-provider: {{name: oidc, config: {{id-token: {secret()}, client-secret: x}}}}",
        f"exec: {{apiVersion: client.authentication.k8s.io/v1, command: sh, args: [-c, 'echo"
        f" {secret()}; exit 1'], env: [{{name: TOKEN, value: {secret()}}}]}}",
    )
    files = [planted.kubeconfig(user) for user in users]
    files += [
        planted.kubeconfig("token: a", planted.url("ftp", NOWHERE)),
        planted.kubeconfig("token: a", proxy=planted.url("ftp", NOWHERE)),
    ]
    for file in files:
        line = ("--backend=b", EVERYTHING, "--connect=ws://127.0.0.1:1", "--kubeconfig", file)
        code, out, err = run(*line, program="osmo_listener")
        assert code
        assert told(out + err) == [], Path(file).read_text()


def test_no_token_and_no_key_is_told(planted: Planted, run: Commands) -> None:
    """By who presents it, and by who knows it."""
    key = f"-----BEGIN PRIVATE KEY-----\n{planted.secret()}\n-----END PRIVATE KEY-----\n"
    pair = ("--server-tls-cert-file", planted.file(key), "--server-tls-key-file", planted.file(key))
    tokens = planted.file(f'{{"tokens": [{{"name": "a", "sha256": "{planted.secret()}"}}]}}')
    operator = [
        ("--listen=wss://127.0.0.1:0", *pair),
        ("--listen=grpcs://127.0.0.1:0", *pair),
        ("--listen=ws://127.0.0.1:0", f"--auth=token?file={tokens}"),
    ]
    for line in operator:
        code, out, err = run(EVERYTHING, "--queue=memory://m", *line, program="osmo_operator")
        assert code
        assert told(out + err) == [], line
    for option in (
        f"--client-token-command=vault --token={planted.secret()}",
        f"--connect={planted.url('ws', NOWHERE)}",
    ):
        line = ("--backend=b", "--print-config", option)
        code, out, err = run(*line, program="osmo_listener")
        assert code == 0
        assert told(out + err) == [], option


def test_no_header_for_a_collector_is_told(planted: Planted, run: Commands) -> None:
    """Which OpenTelemetry shows where it is malformed."""
    environment = {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": planted.url("http", NOWHERE),
        "OTEL_EXPORTER_OTLP_HEADERS": planted.secret(),
        "OSMO_QUEUE": "redis://127.0.0.1:1/no-number",
    }
    line = ("--listen=ws://127.0.0.1:0", EVERYTHING)
    code, out, err = run(*line, program="osmo_operator", environment=environment)
    assert code == 2
    assert "Header format invalid" in err
    assert told(out + err) == []


def test_no_configuration_shows_a_secret(planted: Planted) -> None:
    """As what a debugger or a tracker of errors would show."""
    redis, store = planted.url("redis", NOWHERE), planted.url("postgresql", NOWHERE)
    token = TokenConfig(command=f"vault {planted.secret()}")
    shown = [
        OperatorConfig(queue=redis),
        WorkerConfig(queue=redis, store=store),
        DemoConfig(queue=redis, store=store),
        CommandConfig(queue=redis),
        WebConfig(queue=redis, store=store, operations=(planted.url("http", NOWHERE),)),
        ListenerConfig(backend="b", client=ClientConfig(token=token)),
        SimulatorConfig(token=planted.secret()),
        Presented(token=planted.secret()),
        Address.of(redis),
        Address.of(f"redis://osmo@{NOWHERE}?password_file={planted.file(planted.secret())}"),
    ]
    for config in shown:
        assert told(repr(config)) == [], type(config)
