"""Names of files: what a handler may call one, and the key that this is in the bucket; never outside of its job."""

from __future__ import annotations

from pathlib import PurePosixPath

from holon.domain import file_names
from holon.domain.file_names import Parts, no_name, shown
from holon.errors import PermissionDenied

MAX_KEY_BYTES = 1024
_SCHEME = "s3://"


def prefix_of(job_id: str) -> str:
    """Under what the files of a job are in the bucket."""
    return f"jobs/{job_id}/"


def parts_of(name: object) -> Parts:
    """What a handler gives for a name, as its parts.

    Raises:
        InvalidArgument: (FILE_NAME_INVALID) it is none, or could lead elsewhere.
    """
    if not isinstance(name, str | PurePosixPath):
        raise no_name(name, f"it is a {type(name).__name__}; give text")
    return file_names.parts_of(str(name))


def key_of(prefix: str, parts: Parts) -> str:
    """The key of a file.

    Raises:
        InvalidArgument: (FILE_NAME_INVALID) it is too long for one.
    """
    key = prefix + "/".join(parts)
    if (length := len(key.encode())) > MAX_KEY_BYTES:
        raise no_name("/".join(parts), f"its key has {length} bytes, over the limit of {MAX_KEY_BYTES}")
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
            f"{shown(name_or_uri)} is not in the bucket of this node, {bucket!r} (S3_DEFAULT_BUCKET); this job "
            "cannot use it",
            code="FILE_FOREIGN",
        )
    if not key.startswith(prefix):
        raise PermissionDenied(
            f"{shown(name_or_uri)} is not a file of this job; its files are below s3://{bucket}/{prefix}",
            code="FILE_FOREIGN",
        )
    rest = key.removeprefix(prefix)
    return parts_of(rest) if rest else ()


def is_folder(name_or_uri: object) -> bool:
    """Whether a name or URI is that of a folder."""
    return str(name_or_uri).endswith("/")
