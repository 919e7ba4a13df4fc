"""Chromium without a window, driven over a pipe by its own protocol; it needs nothing but the program."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

CHROMIUM = next(filter(None, (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))), None)
GUARD = 60.0
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
# Looks in the page again and again, until a condition holds; elements cannot leave the page, so they become `true`.
_UNTIL = """new Promise((found) => {
  const look = () => {
    const it = (() => (%s))();
    it ? found(typeof it === 'object' || it) : setTimeout(look, 20);
  };
  look();
})"""


@dataclass
class Page:
    """One page, with what it asked for and what it complained of."""

    _writer: asyncio.StreamWriter
    asked_for: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    _answers: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    _session: str | None = None
    _last: int = 0

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One call of the protocol."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        answer = self._answers[self._last] = asyncio.get_running_loop().create_future()
        self._writer.write(json.dumps(message).encode() + b"\0")
        return await asyncio.wait_for(answer, GUARD)

    async def open(self, url: str) -> None:
        """Show an address in a new tab."""
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Network", "Log", "Runtime", "Page"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=url)

    async def run(self, script: str) -> Any:
        """The value of an expression in the page; of a promise, what it comes to."""
        answer = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, condition: str) -> Any:
        """Wait until an expression is true in the page, and return its value."""
        return await self.run(_UNTIL % condition)

    async def type(self, text: str) -> None:
        """Type into what has the focus."""
        await self.call("Input.insertText", text=text)

    async def read(self, reader: asyncio.StreamReader) -> None:
        """Take in what the browser says."""
        while True:
            try:
                message = json.loads((await reader.readuntil(b"\0"))[:-1])
            except asyncio.IncompleteReadError:
                return
            if "id" in message:
                answer = self._answers.pop(message["id"])
                if "error" in message:
                    answer.set_exception(RuntimeError(message["error"]["message"]))
                else:
                    answer.set_result(message["result"])
                continue
            params = message.get("params", {})
            match message["method"]:
                case "Network.requestWillBeSent":
                    self.asked_for.append(params["request"]["url"])
                case "Log.entryAdded":
                    self.complaints.append(params["entry"]["text"])
                case "Runtime.exceptionThrown":
                    self.complaints.append(str(params["exceptionDetails"]))


@asynccontextmanager
async def browsing() -> AsyncIterator[Page]:
    """A page of a Chromium with a fresh profile; it is on PATH."""
    assert CHROMIUM is not None
    loop = asyncio.get_running_loop()
    (to_read, to_write), (from_read, from_write) = os.pipe(), os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # It reads from the third descriptor and writes to the fourth.
        starter = f'exec "$@" 3<&{to_read} 4>&{from_write}'
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", starter, "bash", CHROMIUM, *_FLAGS, f"--user-data-dir={profile}",
            pass_fds=(to_read, from_write), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_read)
        os.close(from_write)
        reader = asyncio.StreamReader(limit=2**26)
        heard, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(from_read, "rb")
        )
        transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(to_write, "wb"))
        page = Page(asyncio.StreamWriter(transport, protocol, None, loop))
        reading = asyncio.create_task(page.read(reader))
        try:
            yield page
        finally:
            transport.close()
            process.terminate()
            await process.wait()
            heard.close()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
