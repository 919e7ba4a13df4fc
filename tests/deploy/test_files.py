"""The deployment files: each is sound for what reads it, and says what a node understands."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from holon.config import Config
from tests.deploy import image, kubernetes, unit
from tests.unit.configs import tls

FOLDER = Path(__file__).parents[2] / "docs/deploy"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
NODES = [name for name in COMPOSE["services"] if name.startswith("node-")]
MANIFESTS = sorted(path.name for path in kubernetes.FOLDER.iterdir())
STATEFUL = [name for name in MANIFESTS if name != "services.yaml"]
TOKEN = "a-token-of-a-test-of-32-characters"
SECRETS = {
    "client-token": TOKEN,
    "storage-uri": "redis://:password@redis:6379/0",
    "history-database-uri": "postgresql://holon:password@postgres/holon",
}
# Beside settings: what the interpreter and the shell read.
OTHERS = {"PATH", "PYTHONDONTWRITEBYTECODE"}
# The end of a node takes so much longer than its grace, at most.
CLOSING_SECONDS = 10


def tool(name: str) -> str:
    """A program that a package brings, or that is installed; without it there is nothing to ask."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not here")
    return found


def accepted(*command: str | Path, env: Mapping[str, str] | None = None) -> None:
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout + ran.stderr


def seconds(text: str) -> float:
    """A duration of a compose file or a unit."""
    number, unit_of_time = re.fullmatch(r"(\d+)([a-z]*)", text).groups()  # type: ignore[union-attr]
    return float(number) * {"": 1, "s": 1, "m": 60, "min": 60}[unit_of_time]


def of_compose(name: str) -> dict[str, str]:
    return {
        key: re.sub(r"\$\{.*?\}", TOKEN, str(value)) for key, value in COMPOSE["services"][name]["environment"].items()
    }


def of_kubernetes(name: str) -> dict[str, str]:
    found = {}
    for one in kubernetes.container(name)["env"]:
        source = one.get("valueFrom", {})
        if "secretKeyRef" in source:
            assert source["secretKeyRef"]["name"] == "holon"
            found[one["name"]] = SECRETS[source["secretKeyRef"]["key"]]
        else:
            found[one["name"]] = one.get("value", "holon-0")
    return found


