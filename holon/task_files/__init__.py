"""Files of a job, for its handlers: kept in a bucket, with copies in a folder of its own on the node that runs it."""

from __future__ import annotations

from holon.task_files.files import TaskFiles
from holon.task_files.folder import Folder
from holon.task_files.names import prefix_of

__all__ = ["Folder", "TaskFiles", "prefix_of"]
