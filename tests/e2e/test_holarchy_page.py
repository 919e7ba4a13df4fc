"""The tutorial of three levels: every block of the page, in its order, in one shell, on ports that are free."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Timer

import httpx
import pytest

from tests.e2e.cli_node import COMMAND, GUARD, ROOT, environment, until
from tests.plaintext import PLAINTEXT
from tests.ports import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.own_store("it sets nothing but what the page says")]
PAGE = ROOT / "docs" / "holarchy.md"
# A block of code; a paragraph before it that ends with the name of a file says that the block is that file.
BLOCK = re.compile(r"(?:`([\w/]+\.\w+)`:\n\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PORTS = ("8080", "7700", "7701", "8081", "7710", "8082", "7720")
END = "end of the block"


class Shell:
    """One shell, into which blocks are typed one after the other; what it has started ends with it."""

    def __init__(self, folder: Path) -> None:
        self._errors = (folder / "shell.err").open("w+")
        path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self._bash = subprocess.Popen(
            ["bash", "-e"],
            cwd=folder / "work",
            env=environment({"PATH": path}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            start_new_session=True,
        )

    def run(self, block: str) -> str:
        """Type a block, and wait until each of its commands has succeeded; what they printed."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.write(f"{block}\necho; echo '{END}'\n")
        self._bash.stdin.flush()
        guard = Timer(GUARD, self._kill)
        guard.start()
        printed: list[str] = []
        for line in self._bash.stdout:
            if line == f"{END}\n":
                guard.cancel()
                return "".join(printed)
            printed.append(line)
        self._errors.seek(0)
        raise AssertionError(f"failed:\n{block}\n{''.join(printed)}{self._errors.read()}")

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._bash.pid, signal.SIGKILL)

    def close(self) -> None:
        self._kill()
        self._bash.communicate()
        self._errors.close()


class Tutorial:
    """The page's blocks, with this machine's free ports in them."""

    def __init__(self, folder: Path) -> None:
        self._work = folder / "work"
        self._ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
        found = re.sub(rf"\b({'|'.join(PORTS)})\b", lambda port: self._ports[port[0]], PAGE.read_text(encoding="utf-8"))
        self._blocks = iter(BLOCK.findall(found))
        self.shell = Shell(folder)

    def run(self, beginning: str) -> str:
        """Write files and run commands up to the block that begins with these words; what that printed."""
        for file, language, text in self._blocks:
            if file:
                (self._work / file).write_text(text, encoding="utf-8")
            elif language == "sh":
                printed = self.shell.run(text)
                if text.startswith(beginning):
                    return printed
        raise AssertionError(f"the page has no block {beginning!r} here")

    def rest(self) -> list[str]:
        """The blocks of commands that have not run."""
        return [text for _, language, text in self._blocks if language == "sh"]

    def until_linked(self) -> None:
        """Wait until both links stand, and each holon knows of those above it."""
        for place, above in (("8081", "1.0"), ("8082", "2.0")):
            so = {"holon_uplink_linked 1.0", f"holon_holarchy_depth {above}"}
            until(partial(self._shows, place, so), f"{place} is linked")

    def _shows(self, place: str, lines: set[str]) -> bool:
        return lines <= set(self._figures(place))

    def _figures(self, place: str) -> list[str]:
        with contextlib.suppress(httpx.TransportError):
            url = f"http://127.0.0.1:{self._ports[place]}/_public/metrics"
            return httpx.get(url, trust_env=False, verify=PLAINTEXT, timeout=GUARD).text.splitlines()
        return []

    def until_tree(self, shows: str) -> str:
        """Wait until the tree of the page's job shows something; the tree."""
        seen: list[str] = []

        def so() -> bool:
            seen[:] = [self.shell.run("holon jobs tree $job")]
            return re.search(shows, seen[0]) is not None

        until(so, f"the tree shows {shows}")
        return seen[0]


@pytest.fixture
def tutorial(tmp_path: Path) -> Iterator[Tutorial]:
    (tmp_path / "bin").mkdir()
    (tmp_path / "work").mkdir()
    command = tmp_path / "bin" / "holon"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{COMMAND[-1]}" "$@"\n')
    command.chmod(0o755)
    followed = Tutorial(tmp_path)
    yield followed
    followed.shell.close()


def test_the_tutorial_does_what_it_says(tutorial: Tutorial) -> None:
    tutorial.run("start() {")
    tutorial.until_linked()
    above = "holon_uplink_linked 1.0\nholon_holarchy_depth {}.0\n"
    assert tutorial.run("curl") == above.format(1) + above.format(2) + "\n"
    assert "survey" in tutorial.run("(cd hq && holon workers list)")
    workers = "ADMIN_SOCKET=site/admin.sock holon workers list"
    until(lambda: tutorial.shell.run(workers).count("count_words") == 2, "both workers are connected")
    created = tutorial.run("cd hq\nholon jobs create")
    assert re.search(r"^cost +2000000\nresult +\{\"words\":5\}$", created, re.MULTILINE)

    tutorial.run("job=")
    assert "waiting_for_worker" in tutorial.until_tree("running  by w1")
    assert " count " in tutorial.run("ADMIN_SOCKET")
    lost = tutorial.run("kill -9")
    assert re.search(r"^cost +3000000 of 6000000\nresult +\{\"words\":5\}$", lost, re.MULTILINE)
    assert re.search(r"task count_words  #0-0  success  attempt 2  by w2  cost 1000000", lost)
    assert re.search(r"task count  #0-[01]  success  by site  cost 2000000", lost)

    tutorial.run("job=")
    tutorial.until_tree("running  by w2")
    assert "CANCELLED: cancelled by client 'default': no longer needed" in tutorial.run("holon jobs cancel")
    tree = tutorial.until_tree("cancelled after its clean-up")
    assert "CANCELLED: cancelled by the parent holon" in tree
    assert "task tidy  #1-0  success  by w2  cost 0" in tree

    tutorial.run("sed")
    tutorial.until_linked()
    assert re.search(r"^result +\{\"words\":5\}$", tutorial.run("cd hq"), re.MULTILINE)
    tutorial.run("cd ..\nkill")
    tutorial.shell.run("wait")
    assert tutorial.rest() == []
