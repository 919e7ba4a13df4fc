"""The README: every example on it is run, in real processes, as a reader would."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.e2e.cli_node import COMMAND, ROOT, Started, environment, serve, until
from tests.ports import free_ports

pytestmark = pytest.mark.own_store("it sets nothing but what the pages say")
TOKEN = "my-secret-client-token"
PAGES = {"README.md": "Quick start"}


def examples(page: str, section: str, language: str) -> list[str]:
    """The blocks of one language in a section of a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    (part,) = re.findall(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    return re.findall(rf"^```{language}\n(.*?)^```", part, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_the_quick_start_does_what_it_says(tmp_path: Path, page: str, started: list[Started]) -> None:
    blueprint, worker = examples(page, PAGES[page], "python")[:2]
    begin, ask = examples(page, PAGES[page], "sh")[:2]
    (tmp_path / "blueprints").mkdir()
    (tmp_path / "blueprints" / "greet.py").write_text(blueprint, encoding="utf-8")
    (tmp_path / "greeter.py").write_text(worker, encoding="utf-8")
    told = [shlex.split(line, comments=True)[1:] for line in begin.splitlines() if line.startswith("holon ")]
    assert told == [["serve", "--dev"], ["worker", "run", "greeter:worker"]]
    node, doors = serve(tmp_path, "--dev")
    started.append(node)
    started.append(Started(tmp_path, *told[1]))
    shell = f'holon() {{ {shlex.join(COMMAND)} "$@"; }}\n' + ask.replace("http://127.0.0.1:8080", doors["http"])
    done = subprocess.run(
        ["bash", "-euc", shell],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr + node.log
    by_command, _, by_http = done.stdout.partition('{"id":"')
    for shown in (by_command, by_http):
        assert "finished" in shown
        assert "Hello, Ada!" in shown


def test_the_node_of_a_program_of_ones_own_finishes_its_job_and_stops(tmp_path: Path) -> None:
    (program,) = examples("README.md", "In a program of your own", "python")
    (tmp_path / "my_app.py").write_text(program, encoding="utf-8")
    http, worker, client = free_ports(3)
    ports = {"API_PORT": str(http), "GRPC_PORT": str(worker), "CLIENT_GRPC_PORT": str(client)}
    process = subprocess.Popen(
        [sys.executable, "-u", "my_app.py"], cwd=tmp_path, env=environment(ports), stdout=subprocess.PIPE, text=True
    )
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{http}", headers={"X-Client-Token": TOKEN}, trust_env=False
        ) as door:
            until(lambda: answers(door), "the node answers")
            accepted = door.post("/api/v1/jobs/my_flow", json={"initial_data": {"x": 1}})
            assert accepted.status_code == 202, accepted.text
            job = f"/api/v1/jobs/{accepted.json()['job_id']}"
            until(lambda: door.get(job).json()["finished_at"], "the job is over")
            assert door.get(job).json()["status"] == "finished"
        process.send_signal(2)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert "Start: {'x': 1}" in out
    assert "Complete." in out
    assert out.endswith("Stopping.\n")
    assert process.returncode == 0


def answers(door: httpx.Client) -> bool:
    try:
        return door.get("/_public/status").is_success
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "CHANGELOG.md",
        *sorted(str(one.relative_to(ROOT)) for one in (ROOT / "docs").rglob("*.md") if "node_modules" not in one.parts),
    ],
)
def test_the_links_of_a_page_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), target
