"""The demo: the node's HTTP door, as any program would use it."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from scripts.demonstration.failure import Failed


class Client:
    """Creates and reads jobs. Every method raises Failed when the node does not answer, or with an error.

    Arguments:
        port: of the loopback.
        token: the client token.
        log: where the node says more.
    """

    def __init__(self, port: int, token: str, log: Path) -> None:
        self._port = port
        self._log = log
        self._headers = {"X-Client-Token": token, "Content-Type": "application/json"}

    def is_up(self) -> bool:
        """Whether the node answers."""
        try:
            self._ask("GET", "/_public/status")
        except Failed:
            return False
        return True

    def create(self, path: str, initial_data: dict[str, Any]) -> str:
        """Create a job, and return its id."""
        return str(self._ask("POST", path, {"initial_data": initial_data})["job_id"])

    def job(self, job_id: str, fields: str = "") -> dict[str, Any]:
        """Read a job: all of it, or only some fields, with commas between them."""
        return self._ask("GET", f"/api/v1/jobs/{job_id}" + (f"?fields={fields}" if fields else ""))

    def tree(self, job_id: str) -> list[dict[str, Any]]:
        """Read a job's tree, with what holons below tell of it."""
        nodes: list[dict[str, Any]] = []
        token = ""
        while True:
            page = self._ask("GET", f"/api/v1/jobs/{job_id}/tree" + (token and f"?page_token={quote(token)}"))
            nodes += page["nodes"]
            token = page["next_page_token"]
            if not token:
                return nodes

    def figure(self, name: str) -> float:
        """Read what the node measures under a name; 0 where it tells nothing of that."""
        lines = (line.split() for line in self._text("GET", "/_public/metrics").splitlines())
        return next((float(line[1]) for line in lines if len(line) == 2 and line[0] == name), 0.0)

    def _ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._text(method, path, body))
        return answer

    def _text(self, method: str, path: str, body: Any = None) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), self._headers)
            reply = connection.getresponse()
            text = reply.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"the node does not answer {method} {path}: {error!r}", self._log) from error
        finally:
            connection.close()
        if reply.status >= 300:
            raise Failed(f"{method} {path} was answered {reply.status}: {text}", self._log)
        return text
