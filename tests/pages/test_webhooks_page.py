"""docs/webhooks.md: its examples take what is sent, and nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from base64 import b64encode
from collections.abc import Callable
from http.client import HTTPConnection
from http.server import HTTPServer
from pathlib import Path
from textwrap import dedent
from threading import Thread
from typing import Any

import pytest

from holon.domain.events import HistoryEvent
from holon.engine.event_messages import event_message
from holon.transports.http.webhooks.signing import signed

PAGE = (Path(__file__).parents[2] / "docs/webhooks.md").read_text(encoding="utf-8")
SECRET = bytes(range(32))
TEXT = f"whsec_{b64encode(SECRET).decode()}"
BODY = '{"event":"job_finished","result":"ä"}'.encode()
Verify = Callable[[str, dict[str, str], bytes], bool]


def example(language: str) -> str:
    (text,) = re.findall(rf"^ *```{language}\n(.*?)^ *```", PAGE, re.DOTALL | re.MULTILINE)
    return dedent(text)


def in_python(secret: str, headers: dict[str, str], body: bytes) -> bool:
    space: dict[str, Any] = {}
    exec(example("python"), space)
    answer = space["verify"](secret, headers, body)
    assert isinstance(answer, bool)
    return answer


def in_node(secret: str, headers: dict[str, str], body: bytes) -> bool:
    given = json.dumps([secret, headers, body.hex()])
    program = f"{example('js')}\nconst [s, h, b] = {given};\nconsole.log(verify(s, h, Buffer.from(b, 'hex')));"
    done = subprocess.run(["node", "-e", program], capture_output=True, text=True, check=True, timeout=60)
    return {"true": True, "false": False}[done.stdout.strip()]


def headers(*secrets: bytes, at: float = 0, body: bytes = BODY) -> dict[str, str]:
    sent = signed(secrets or (SECRET,), "end_0-a", int(time.time() + at), body)
    return {name.decode(): value.decode() for name, value in sent}


@pytest.mark.parametrize("verify", [in_python, in_node])
def test_a_receiver_knows_by_the_examples_who_sent_it(verify: Verify, request: pytest.FixtureRequest) -> None:
    if verify is in_node and not shutil.which("node"):
        pytest.skip("node is not installed: the example in Node.js was not run")
    assert verify(TEXT, headers(), BODY)
    assert verify(b64encode(SECRET).decode(), headers(), BODY)
    assert verify(TEXT, headers(b"new" * 10, SECRET), BODY)
    assert not verify(TEXT, headers(b"other" * 8), BODY)
    assert not verify(TEXT, headers(), BODY + b" ")
    assert not verify(TEXT, headers() | {"webhook-id": "end_0-b"}, BODY)
    assert not verify(TEXT, headers() | {"webhook-signature": "v1,"}, BODY)
    assert not verify(TEXT, headers(at=-301), BODY)
    assert not verify(TEXT, headers(at=400), BODY)
    assert not verify(TEXT, headers() | {"webhook-timestamp": "soon"}, BODY)


def test_what_is_told_on_the_page_has_the_fields_of_what_is_sent() -> None:
    end, event = map(json.loads, re.findall(r'^\{"event".*?\}$', PAGE, re.DOTALL | re.MULTILINE))
    assert list(end) == ["event", "job_id", "status", "result", "error"]
    line = HistoryEvent(event["event"], 0, details={"payload": {}})
    assert list(event) == list(json.loads(event_message("0-a", 7, line)))


def test_the_receiver_of_the_page_prints_what_a_node_sent_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", TEXT)
    space: dict[str, Any] = {}
    exec(example("python"), space)
    with HTTPServer(("127.0.0.1", 0), space["Receiver"]) as server:
        serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            answers = [_post(server.server_port, headers(one)) for one in (SECRET, b"other" * 8)]
        finally:
            server.shutdown()
            serving.join()
    assert answers == [204, 401]
    assert capsys.readouterr().out == f"end_0-a {BODY.decode()}\n"


def _post(port: int, signature: dict[str, str]) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/", BODY, signature)
        return connection.getresponse().status
    finally:
        connection.close()
