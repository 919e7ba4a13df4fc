"""JSON text, read: what a node has no memory for is not called wrong."""

from __future__ import annotations

from typing import Any

import orjson

from holon.errors import RETRY_S, Unavailable


def parse(text: bytes) -> Any:
    """The value of JSON text.

    Raises:
        ValueError: it is no JSON.
        Unavailable: the node has no memory to read it.
    """
    try:
        return orjson.loads(text)
    except ValueError as error:
        # The same kind of error, which says nothing of the text.
        if "not enough memory" in str(error).lower():
            reason = f"the node has no memory to read {len(text)} bytes of JSON; try again"
            raise Unavailable(reason, retry_after=RETRY_S) from error
        raise
