"""The worker SDK: which of a node's addresses to try next."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Sequence

from holon.wire.address import NodeUrl, parse_url
from holon.worker.settings import DEFAULT_PORT

_log = logging.getLogger("holon.worker")


class Urls:
    """The addresses in turn, those that a node named before the others."""

    def __init__(self, configured: Sequence[NodeUrl]) -> None:
        self._configured = deque(configured)
        self._preferred: deque[NodeUrl] = deque()
        self._all_secure = all(url.secure for url in configured)

    def __repr__(self) -> str:
        return f"Urls({', '.join(map(str, (*self._preferred, *self._configured)))})"

    def next(self) -> NodeUrl:
        """The address to try now; a configured one goes to the end of the line, a preferred one is tried once."""
        if self._preferred:
            return self._preferred.popleft()
        url = self._configured[0]
        self._configured.rotate(-1)
        return url

    def prefer(self, texts: Iterable[str]) -> None:
        """Try these first. One that is no address, or not encrypted where all ours are, is left out."""
        self._preferred.clear()
        for text in texts:
            try:
                url = parse_url(text, DEFAULT_PORT)
            except ValueError as error:
                _log.warning("the address that the node names is ignored: %s", error)
                continue
            if url.secure or not self._all_secure:
                self._preferred.append(url)
            else:
                _log.warning("the node names %s, which is not encrypted; it is ignored", url)
