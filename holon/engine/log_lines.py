"""Log lines: from the worker that writes them to whoever follows the job, at whatever node. Nothing waits for them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from msgspec import MsgspecError
from msgspec.msgpack import Decoder, Encoder

from holon.domain.log_lines import Logged
from holon.engine.kept import Sealing
from holon.errors import StoreUnavailable
from holon.ports import Storage

log = logging.getLogger(__name__)

_encode = Encoder().encode
_decode = Decoder(Logged).decode
# Where they would be, for what seals them.
_TABLE, _WHAT = "said", "lines"


class LogLines:
    """Tells of lines who follows jobs at this node, and by the store the other nodes that watch them.

    Arguments:
        store: knows which other nodes watch a job.
        seal: for what goes through the store; None leaves that as it is.

    Attributes:
        followers: called with a job and what was said of it; they neither wait nor raise.
    """

    def __init__(self, store: Storage, seal: Sealing | None) -> None:
        self.followers: list[Callable[[str, Logged], None]] = []
        self._store = store
        self._seal = seal

    def __repr__(self) -> str:
        return f"LogLines(shared={self._store.shared})"

    def said(self, job_id: str, logged: Logged) -> None:
        """A worker of this node wrote lines for a job."""
        for follower in self.followers:
            follower(job_id, logged)
        if self._store.shared:
            words = _encode(logged)
            self._store.pass_on(job_id, words if self._seal is None else self._seal.seal(_TABLE, job_id, _WHAT, words))

    def heard(self, said: Iterable[tuple[str, bytes]]) -> None:
        """Another node passed lines on."""
        for job_id, words in said:
            try:
                opened = words if self._seal is None else self._seal.open(_TABLE, job_id, _WHAT, words)
                logged = _decode(opened)
            except (StoreUnavailable, MsgspecError) as error:
                log.warning("log lines for job %s cannot be read: %s", job_id, error, extra={"job_id": job_id})
                continue
            for follower in self.followers:
                follower(job_id, logged)
