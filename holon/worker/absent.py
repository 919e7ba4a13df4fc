"""The worker SDK: what handlers that were written for other SDKs ask for by name, and this one calls otherwise."""

from __future__ import annotations

from collections.abc import Mapping

# By the names of arguments: whoever asks for one without a hint of what it holds means no key of the params.
ARGUMENTS: Mapping[str, str] = {
    "params_metadata": "a task brings no metadata of files; give `files.download` their `size` and `sha256`",
    "priority": "the node already sends tasks in the order of their priority, and does not send the priority",
    "send_progress": "use the argument `progress`: `progress(percent, message)`",
    "task_files": "use the argument `files`: a folder for the task, and files by URL",
    "tracing_context": "use the current span of OpenTelemetry, if it is installed",
}
