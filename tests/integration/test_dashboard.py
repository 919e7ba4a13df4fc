"""The dashboard over HTTP: public, the same for everybody, whole in the package, and under a policy that is strict."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path

import pytest

from holon.domain.job import TERMINAL
from holon.transports.http.door import HttpSettings
from holon.transports.http.shapes import JOB_STATUSES
from tests.integration.http_node import LIMIT, Node, running

PAGE = "/_public/dashboard"
FOLDER = Path(str(files("holon"))) / "web" / "dashboard"
LISTS = ("OPEN", "OVER")
KINDS = {".css": "text/css", ".js": "text/javascript"}


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with running() as it:
        yield it


async def test_every_file_of_it_is_served_with_its_type_and_may_not_be_kept_unasked(node: Node) -> None:
    parts = sorted(path.name for path in FOLDER.iterdir() if path.name != "index.html")
    assert "main.js" in parts
    for name in ("", *(f"/{part}" for part in parts)):
        reply = await node.client.get(f"{PAGE}{name}")
        kind = KINDS[Path(name).suffix] if name else "text/html"
        assert (reply.status_code, reply.headers["content-type"]) == (200, f"{kind}; charset=utf-8"), name
        assert reply.content == (FOLDER / (name.removeprefix("/") or "index.html")).read_bytes()
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["cache-control"] == "no-cache"
        head = await node.client.head(f"{PAGE}{name}")
        assert (head.status_code, head.content) == (200, b"")


async def test_its_policy_lets_it_ask_the_node_alone_and_make_no_markup_of_text(node: Node) -> None:
    policy = (await node.client.get(PAGE)).headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert set(re.findall(r"'[a-z-]+'|\w+:", policy)) == {"'none'", "'self'", "data:", "'script'"}
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy


async def test_nothing_else_is_where_its_parts_are(node: Node) -> None:
    for name in (
        "/",
        "/index.html",
        "/none.js",
        "/..",
        "/%2e%2e/docs",
        "/%2e%2e/docs/page.js",
        "/main.js/",
        "/a%2fb.js",
    ):
        reply = await node.client.get(f"{PAGE}{name}")
        assert (reply.status_code, reply.json()["code"]) == (404, "ROUTE_NOT_FOUND"), name
    assert (await node.client.post(PAGE)).status_code == 405


async def test_it_is_there_without_the_document_and_away_without_clients() -> None:
    async with running(HttpSettings(port=0, max_body=LIMIT, docs=False)) as node:
        assert (await node.client.get("/_public/docs")).status_code == 404
        assert (await node.client.get(PAGE)).status_code == 200
    async with running(HttpSettings(port=0, max_body=LIMIT, client_api=False)) as node:
        for path in (PAGE, f"{PAGE}/main.js"):
            assert (await node.client.get(path)).status_code == 404


def test_it_knows_each_status_that_a_job_can_have() -> None:
    script = (FOLDER / "format.js").read_text(encoding="utf-8")
    known = [set(re.findall(r'"(\w+)"', re.findall(rf"{name} = \[(.*?)\]", script, re.DOTALL)[0])) for name in LISTS]
    assert known == [{*JOB_STATUSES} - TERMINAL, TERMINAL]


def test_what_it_loads_is_its_own_and_nothing_of_it_is_markup_made_of_text() -> None:
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    loaded = re.findall(r'(?:src|href)="(?!data:|#)([^"]+)"', page)
    assert loaded == ["dashboard/style.css", "dashboard/main.js"]
    assert not re.search(r"<style|<script>|\bon\w+=|style=", page)
    for path in FOLDER.glob("*.js"):
        script = path.read_text(encoding="utf-8")
        imported = re.findall(r'^import .*? from "\./([^"]+)";$', script, re.MULTILINE)
        assert len(imported) == script.count("import {")
        assert all((FOLDER / name).is_file() for name in imported), path.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|import\(", script), path.name
        assert set(re.findall(r"https?://[^\"' ]+", script)) <= {"http://www.w3.org/2000/svg"}, path.name
