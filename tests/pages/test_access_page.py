"""docs/access.md tells the truth: which call needs which role, and what the audit log holds."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from holon.domain import paths
from holon.domain.client import ADMIN
from holon.engine.core import Engine, EngineSettings
from holon.engine.holarchy import Holarchy
from holon.engine.overview import Overview
from holon.engine.reloading import Reloading
from holon.ports import StoreSettings
from holon.rxon.v1 import job_pb2, node_pb2
from holon.security.clients_file import Wanted, read_clients
from holon.storage.memory import MemoryStorage
from holon.transports.grpc.node_service import NEEDS, OF_ADMINS
from holon.transports.http.admin import AdminRoutes
from holon.transports.http.node import NodeRoutes
from holon.transports.http.node_operations import of_node
from holon.transports.http.operations import of_admins
from holon.wire.trees import read_summary
from tests.pages.source import REPOSITORY, files, nodes

PAGE = (REPOSITORY / "docs/access.md").read_text(encoding="utf-8")


def rows(head: str) -> list[list[str]]:
    """The cells of the table that begins with this head."""
    lines = PAGE[PAGE.index(head) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_example_of_the_clients_file_can_be_used(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    file = tmp_path / "clients.toml"
    file.write_text(example, encoding="utf-8")
    file.chmod(0o600)
    shop, operations = (entry.client for entry in read_clients(str(file), Wanted(exposed=True)))
    assert (shop.name, shop.plan, shop.monthly_attempts) == ("shop", "gold", 10_000)
    assert (operations.name, operations.roles) == ("operations", frozenset({ADMIN}))


def test_the_table_of_roles_names_every_call_of_the_grpc_door_with_what_it_needs() -> None:
    needs = {
        call: ADMIN if ADMIN in role and "owner" not in grpc else ""
        for _, _, grpc, role in rows("| call | HTTP")
        for call in re.findall(r"`(\w+)`", grpc)
    }
    services = [file.DESCRIPTOR.services_by_name for file in (job_pb2, node_pb2)]
    node, job = services[1]["NodeService"], services[0]["JobService"]
    assert needs.pop(job.name) == ""
    listing = {name: needs.pop(name) for name in ("ListJobs", "owner")}
    assert listing == {"ListJobs": "", "owner": ""}
    assert needs == {one.name: ADMIN if one.name in OF_ADMINS else "" for one in node.methods}
    assert {f"/{node.full_name}/{name}": ADMIN for name in OF_ADMINS} == NEEDS


def test_the_table_of_roles_names_the_routes_of_administrators_and_what_needs_no_role_at_either_door() -> None:
    needs = {
        path.replace("…", "/api/v1/admin"): role
        for _, http, _, role in rows("| call | HTTP")
        for path in re.findall(r"`(?:GET |POST )?([/…][^`]+)`", http)
    }
    engine = Engine(MemoryStorage(), StoreSettings("n1"), EngineSettings(), read_told=read_summary)
    reload, holarchy = Reloading().reload, Holarchy(engine.store, "h", 8)
    overview = Overview(engine, "n1", "1", lambda _grace, _reason: None, reload, holarchy)
    operations = [*of_node(NodeRoutes(overview)), *of_admins(AdminRoutes(reload))]
    assert len(operations) == 7
    for one in operations:
        assert (ADMIN in needs[one.path]) == bool(one.role), one.path
    # Both doors tell the same.
    same = {"ListBlueprints": paths.BLUEPRINTS, "GetBlueprint": paths.BLUEPRINT_GRAPH, "ListWorkers": paths.WORKERS}
    same |= {"ListSkills": paths.CATALOG, "GetStats": paths.DASHBOARD, "ReloadNode": paths.RELOAD}
    roles = {one.path: one.role for one in operations}
    assert {name: roles[path] for name, path in same.items()} == {
        name: ADMIN if name in OF_ADMINS else "" for name in same
    }


def test_the_table_of_acts_names_every_act_that_is_told() -> None:
    told: set[str] = set()
    for file in files("holon", "transports"):
        for node in nodes(file):
            if not isinstance(node, ast.Call):
                continue
            if isinstance(node.func, ast.Name) and node.func.id in ("note", "audited"):
                told |= {str(one.value) for one in node.args[:1] if isinstance(one, ast.Constant)}
            told |= {
                str(one.value.value)
                for one in node.keywords
                if one.arg == "act" and isinstance(one.value, ast.Constant)
            }
    listed = {act for cells in rows("| act | when") for act in re.findall(r"`(\w+)`", cells[0])}
    # Those of a file that changed are told by a loop over their names.
    clients, schedules = ("added", "removed", "tokens_revoked"), ("added", "changed", "removed")
    assert listed == told | {f"client_{act}" for act in clients} | {f"schedule_{act}" for act in schedules}
