"""Files of a job, for its handlers: kept in a bucket, with copies in a folder of its own on the node that runs it."""

from __future__ import annotations

from holon.task_files.files import MAX_EXPIRES_S, TaskFiles
from holon.task_files.folder import Folder
from holon.task_files.names import key_of, prefix_of

__all__ = ["MAX_EXPIRES_S", "Folder", "TaskFiles", "key_of", "prefix_of"]
