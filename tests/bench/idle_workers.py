"""The bench: many workers in one process that only send heartbeats, each with its own certificate and connection."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from holon.rxon.v1 import worker_pb2
from holon.security.certificates import open_authority
from holon.wire.address import NodeUrl, parse_url
from holon.worker.channel import open_channel, open_stream
from holon.worker.settings import DEFAULT_PORT, Credentials
from tests.bench.blueprints import SKILL
from tests.bench.control import obey, say

# How many connect at once.
_CONNECTING = 8


class Papers:
    """Makes client certificates, all of them with one key, which changes nothing for the node.

    Their files are not made durable: for a thousand of them that would take longer than connecting.

    Arguments:
        folder: where the authority is, and where they go.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._authority = open_authority(folder)
        self._key = ec.generate_private_key(ec.SECP256R1())
        # Another process may make papers of the same names here.
        self._stem = f"idle-{os.getpid()}"
        self._key_file = folder / f"{self._stem}.key"
        self._key_file.touch(0o600)
        self._key_file.write_bytes(
            self._key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )

    def credentials(self, name: str) -> Credentials:
        """Return what a worker of this name connects with."""
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._authority.certificate.subject)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .sign(self._authority.key, hashes.SHA256())
        )
        file = self._folder / f"{self._stem}-{name}.pem"
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return Credentials(ca=self._authority.files.certificate, certificate=file, key=self._key_file)


class Idle:
    """So many workers of one node.

    Attributes:
        heartbeats: how many were answered.
    """

    def __init__(self, node: NodeUrl, papers: Papers, names: list[str]) -> None:
        self.heartbeats = 0
        self._node = node
        self._papers = papers
        self._names = names
        self._missing = len(names)
        self._connecting = asyncio.Semaphore(_CONNECTING)
        self._all_here = asyncio.Event()

    async def run(self) -> None:
        """Connect all and keep them, until the parent is gone.

        Raises:
            RuntimeError: the node said anything but what it must.
            AioRpcError: it refused a worker, or sent one away.
        """
        async with asyncio.TaskGroup() as group:
            sessions = [group.create_task(self._session(name)) for name in self._names]

            def leave() -> None:
                for session in sessions:
                    session.cancel()

            await self._all_here.wait()
            say(ready=True)
            await obey(leave, lambda: self.heartbeats)

    async def _session(self, name: str) -> None:
        await self._connecting.acquire()
        credentials = self._papers.credentials(name)
        channel, _ = open_channel(self._node, credentials)
        async with channel:
            call = open_stream(channel, ())
            await call.write(worker_pb2.SessionRequest(hello=_hello(name)).SerializeToString())
            welcome = _expected("welcome", await call.read()).welcome
            self._connecting.release()
            self._missing -= 1
            if not self._missing:
                self._all_here.set()
            interval = welcome.heartbeat_interval.ToTimedelta().total_seconds()
            sequence = 0
            # As a fleet's: never all at one time.
            await asyncio.sleep(interval * random.random())
            while True:
                sequence += 1
                beat = worker_pb2.Heartbeat(sequence=sequence)
                await call.write(worker_pb2.SessionRequest(heartbeat=beat).SerializeToString())
                _expected("heartbeat_ack", await call.read())
                self.heartbeats += 1
                await asyncio.sleep(interval)


def _hello(name: str) -> worker_pb2.Hello:
    offering = worker_pb2.Offering(skill=SKILL)
    return worker_pb2.Hello(
        worker_id=name,
        credits=1,
        catalog=worker_pb2.Catalog(sequence=1, offerings=[offering]),
    )


def _expected(kind: str, frame: object) -> worker_pb2.SessionResponse:
    if not isinstance(frame, worker_pb2.SessionResponse) or frame.WhichOneof("message") != kind:
        raise RuntimeError(f"the node was to say {kind}, and said {frame}")
    return frame


async def main(folder: Path, first: int, count: int) -> None:
    """Keep `count` workers, named by numbers from `first` on; the authority in `folder` vouches for them."""
    names = [f"idle-{number}" for number in range(first, first + count)]
    await Idle(parse_url(os.environ["NODE_URL"], DEFAULT_PORT), Papers(folder), names).run()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
