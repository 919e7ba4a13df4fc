"""JSON text, read: what a node has no memory for is not called wrong."""

from __future__ import annotations

import gc
from typing import Any

import orjson

from holon.errors import RETRY_S, Unavailable

# In bytes: text of which thousands of values may be made.
LARGE = 16 * 1024


def parse(text: bytes) -> Any:
    """The value of JSON text.

    Raises:
        ValueError: it is no JSON.
        Unavailable: the node has no memory to read it.
    """
    try:
        return orjson.loads(text) if len(text) < LARGE else _all_at_once(text)
    except ValueError as error:
        # The same kind of error, which says nothing of the text.
        if "not enough memory" in str(error).lower():
            reason = f"the node lacks memory to read {len(text)} bytes of JSON; retry later"
            raise Unavailable(reason, retry_after=RETRY_S) from error
        raise


def _all_at_once(text: bytes) -> Any:
    """The value of large text, without the garbage collector.

    Up to Python 3.11 it comes in between for every few thousand lists and objects, of which none is garbage yet, and
    walks those that are there already again and again.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        return orjson.loads(text)
    finally:
        # In two threads at once it may be on where this ends: nothing depends on it.
        if collects:
            gc.enable()
