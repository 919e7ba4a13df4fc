"""The dashboard in a browser, as somebody uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.integration.grpc_node import CLIENT_TOKEN
from tests.integration.http_browser import CHROMIUM, Page, browsing
from tests.integration.http_node import TOKEN

# For how many seconds it waits for an answer.
PATIENCE = 20
# And until it looks again at what may have changed.
PAUSE = 5
NEEDS_CHROMIUM = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium on PATH (Debian: apt-get install chromium)"
)
# Timers of some lengths go off by hand.
_HOLD = """{
  const [set, clear, told] = [setTimeout, clearTimeout, %s];
  window.held = new Map();
  window.setTimeout = (call, ms) => {
    if (!told.includes(ms)) return set(call, ms);
    const id = {};
    held.set(id, call);
    return id;
  };
  window.clearTimeout = (id) => held.delete(id) || clear(id);
}"""


class Dashboard:
    """The page, as somebody uses it."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self._origin = origin

    async def open(self) -> None:
        await self.page.open(f"{self._origin}/_public/dashboard")
        await self.page.until("document.querySelector('#token')")

    async def sign_in(self, token: str) -> None:
        await self.fill("#token", token)
        await self.press("main form button")

    async def go(self, view: str) -> None:
        await self.page.run(f"location.hash = '#/{view}'")

    async def fill(self, field: str, text: str) -> None:
        await self.page.run(f"document.querySelector('{field}').select()")
        await self.page.type(text)

    async def press(self, what: str) -> None:
        """Press what is there and not at rest, or will be."""
        pressed = f"document.querySelector('{what}:not(:disabled)')"
        await self.page.until(f"{pressed} && ({pressed}.click(), true)")

    async def shows(self, text: str, where: str = "main") -> None:
        """Wait until this can be read there."""
        await self.page.until(f"document.querySelector('{where}')?.innerText.includes({text!r})")

    async def hold(self, *seconds: int) -> None:
        """From now on, what would come after exactly so many seconds comes when `pass_time` says so."""
        await self.page.run(_HOLD % [one * 1000 for one in seconds])

    async def pass_time(self) -> None:
        """Have come all that is held, once there is something."""
        await self.page.until("held.size && [...held].every(([id, call]) => (held.delete(id), call(), true))")

    async def answered(self, *, on: bool) -> None:
        """Whether what it asks the API for is answered; where it is not, it is not refused either."""
        await self.page.call("Fetch.disable" if on else "Fetch.enable", patterns=[{"urlPattern": "*/api/*"}])

    async def stays_within_its_policy(self) -> None:
        """Nothing of what it was shown became markup, and it asked nobody but the node, by addresses without tokens."""
        assert await self.page.run("document.querySelectorAll('main img, main script').length") == 0
        assert await self.page.run("document.title.startsWith('Holon')")
        refused = "Failed to load resource"
        assert [words for words in self.page.complaints if not words.startswith(refused)] == []
        asked = [url for url in self.page.asked_for if not url.startswith("data:")]
        assert all(url.startswith(f"{self._origin}/") for url in asked)
        assert not any(TOKEN in url or CLIENT_TOKEN in url for url in asked)
        assert await self.page.run("[localStorage.length, document.cookie]") == [0, ""]
        # What it could not do is heard of, so the silence above means something.
        await self.page.run("try { document.body.innerHTML = 'x' } catch {}")
        assert any("TrustedHTML" in words for words in self.page.complaints)


@asynccontextmanager
async def dashboard(origin: str) -> AsyncIterator[Dashboard]:
    async with browsing() as page:
        shown = Dashboard(page, origin)
        await shown.open()
        yield shown
