"""The worker SDK: give functions as skills to a node, and run what it asks for."""

from __future__ import annotations

from holon.worker.cancelled import Cancelled
from holon.worker.events import SendEvent
from holon.worker.files import BlockingFiles, Files, Sent
from holon.worker.link import Replaced
from holon.worker.log import Log
from holon.worker.outcome import Result, TaskError
from holon.worker.progress import Progress
from holon.worker.worker import Worker

__all__ = [
    "BlockingFiles",
    "Cancelled",
    "Files",
    "Log",
    "Progress",
    "Replaced",
    "Result",
    "SendEvent",
    "Sent",
    "TaskError",
    "Worker",
]
