"""The page of the OpenAPI document: it works without any other host, and its policy lets it do nothing else."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from tests.integration.http_browser import CHROMIUM, Page, browsing
from tests.integration.http_node import AUTH, TOKEN, Node, running

IN_A_BROWSER = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium on PATH (Debian: apt-get install chromium)"
)
CREATE = "#operations-create-create_doubling"


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    async with running() as it:
        yield it


async def test_it_is_public_and_all_that_it_loads_is_the_nodes_own(node: Node) -> None:
    reply = await node.client.get("/_public/docs")
    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert '<meta charset="utf-8">' in reply.text
    loaded = re.findall(r'(?:src|href)="(?!data:)([^"]+)"', reply.text)
    assert len(loaded) == 3
    for name in loaded:
        part = await node.client.get(f"/_public/{name}")
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        assert (part.status_code, part.headers["content-type"]) == (200, f"{kind}; charset=utf-8"), name
        assert part.headers["x-content-type-options"] == "nosniff"
    # No script and no style in the page itself, so that the policy can refuse all such.
    assert not re.search(r"<style|<script>|\bon\w+=|style=", reply.text)


async def test_its_policy_is_strict(node: Node) -> None:
    policy = (await node.client.get("/_public/docs")).headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    assert set(re.findall(r"'[a-z-]+'|\w+:", policy)) == {"'none'", "'self'", "data:"}


async def test_nothing_else_is_where_its_parts_are(node: Node) -> None:
    for name in ("", "/", "/index.html", "/README.md", "/..", "/%2e%2e/docs", "/LICENSE"):
        assert (await node.client.get(f"/_public/docs{name}")).status_code == (404 if name else 200), name


@IN_A_BROWSER
async def test_a_browser_shows_every_route_and_asks_nobody_else(node: Node) -> None:
    async with browsing() as page:
        origin = await shown(node, page)
        assert {url.partition("/_public/")[0] for url in page.asked_for if not url.startswith("data:")} == {origin}
        assert page.complaints == []
        # What it may not do is heard of, so the silence above means something.
        await page.run("fetch('https://example.org/').catch(() => null)")
        await page.run("document.body.append(Object.assign(document.createElement('script'), {text: '1'}))")
        assert len([words for words in page.complaints if "Content Security Policy" in words]) >= 2


@IN_A_BROWSER
async def test_a_job_can_be_created_from_it(node: Node) -> None:
    async with browsing() as page:
        await shown(node, page)
        await page.run("document.querySelector('.auth-wrapper .authorize').click()")
        await page.until("document.querySelector('.auth-container input')")
        await page.run("document.querySelector('.auth-container input').focus()")
        await page.type(TOKEN)
        for button in (".auth-btn-wrapper button[type=submit]", ".auth-btn-wrapper .btn-done"):
            await page.run(f"document.querySelector('{button}').click()")
        await page.run(f"document.querySelector('{CREATE} .opblock-summary-control').click()")
        await page.until(f"document.querySelector('{CREATE} .try-out__btn')")
        await page.run(f"document.querySelector('{CREATE} .try-out__btn').click()")
        await page.until(f"document.querySelector('{CREATE} textarea')")
        # The example that it offers is one that the node takes.
        await page.run(f"document.querySelector('{CREATE} .execute').click()")
        answered = f"document.querySelector('{CREATE} .live-responses-table tbody .response-col_status')"
        assert (await page.until(f"{answered} && {answered}.innerText")).strip() == "202"
        assert page.complaints == []
    (job,) = (await node.client.get("/api/v1/jobs", headers=AUTH)).json()["jobs"]
    assert (await node.ended(job["id"]))["result"] == {"twice": 0}


async def shown(node: Node, page: Page) -> str:
    """Open the page and wait until all of it is there; its origin."""
    origin = f"http://127.0.0.1:{node.door.port}"
    await page.open(f"{origin}/_public/docs")
    paths = (await node.client.get("/_public/openapi.json")).json()["paths"]
    await page.until(f"document.querySelectorAll('.opblock').length === {len(paths)}")
    return origin
