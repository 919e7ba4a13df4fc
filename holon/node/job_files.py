"""Files of jobs, where the settings say that they are kept."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from urllib.parse import urlsplit

from holon.config import Config
from holon.config.rules import is_loopback
from holon.engine.job_files import FilesPlace
from holon.errors import ConfigError, Violation
from holon.files import make_folder
from holon.node.settings import s3_settings

log = logging.getLogger(__name__)


def files_of(config: Config, holon_id: str) -> FilesPlace | None:
    """Where the files of a holon's jobs are; None: they have none. Blocks while its folder is made.

    Whether S3 can be reached is not looked at: a node runs without, and its jobs wait for it.

    Raises:
        ConfigError: what that needs is not installed, or the folder cannot be used.
    """
    if not config.keeps_files:
        return None
    try:
        from holon.storage.blobs import S3Blobs
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"files of jobs need the package {error.name}: pip install 'holon-node[s3]', or unset S3_ENDPOINT_URL"
        ) from error
    endpoint = urlsplit(config.S3_ENDPOINT_URL)
    if endpoint.scheme == "http" and not is_loopback(endpoint.hostname or ""):
        log.warning("S3_ENDPOINT_URL is not encrypted, so others on the network can read and change files of jobs")
    folder = _own_folder(Path(config.TASK_FILES_DIR), holon_id)
    # Clients may be slow, and handlers need S3 meanwhile.
    uploads = max(1, config.S3_MAX_CONCURRENCY // 2)
    return FilesPlace(S3Blobs(s3_settings(config)), folder, holon_id, config.S3_AUTO_CLEANUP, uploads)


def _own_folder(base: Path, holon_id: str) -> Path:
    """The folder of a holon, which nobody else can put anything into."""
    folder = base.absolute() / holon_id
    try:
        make_folder(base)
        for one in (base, folder):
            one.mkdir(0o700, exist_ok=True)
            facts = one.lstat()
            if not stat.S_ISDIR(facts.st_mode):
                raise _wrong(f"{one} is a link; use the path of the folder itself")
            if facts.st_uid not in (os.geteuid(), 0) or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise _wrong(f"other users of this machine can change {one}; chown it, or chmod 700 {one}")
    except OSError as error:
        raise _wrong(f"{base} cannot be created or used: {error.strerror}") from error
    return folder


def _wrong(reason: str) -> ConfigError:
    return ConfigError(f"TASK_FILES_DIR: {reason}", details=[Violation("TASK_FILES_DIR", reason)])
