"""What a kubelet makes of a Deployment: a command line, an environment, and files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.tools import Object, component, of_kind

FOLDER = "/etc/osmo/config"
CONFIG = f"{FOLDER}/config.toml"


@dataclass(frozen=True)
class Pod:
    """One of a Deployment."""

    component: str
    program: str
    """The command, without its settings."""
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    grace: float
    """Seconds from the signal to stop until the process is killed."""


def pods(
    objects: "list[Object] | tuple[Object, ...]",
    folder: Path,
    secrets: Mapping[tuple[str, str], str],
    addresses: Mapping[str, str],
) -> dict[str, Pod]:
    """One pod of each program, by component. `secrets` holds contents by name and key, `addresses`
    the address of each component's pod, which stands for all of its own."""
    configs = of_kind(objects, "ConfigMap")
    made = {}
    for name, deployment in of_kind(objects, "Deployment").items():
        which = component(deployment)
        spec = deployment["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        (here := folder / which).mkdir(exist_ok=True)
        for file, text in configs[name]["data"].items():
            told = text.replace("0.0.0.0", addresses[which]).replace(FOLDER, str(here))
            (here / file).write_text(told)
        settings = container["args"].index("--config")
        arguments = container["args"][settings:]
        assert CONFIG in arguments
        made[which] = Pod(
            which,
            " ".join(container["args"][:settings]),
            tuple(each.replace(FOLDER, str(here)) for each in arguments),
            {each["name"]: _value(each, secrets) for each in container.get("env", [])},
            spec["terminationGracePeriodSeconds"],
        )
    return made


def _value(variable: Object, secrets: Mapping[tuple[str, str], str]) -> str:
    if "value" in variable:
        return str(variable["value"])
    reference = variable["valueFrom"]["secretKeyRef"]
    return secrets[reference["name"], reference["key"]]
