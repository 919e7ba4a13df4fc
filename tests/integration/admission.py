"""Who a node lets in at its worker door, and how those learn that it lets in no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc

from holon.clock import SystemClock
from holon.security.admission import Admission
from holon.security.identity import certificates_in
from holon.security.revocation import load_lists
from holon.security.trust import Trust
from holon.security.worker_rules import WorkerRules
from holon.security.workers_file import load_workers
from tests.integration.grpc_node import WORKER_TOKEN, Wire, authority, reason_of

CODE = grpc.StatusCode
REVOKED = (CODE.PERMISSION_DENIED, "REVOKED")


def rules(folder: Path, text: str) -> WorkerRules:
    path = folder / "workers.toml"
    path.write_text(text or "# Nobody is special.")
    path.chmod(0o600)
    return load_workers(str(path), WORKER_TOKEN)


def admission(folder: Path, text: str = "", trust: Trust | None = None, **more: Any) -> Admission:
    clock = more.pop("clock", None) or SystemClock()
    return Admission(clock, rules(folder, text), trust or trusting(), WORKER_TOKEN)


def trusting(*names: str, lists: Path | None = None, strict: bool = True) -> Trust:
    pem = b"".join(authority(name).files.certificate.read_bytes() for name in names or ("ours",))
    found = load_lists(str(lists), certificates_in(pem), SystemClock().now_ms()) if lists else ()
    return Trust(pem, found, strict=strict)


async def end_of(wire: Wire) -> tuple[grpc.StatusCode, str]:
    """How a stream ends: its code, and the node's reason, or what the library says where there is none."""
    end = await wire.end()
    return end.code(), reason_of(end) or end.details() or ""
