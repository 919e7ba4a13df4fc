"""What a file of a job or a task may be called: a name never leads out of the place that it is in."""

from __future__ import annotations

from typing import TypeAlias

from holon.errors import InvalidArgument

MAX_PART_BYTES = 255
_SHOWN = 200

# A path below a place, part by part; none: the place itself.
Parts: TypeAlias = tuple[str, ...]


def parts_of(name: str) -> Parts:
    """A name as its parts. It is a path with `/`, as `results.json` or `pages/1.png`; one `/` at its end is no part.

    Raises:
        InvalidArgument: (FILE_NAME_INVALID) it is none, or could lead elsewhere.
    """
    if not name or name == "/":
        raise no_name(name, "it is empty")
    if name.startswith("/"):
        raise no_name(name, "it is absolute; give a path in the job's files, such as pages/1.png")
    parts = tuple(name.removesuffix("/").split("/"))
    for part in parts:
        if part in ("", ".", ".."):
            raise no_name(name, f"it has the part {part!r}")
        if any(char < " " or char in "\x7f\\" for char in part):
            raise no_name(name, "it has a control character or a backslash")
        try:
            length = len(part.encode())
        except UnicodeEncodeError:
            raise no_name(name, "it is not UTF-8") from None
        if length > MAX_PART_BYTES:
            raise no_name(name, f"a part of it has {length} bytes, over the limit of {MAX_PART_BYTES}")
    return parts


def shown(text: str) -> str:
    """A name as an error shows it: not all of a long one."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def no_name(name: object, why: str) -> InvalidArgument:
    """The refusal of a name."""
    return InvalidArgument(f"{shown(str(name))} is not a valid file name: {why}", code="FILE_NAME_INVALID")
