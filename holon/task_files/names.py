"""Names of files: what a handler may call one, and the key that this is in the bucket; never outside of its job."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TypeAlias

from holon.errors import InvalidArgument, PermissionDenied

MAX_KEY_BYTES = 1024
MAX_PART_BYTES = 255
_SCHEME = "s3://"
_SHOWN = 200

# A path below the job's own place, part by part; none: that place.
Parts: TypeAlias = tuple[str, ...]


def prefix_of(job_id: str) -> str:
    """Under what the files of a job are in the bucket."""
    return f"jobs/{job_id}/"


def parts_of(name: object) -> Parts:
    """A name as its parts. It is a path with `/`, as `results.json` or `pages/1.png`; one `/` at its end is no part.

    Raises:
        InvalidArgument: (FILE_NAME_INVALID) it is none, or could lead elsewhere.
    """
    if not isinstance(name, str | PurePosixPath):
        raise _wrong(name, f"it is a {type(name).__name__}; give text")
    text = str(name)
    if not text or text == "/":
        raise _wrong(text, "it is empty")
    if text.startswith("/"):
        raise _wrong(text, "it is absolute; give a path below the job's own files, such as pages/1.png")
    parts = tuple(text.removesuffix("/").split("/"))
    for part in parts:
        if part in ("", ".", ".."):
            raise _wrong(text, f"it has {part!r} for a part")
        if any(char < " " or char in "\x7f\\" for char in part):
            raise _wrong(text, "it has a control character or a backslash")
        try:
            length = len(part.encode())
        except UnicodeEncodeError:
            raise _wrong(text, "it is no Unicode text") from None
        if length > MAX_PART_BYTES:
            raise _wrong(text, f"a part of it has {length} bytes, over the limit of {MAX_PART_BYTES}")
    return parts


def key_of(prefix: str, parts: Parts) -> str:
    """The key of a file.

    Raises:
        InvalidArgument: (FILE_NAME_INVALID) it is too long for one.
    """
    key = prefix + "/".join(parts)
    if (length := len(key.encode())) > MAX_KEY_BYTES:
        raise _wrong("/".join(parts), f"as a key it has {length} bytes, over the limit of {MAX_KEY_BYTES}")
    return key


def named(name_or_uri: object, bucket: str, prefix: str) -> Parts:
    """A name, or the URI of a file of the same job, as its parts.

    Raises:
        InvalidArgument: as `parts_of`.
        PermissionDenied: (FILE_FOREIGN) the URI is of another bucket or another job.
    """
    if not (isinstance(name_or_uri, str) and name_or_uri.startswith(_SCHEME)):
        return parts_of(name_or_uri)
    where, _, key = name_or_uri.removeprefix(_SCHEME).partition("/")
    if where != bucket:
        raise PermissionDenied(
            f"{_shown(name_or_uri)} is in another bucket than this node's, {bucket!r} (S3_DEFAULT_BUCKET); "
            "its files are not this job's to use",
            code="FILE_FOREIGN",
        )
    if not key.startswith(prefix):
        raise PermissionDenied(
            f"{_shown(name_or_uri)} is no file of this job: those are below s3://{bucket}/{prefix}",
            code="FILE_FOREIGN",
        )
    rest = key.removeprefix(prefix)
    return parts_of(rest) if rest else ()


def is_folder(name_or_uri: object) -> bool:
    """Whether a name or URI is that of a folder."""
    return str(name_or_uri).endswith("/")


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def _wrong(name: object, why: str) -> InvalidArgument:
    return InvalidArgument(f"{_shown(str(name))} is no name of a file: {why}", code="FILE_NAME_INVALID")
