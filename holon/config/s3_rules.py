"""What the settings of the files of jobs must fulfil together."""

from __future__ import annotations

import re
from collections.abc import Iterator

from holon.config.places import made_problem
from holon.config.settings import Settings
from holon.config.values import has_port, shown
from holon.errors import Violation

_S3 = ("S3_ENDPOINT_URL", "S3_ACCESS_KEY", "S3_SECRET_KEY")
_S3_URL = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?/?")
_REGION = re.compile(r"[A-Za-z0-9-]{1,64}")
# What every S3 takes; underscores and capitals are in old buckets of some.
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_KEY = re.compile(r"[\x21-\x7e]{1,4096}")


def s3_problems(settings: Settings) -> Iterator[Violation]:
    """Yield what is wrong with the S3 of the files of jobs, and with their folder."""
    unset = [name for name in _S3 if not getattr(settings, name)]
    if len(unset) == len(_S3):
        if settings.TASK_FILES_DIR != Settings.TASK_FILES_DIR:
            yield Violation("TASK_FILES_DIR", f"is for files in S3; set {', '.join(_S3)}, or unset it")
        return
    for name in unset:
        yield Violation(name, f"is unset; {', '.join(_S3)} belong together; set all or none")
    endpoint = settings.S3_ENDPOINT_URL
    if endpoint and not (_S3_URL.fullmatch(endpoint) and has_port(endpoint)):
        yield Violation(
            "S3_ENDPOINT_URL",
            f"{shown(endpoint)!r} is not the address of an S3; write https://host or https://host:port, without the "
            "bucket",
        )
    for name in _S3[1:]:
        if (key := getattr(settings, name)) and not _KEY.fullmatch(key):
            yield Violation(name, "must be at most 4096 visible ASCII characters without spaces")
    if not _REGION.fullmatch(settings.S3_REGION):
        yield Violation("S3_REGION", f"{settings.S3_REGION!r} is not a region; write one like us-east-1")
    if not _BUCKET.fullmatch(settings.S3_DEFAULT_BUCKET):
        yield Violation("S3_DEFAULT_BUCKET", f"{settings.S3_DEFAULT_BUCKET!r} is not a valid bucket name")
    if reason := made_problem(settings.TASK_FILES_DIR):
        yield Violation("TASK_FILES_DIR", reason)