ENVIRONMENTS: dict[str, Callable[[], dict[str, str]]] = {
    "Dockerfile": lambda: image.variables(image.stages()[-1]),
    "holon.service": unit.environment,
    **{f"compose.yaml {name}": (lambda name=name: of_compose(name)) for name in NODES},  # type: ignore[misc]
    **{name: (lambda name=name: of_kubernetes(name)) for name in STATEFUL},  # type: ignore[misc]
}


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Real files for what the deployment files name."""
    folder = tmp_path_factory.mktemp("here")
    return tls(folder) | {"BLUEPRINTS_DIR": str(folder)}


@pytest.mark.parametrize("file", ENVIRONMENTS)
def test_every_variable_is_a_setting_and_together_they_are_sound(file: str, on_disk: dict[str, str]) -> None:
    found = ENVIRONMENTS[file]()
    assert found.keys() - Config.settings().keys() <= OTHERS
    Config({name: on_disk.get(name, value) for name, value in found.items()}).check()


@pytest.mark.parametrize("file", [name for name in ENVIRONMENTS if name != "Dockerfile"])
def test_the_grpc_doors_are_open_with_tls_and_http_is_not_open_without_a_proxy(file: str) -> None:
    found = ENVIRONMENTS[file]()
    assert found["GRPC_HOST"] == found["CLIENT_GRPC_HOST"] == "0.0.0.0"
    assert found.keys() >= {"TLS_CERT_PATH", "TLS_KEY_PATH", "TLS_CA_PATH", "CLIENT_TOKEN"}
    assert ("API_HOST" in found) == ("API_BEHIND_PROXY" in found)


# For what reads them ---------------------------------------------------------------------------------------------


def test_the_container_file_has_no_fault_that_hadolint_knows() -> None:
    accepted(tool("hadolint"), image.FILE)


def test_compose_understands_its_file() -> None:
    env = {"CLIENT_TOKEN": TOKEN, "HISTORY_PASSWORD": "password"}
    accepted(tool("docker-compose"), "--file", FOLDER / "compose.yaml", "config", "--quiet", env=env)


def test_systemd_understands_the_unit_and_finds_it_closed(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze")
    here = tmp_path / unit.UNIT.name
    here.write_text(unit.UNIT.read_text(encoding="utf-8").replace("/opt/holon/bin/holon", sys.executable))
    accepted(analyze, "verify", "--man=no", here)
    ran = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=20", "--no-pager", here],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("name", MANIFESTS)
def test_kubernetes_understands_its_manifests(name: str) -> None:
    for manifest in kubernetes.manifests(name):
        assert kubernetes.problems(manifest) == []


# With each other -------------------------------------------------------------------------------------------------


def test_every_file_is_explained() -> None:
    files = {path.relative_to(FOLDER) for path in FOLDER.rglob("*") if path.is_file() and path.name != "README.md"}
    assert {file for file in files if f"({file})" not in README} == set()


def test_ports_are_those_of_the_doors() -> None:
    defaults = Config({})
    doors = {"workers": defaults.GRPC_PORT, "clients": defaults.CLIENT_GRPC_PORT, "http": defaults.API_PORT}
    [exposed] = (argument for name, argument in image.stages()[-1] if name == "EXPOSE")
    assert sorted(map(int, exposed.split())) == sorted(doors.values())
    for name in STATEFUL:
        assert {port["name"]: port["containerPort"] for port in kubernetes.container(name)["ports"]} == doors
    for service in (one for one in kubernetes.manifests("services.yaml") if one["kind"] == "Service"):
        for port in service["spec"]["ports"]:
            assert (port["targetPort"], port["port"]) == (port["name"], doors[port["name"]])
    for node in NODES:
        published = [tuple(port.split(":")) for port in COMPOSE["services"][node]["ports"]]
        assert [int(inside) for _, inside in published] == [doors["workers"], doors["clients"]]


@pytest.mark.parametrize("file", [name for name in ENVIRONMENTS if name != "Dockerfile"])
def test_nobody_kills_a_node_that_still_drains(file: str) -> None:
    grace = Config(ENVIRONMENTS[file]()).SHUTDOWN_GRACE_SECONDS
    if file in STATEFUL:
        pod = kubernetes.named(file, "StatefulSet")["spec"]["template"]["spec"]
        patience = pod["terminationGracePeriodSeconds"]
        patience -= kubernetes.container(file)["lifecycle"]["preStop"]["sleep"]["seconds"]
    elif file == "holon.service":
        patience = seconds(*unit.values("TimeoutStopSec"))
    else:
        patience = seconds(COMPOSE["services"][file.split()[1]]["stop_grace_period"])
    assert patience >= grace + CLOSING_SECONDS


def test_what_a_node_reads_and_writes_is_mounted_where_its_root_is_read_only() -> None:
    for name in STATEFUL:
        pod = kubernetes.named(name, "StatefulSet")["spec"]
        node, env = kubernetes.container(name), of_kubernetes(name)
        mounts = {mount["name"]: mount["mountPath"] for mount in node["volumeMounts"]}
        volumes = {one["name"] for one in pod["template"]["spec"]["volumes"]}
        volumes |= {one["metadata"]["name"] for one in pod.get("volumeClaimTemplates", [])}
        assert mounts.keys() == volumes
        assert {str(Path(env[path]).parent) for path in env if path.startswith("TLS_")} == {mounts["tls"]}
        if "store" in mounts:
            assert env["STORAGE_URI"] == f"sqlite:///{mounts['store']}/holon.db"
        assert node["securityContext"]["readOnlyRootFilesystem"]
    for name in NODES:
        node, env = COMPOSE["services"][name], of_compose(name)
        secrets = {f"/run/secrets/{secret}" for secret in node["secrets"]}
        assert {value for key, value in env.items() if key.startswith("TLS_")} == secrets
        assert node["read_only"]
    loaded = {f"%d/{value.partition(':')[0]}" for value in unit.values("LoadCredential")}
    assert {value for key, value in unit.environment().items() if key.startswith("TLS_")} == loaded


def test_what_the_manifests_ask_of_a_secret_is_made_as_the_page_says() -> None:
    made = re.search(r"create secret generic holon((?: .*\\\n| .*)+)", README)
    assert made is not None
    assert set(re.findall(r"--from-\w+=([\w-]+)=", made[0])) == SECRETS.keys()
