"""What the log is told throughout the source: a message that names somebody has the id as a field."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from holon.telemetry.log import FIELDS
from tests.pages.source import REPOSITORY, files, nodes

# What a message calls somebody, and the field that then says who.
NAMED = {"job": "job_id", "task": "task_id", "worker": "worker_id", "session": "session_id"}


def calls() -> Iterator[tuple[str, str, set[str]]]:
    """Every call of a logger: where it is, its message, and the fields that it names; `*` where they come from afar."""
    for file in files("holon", "transports"):
        # A file that calls none is not gone through function by function.
        if "rxon" in file.parts or not any(logged(node, {}) for node in nodes(file)):
            continue
        for scope in nodes(file):
            if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
                inside = list(ast.walk(scope))
                facts = {
                    target.id: node.value
                    for node in inside
                    if isinstance(node, ast.Assign)
                    for target in node.targets
                    if isinstance(target, ast.Name)
                }
                for node in inside:
                    found = logged(node, facts)
                    if found is not None:
                        yield f"{file.relative_to(REPOSITORY)} {scope.name}", *found


def logged(node: ast.AST, facts: dict[str, ast.expr]) -> tuple[str, set[str]] | None:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
        return None
    if not (isinstance(node.func.value, ast.Name) and node.func.value.id in ("log", "_log")):
        return None
    message = next((one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)), "")
    extra = next((one.value for one in node.keywords if one.arg == "extra"), None)
    if isinstance(extra, ast.Name):
        extra = facts.get(extra.id, extra)
    if isinstance(extra, ast.Dict):
        return message, {str(key.value) for key in extra.keys if isinstance(key, ast.Constant)}
    return message, {"*"} if extra is not None else set()


def test_every_message_that_names_a_job_task_worker_or_session_has_it_as_a_field() -> None:
    found = list(calls())
    assert len(found) > 40
    lacking = [
        (where, message)
        for where, message, fields in found
        for word in re.findall(r"\b(job|task|worker|session) %s", message)
        if "*" not in fields and NAMED[word] not in fields
    ]
    assert lacking == []
    assert {name for _, _, fields in found for name in fields} <= {*FIELDS, "audit", "*"}
