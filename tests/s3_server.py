"""A real S3 for tests: a server of our own on a port of the loopback, with its files in a folder, gone at its end.

There are two, for neither is S3 itself: `nanio` checks signatures and keeps files over a restart, `moto` is what many
others test with.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

from holon.storage.s3_settings import S3Settings
from tests.ports import free_ports

BUCKET = "payloads"
ACCESS_KEY, SECRET_KEY = "tests", "a-secret-of-the-tests"

STARTS_S = 60
# What speaks to this machine goes through no proxy.
_OPEN = build_opener(ProxyHandler({})).open


class S3Server:
    """One server with one bucket; `kill` and `start` again is a crash, after which nanio has what it had.

    Arguments:
        kind: "nanio" or "moto".
    """

    def __init__(self, kind: str = "nanio") -> None:
        self._kind = kind
        self.checks_signatures = kind == "nanio"
        self._place = Path(tempfile.mkdtemp(prefix="holon-s3-"))
        [self.port] = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None
        (self._place / BUCKET).mkdir()
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def settings(self) -> dict[str, str]:
        """Those of a node that uses it."""
        return {
            "S3_ENDPOINT_URL": self.url,
            "S3_ACCESS_KEY": ACCESS_KEY,
            "S3_SECRET_KEY": SECRET_KEY,
            "S3_DEFAULT_BUCKET": BUCKET,
        }

    def client(self, *, bucket: str = BUCKET, secret: str = SECRET_KEY, concurrency: int = 100) -> S3Settings:
        """Those of a client."""
        return S3Settings(self.url, ACCESS_KEY, secret, "us-east-1", bucket, concurrency)

    def keys(self, prefix: str) -> list[str]:
        """What nanio keeps under a prefix, by a look at its files."""
        return [key for key in self.everything() if key.startswith(prefix)]

    def everything(self) -> list[str]:
        """All that nanio keeps."""
        root = self._place / BUCKET
        # Folders may go while they are walked through.
        found = (str((Path(folder) / name).relative_to(root)) for folder, _, names in os.walk(root) for name in names)
        return sorted(key for key in found if not key.startswith(".nanio-meta/"))

    def put(self, key: str, data: bytes = b"x") -> None:
        """Have nanio keep a file, past all of its calls."""
        file = self._place / BUCKET / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def start(self) -> None:
        where = ("127.0.0.1", str(self.port))
        commands = {
            "nanio": ["-m", "nanio", "serve", "--host", where[0], "--port", where[1], "--data-dir", str(self._place)],
            "moto": ["-m", "moto.server", "-H", where[0], "-p", where[1]],
        }
        env = {**os.environ, "NANIO_ACCESS_KEY": ACCESS_KEY, "NANIO_SECRET_KEY": SECRET_KEY}
        with (self._place / "log").open("ab") as log:
            command = [sys.executable, *commands[self._kind]]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=self._place)
        ends = time.monotonic() + STARTS_S
        while not self._answers():
            assert self._process.poll() is None, (self._place / "log").read_text()
            assert time.monotonic() < ends, "no S3 within a minute"
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            if self._kind == "moto":
                _OPEN(Request(f"{self.url}/{BUCKET}", method="PUT"), timeout=5).close()
            else:
                _OPEN(self.url, timeout=5).close()
        except URLError as error:
            # It answers, and refuses who shows no key.
            return hasattr(error, "code")
        return True

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._place)
