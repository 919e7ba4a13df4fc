"""Absent: what programs written for this kind of blueprint may ask for, and this version does not have yet."""

from __future__ import annotations

from collections.abc import Mapping

# By the names of handlers' arguments: such a name never stands for data that a client has sent under it.
ARGUMENTS: Mapping[str, str] = {
    "data_stores": "data stores are not there yet",
    "task_files": "files of tasks are not there yet",
    "tracing_context": "handlers are not told of traces yet",
    "webhook_url": "webhooks are not there yet",
}
