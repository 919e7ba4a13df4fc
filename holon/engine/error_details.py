"""What is said in detail of a failure, as far as its job can be given it."""

from __future__ import annotations

from typing import Any

import orjson

from holon.domain.causes import causes_in, leaving_out
from holon.domain.task import TaskError
from holon.domain.value import replace
from holon.engine.payloads import decode_within, too_much
from holon.errors import InvalidArgument
from holon.json_in import parse

_WHAT = "the details of the result's error"


def with_details(error: TaskError, most: int, *, is_holon: bool) -> tuple[TaskError, Any]:
    """An error with details that its job can be given, and what they say.

    Where a holon says too much, that is left out, but for what happened at the levels below: what failed there is known
    by its code, whatever more is told of it. What a worker says that looks like levels below stands under `details`.

    Arguments:
        most: so many bytes are taken.
        is_holon: whether a holon says it, or this one of a part of its job.
    Raises:
        InvalidArgument: they cannot be read; or a worker says too much.
    """
    try:
        details = decode_within(error.details, most, _WHAT)
    except InvalidArgument as refused:
        if not is_holon:
            raise
        return _without(error, most, refused)
    if is_holon or not causes_in(details)[0]:
        return error, details
    own = b'{"details":%b}' % error.details
    return replace(error, details=own), decode_within(own, most, _WHAT)


def _without(error: TaskError, most: int, refused: InvalidArgument) -> tuple[TaskError, Any]:
    try:
        said = parse(error.details)
    except ValueError:
        raise refused from None
    kept = leaving_out(said, too_much(error.details, most) or refused.message)
    return replace(error, details=orjson.dumps(kept)), kept
