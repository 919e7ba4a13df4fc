"""The demo: a node, its child holon and that one's workers, as the programs that a user would start."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

from holon.errors import HolonError
from holon.files import write_atomically
from holon.security.certificates import issue_server, issue_worker, open_authority
from scripts.demonstration.client import Client
from scripts.demonstration.failure import Failed
from scripts.demonstration.programs import ROOT, Program, Programs, free_ports, wait_until

LEASE_SECONDS = 5
WORKERS = ("worker-1", "worker-2")
CHILD = "child"
CLI = ("-c", "from holon.cli import main; main()")


@dataclass(frozen=True, slots=True)
class Member:
    """A running worker, and the log of the tasks that it began and ended."""

    name: str
    program: Program
    log: Path


@dataclass(frozen=True, slots=True)
class Cluster:
    """What runs. `settings` is a shell file that tells the CLI where the node is and who asks."""

    node: Program
    child: Program
    workers: dict[str, Member]
    client: Client
    http_port: int
    worker_port: int
    settings: Path

    def check_alive(self, besides: str = "") -> None:
        """Raise Failed when something ended that should run; `besides` is a worker that may have."""
        self.node.check_alive()
        self.child.check_alive()
        for worker in self.workers.values():
            if worker.name != besides:
                worker.program.check_alive()


def start_cluster(programs: Programs, place: Path, storage: str) -> Cluster:
    """Make certificates, and start a node, its child and that one's workers with them; returns when all are there.

    Arguments:
        place: a folder for what they write.
        storage: the node's STORAGE_URI; empty for a SQLite file in that folder.
    Raises:
        Failed: one of them does not start, or there are no ports.
    """
    certificates = place / "certs"
    try:
        authority = open_authority(certificates)
        server = issue_server(authority, certificates)
        identities = {name: issue_worker(authority, certificates, name) for name in (CHILD, *WORKERS)}
    except HolonError as error:
        raise Failed(error.message) from error
    http, worker, client, below_http, below = free_ports(5)
    token = secrets.token_urlsafe(32)
    authority_file = {"TLS_CA_PATH": str(authority.files.certificate)}
    node_files = {
        **authority_file,
        "TLS_CERT_PATH": str(server.certificate),
        "TLS_KEY_PATH": str(server.key),
        "SHUTDOWN_GRACE_SECONDS": "5",
        "LOG_FORMAT": "text",
    }
    write_atomically(place / "workers.toml", f'[{CHILD}]\nkind = "holon"\ncn = "{CHILD}"\n'.encode())
    node = programs.start(
        "node",
        [*CLI, "serve"],
        {
            **node_files,
            "API_PORT": str(http),
            "GRPC_PORT": str(worker),
            "CLIENT_GRPC_PORT": str(client),
            "CLIENT_TOKEN": token,
            "STORAGE_URI": storage or f"sqlite:///{place / 'holon.db'}",
            "BLUEPRINTS_DIR": str(ROOT / "blueprints" / "above"),
            "WORKERS_CONFIG_PATH": str(place / "workers.toml"),
        },
    )
    child = programs.start(
        CHILD,
        [*CLI, "serve"],
        {
            **node_files,
            "ENABLE_CLIENT_API": "false",
            "API_PORT": str(below_http),
            "GRPC_PORT": str(below),
            "STORAGE_URI": f"sqlite:///{place / 'child.db'}",
            "BLUEPRINTS_DIR": str(ROOT / "blueprints"),
            "PARENT_URL": f"grpcs://127.0.0.1:{worker}",
            "PARENT_TLS_CERT_PATH": str(identities[CHILD].certificate),
            "PARENT_TLS_KEY_PATH": str(identities[CHILD].key),
            "DISCLOSE": "full",
            "HEARTBEAT_INTERVAL_SECONDS": "1",
            "WORKER_SILENCE_SECONDS": "3",
            "TASK_LEASE_SECONDS": str(LEASE_SECONDS),
        },
    )
    asking = Client(http, token, node.output)
    wait_until(asking.is_up, "the node answers over HTTP", node)
    below_us = Client(below_http, "", child.output)
    wait_until(below_us.is_up, "the child answers over HTTP", child)
    workers = {}
    for name in WORKERS:
        identity = identities[name]
        log = place / f"{name}.tasks"
        program = programs.start(
            name,
            [*CLI, "worker", "run", "blueprints.workers.census:worker"],
            {
                **authority_file,
                "TLS_CERT_PATH": str(identity.certificate),
                "TLS_KEY_PATH": str(identity.key),
                "NODE_URL": f"grpcs://127.0.0.1:{below}",
                "CENSUS_LOG": str(log),
            },
        )
        workers[name] = Member(name, program, log)
    wait_until(lambda: below_us.figure("holon_sessions_opened_total") >= len(WORKERS), "both workers are there", child)
    settings = place / "client.sh"
    lines = {"HOLON_URL": f"grpcs://127.0.0.1:{client}", "HOLON_TOKEN": token, "HOLON_CA": authority.files.certificate}
    write_atomically(
        settings, "".join(f"export {key}='{value}'\n" for key, value in lines.items()).encode(), mode=0o600
    )
    return Cluster(node, child, workers, asking, http, worker, settings)
