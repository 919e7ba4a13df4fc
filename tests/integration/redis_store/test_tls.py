"""Redis over TLS: one server, the master that sentinels name, and a cluster; certificates are checked."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from holon.errors import ConfigError
from holon.ports import StoreSettings
from holon.security import certificates
from holon.storage.redis import RedisStorage
from tests.claims import claimed
from tests.e2e.processes import until
from tests.ports import free_ports
from tests.redis_server import RedisServer, binaries


@dataclass(frozen=True)
class Secured:
    """What servers that speak TLS alone are started with. `binary` is one that can."""

    place: Path
    binary: str
    files: dict[str, Path]

    def options(self, port: int, *more: str) -> tuple[str, ...]:
        """Those of a server."""
        files = [part for option, path in self.files.items() for part in (f"--{option}", str(path))]
        return ("--bind", "127.0.0.1", "--tls-port", str(port), "--tls-auth-clients", "no", *files, *more)

    def server(self, port: int, *more: str, cluster: bool = False) -> RedisServer:
        return RedisServer(self.binary, cluster=cluster, options=self.options(port, *more))

    def client(self, port: int) -> Redis:
        return Redis(port=port, ssl=True, ssl_ca_certs=str(self.files["tls-ca-cert-file"]))

    @property
    def query(self) -> str:
        """What the store's URI says of it."""
        return f"?ssl_ca_certs={self.files['tls-ca-cert-file']}"


@pytest.fixture
def secured(tmp_path: Path) -> Secured:
    """With the first server here that speaks TLS; where none does the test is skipped, or in CI fails."""
    pair = certificates.issue_server(certificates.open_authority(tmp_path), tmp_path, days=2)
    files = {"tls-cert-file": pair.certificate, "tls-key-file": pair.key, "tls-ca-cert-file": tmp_path / "ca.pem"}
    said = ""
    for binary in binaries():
        found = Secured(tmp_path, binary, files)
        try:
            found.server(free_ports(1)[0]).close()
        except RuntimeError as error:
            said = str(error)
            if "FATAL CONFIG FILE ERROR" not in said:
                # It is not that this one knows no TLS.
                raise
        else:
            return found
    if os.environ.get("CI"):
        pytest.fail(said)
    pytest.skip(f"no redis-server here has TLS; Debian's has it (scripts/test --system): {said[:200]}")


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


async def test_a_store_is_reached_over_tls_and_the_servers_certificate_is_checked(secured: Secured, port: int) -> None:
    server = secured.server(port)
    try:
        async with RedisStorage(f"rediss://localhost:{port}{secured.query}", StoreSettings("a")) as storage:
            assert await claimed(storage) == []
        with pytest.raises(ConfigError, match=r"cannot be reached: .*certificate verify failed"):
            async with RedisStorage(f"rediss://localhost:{port}", StoreSettings("a")):
                pass
        with pytest.raises(ConfigError, match=r"cannot be reached: .*see whether it speaks TLS"):
            async with RedisStorage(f"redis://localhost:{port}", StoreSettings("a")):
                pass
    finally:
        server.close()


@pytest.fixture
def sentinel(secured: Secured, port: int) -> Iterator[int]:
    """The port of a sentinel that watches a master; both speak TLS alone."""
    master = secured.server(port, "--tls-replication", "yes")
    [own] = free_ports(1)
    files = "".join(f"{option} {path}\n" for option, path in secured.files.items())
    settings = secured.place / "sentinel.conf"
    settings.write_text(
        f"port 0\ntls-port {own}\nbind 127.0.0.1\ndir {secured.place}\n{files}tls-auth-clients no\n"
        f"tls-replication yes\nsentinel monitor jobs 127.0.0.1 {port} 1\n"
    )
    process = subprocess.Popen([secured.binary, str(settings), "--sentinel"], stdout=subprocess.DEVNULL)
    yield own
    process.kill()
    process.wait()
    master.close()


async def test_sentinels_and_the_master_that_they_name_are_reached_over_tls(secured: Secured, sentinel: int) -> None:
    async def watching() -> bool:
        try:
            async with secured.client(sentinel) as client:
                facts = await client.execute_command("SENTINEL", "MASTER", "jobs")  # type: ignore[no-untyped-call]
                return "disconnected" not in str(facts)
        except (RedisError, OSError):
            return False

    await until(watching, "the sentinel watches the master")
    named = f"rediss+sentinel://127.0.0.1:{sentinel}/jobs"
    async with RedisStorage(f"{named}{secured.query}", StoreSettings("a")) as storage:
        assert await claimed(storage) == []
    with pytest.raises(ConfigError, match="no sentinel names a master"):
        async with RedisStorage(named, StoreSettings("a")):
            pass


async def test_the_masters_of_a_cluster_are_reached_over_tls(secured: Secured) -> None:
    # A node's peers are where its clients are, and 10,000 higher.
    port = free_ports(1, bus=10_000)[0] - 10_000
    server = secured.server(port, "--cluster-enabled", "yes", "--tls-cluster", "yes", cluster=True)
    try:
        async with secured.client(port) as client:
            await client.execute_command("CLUSTER", "ADDSLOTS", *range(16_384))  # type: ignore[no-untyped-call]

            async def well() -> bool:
                info = await client.execute_command("CLUSTER", "INFO")  # type: ignore[no-untyped-call]
                return b"cluster_state:ok" in info

            await until(well, "the cluster has all its slots")
        named = f"rediss+cluster://127.0.0.1:{port}"
        async with RedisStorage(f"{named}{secured.query}", StoreSettings("a")) as storage:
            assert await claimed(storage) == []
        with pytest.raises(ConfigError, match="cannot be reached"):
            async with RedisStorage(named, StoreSettings("a")):
                pass
    finally:
        server.close()
