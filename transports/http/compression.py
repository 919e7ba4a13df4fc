"""The HTTP door: answers compressed by gzip, for clients that take it."""

from __future__ import annotations

import asyncio
import re
import zlib
from functools import lru_cache

from holon.domain.value import Value, replace
from holon.transports.http.asgi import Packing, Reply

# Shorter answers gain nothing: their packets are as many.
LEAST_BYTES = 1024
# Compressing so much takes less than a millisecond; more is done in a thread.
_INLINE_BYTES = 32 * 1024
_FAST, _SMALL = 1, 6
_GZIP = 31
_TYPES = (b"application/json", b"text/")
_VARY = (b"vary", b"accept-encoding")
_ENCODED = (b"content-encoding", b"gzip")
# One element of Accept-Encoding (RFC 9110): a coding, and perhaps its weight.
_ELEMENT = re.compile(r"([!#$%&'*+.^_`|~0-9a-z-]+)(?:[ \t]*;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?")


class Accepted(Value):
    """What a client takes: gzip before plain bytes, and plain bytes at all."""

    gzip: bool = False
    plain: bool = True


@lru_cache(maxsize=64)
def accepted(header: bytes) -> Accepted:
    """What the value of Accept-Encoding says; empty says nothing. An element that is none is passed over."""
    weights: dict[str, float] = {}
    for element in header.decode("latin-1").lower().split(","):
        if found := _ELEMENT.fullmatch(element.strip(" \t")):
            weights[found[1]] = float(found[2] or 1)
    other = weights.get("*")
    gzip = weights.get("gzip", weights.get("x-gzip", other or 0.0))
    plain = weights.get("identity", other)
    # A client that does not name it takes it, but rather has what it names.
    return Accepted(0 < gzip >= (plain or 0.0), plain != 0.0)


class Compressor:
    """Compresses answers. It keeps those that are the same for as long as the node runs."""

    def __init__(self) -> None:
        self._kept: dict[bytes, bytes] = {}

    def __repr__(self) -> str:
        return f"<Compressor kept={len(self._kept)}>"

    async def compressed(self, reply: Reply, accepted: Accepted) -> Reply:
        """Return the answer as its client takes it: compressed, or as it is, and with what caches must know of that."""
        body = reply.body
        if reply.packing is Packing.NEVER or not reply.media_type.startswith(_TYPES):
            return reply
        if len(body) <= LEAST_BYTES and accepted.plain:
            return reply
        if not accepted.gzip:
            return replace(reply, headers=(*reply.headers, _VARY))
        if reply.packing is Packing.EACH:
            small = len(body) <= _INLINE_BYTES
            packed = _gzip(body, _FAST) if small else await asyncio.to_thread(_gzip, body, _FAST)
        elif (known := self._kept.get(body)) is not None:
            packed = known
        else:
            packed = self._kept[body] = await asyncio.to_thread(_gzip, body, _SMALL)
        return replace(reply, body=packed, headers=(*reply.headers, _VARY, _ENCODED))


def _gzip(body: bytes, level: int) -> bytes:
    work = zlib.compressobj(level, zlib.DEFLATED, _GZIP)
    return work.compress(body) + work.flush()
