"""docs/errors.md tells the truth: every code that a node can answer with stands there, and each kind's status."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from holon import errors
from holon.errors import HolonError
from holon.transports.http.refusals import STATUSES
from holon.wire.grpc_status import CODES, code_of
from tests.pages.source import REPOSITORY, files, nodes

PAGE = (REPOSITORY / "docs/errors.md").read_text(encoding="utf-8")
# The rooms of the node, and the worker SDK; the client and the command line have words of their own.
ROOMS = (
    "holon/errors.py",
    "holon/context.py",
    "holon/domain",
    "holon/engine",
    "holon/security",
    "holon/task_files",
    "holon/core",
    "holon/storage",
    "holon/stores",
    "holon/wire",
    "holon/node",
    "holon/uplink",
    "holon/worker",
    "transports",
)
# The one answer of HTTP that is no error of the tree.
OF_HTTP_ALONE = {"METHOD_NOT_ALLOWED"}


def modules() -> Iterator[Sequence[ast.AST]]:
    """The nodes of each."""
    return map(nodes, files(*ROOMS))


def text_of(node: ast.expr | None, constants: dict[str, str]) -> str | None:
    if isinstance(node, ast.Name):
        return constants.get(node.id)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def codes_in(module: Sequence[ast.AST]) -> Iterator[str | None]:
    top = module[0]
    assert isinstance(top, ast.Module)
    constants = {
        target.id: node.value.value
        for node in top.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in module:
        if isinstance(node, ast.Call):
            yield from (text_of(word.value, constants) for word in node.keywords if word.arg == "code")
            if isinstance(node.func, ast.Name) and node.func.id == "JobError":
                yield text_of(node.args[0], constants)
        elif isinstance(node, ast.FunctionDef):
            words = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            yield from (text_of(default, constants) for word, default in words if word.arg == "code")
        elif isinstance(node, ast.ClassDef):
            for line in node.body:
                if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "code":
                    yield text_of(line.value, constants)


def documented() -> set[str]:
    closing = PAGE[PAGE.rindex("Errors without a code of their own") :]
    return set(re.findall(r"^\| `([A-Z_]+)` \|", PAGE, re.MULTILINE)) | set(re.findall(r"`([A-Z_]+)`", closing))


def test_every_code_of_the_node_is_explained() -> None:
    used = {code for module in modules() for code in codes_in(module) if code}
    assert len(used) > 50
    assert used - documented() == set()


def test_no_code_is_explained_that_nothing_uses() -> None:
    said = {node.value for module in modules() for node in module if isinstance(node, ast.Constant)}
    assert documented() - OF_HTTP_ALONE - said == set()


def test_each_kind_has_the_statuses_that_the_page_says() -> None:
    rows = re.findall(r"^\| `([A-Za-z]+)` \| (\d+) \| ([A-Z_]+) \|", PAGE, re.MULTILINE)
    assert len(rows) == 11
    for name, http, grpc_name in rows:
        kind: type[HolonError] = getattr(errors, name)
        error = kind("x")
        assert code_of(error).name == grpc_name, name
        assert next((status for each, status in STATUSES if isinstance(error, each)), 500) == int(http), name
    assert {kind.__name__ for kind in CODES} - {"HolonError", "Unreachable"} <= {name for name, _, _ in rows}
