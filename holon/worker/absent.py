"""The worker SDK: what handlers that were written for other SDKs ask for by name, and this one calls otherwise."""

from __future__ import annotations

from collections.abc import Mapping

# By the names of arguments: whoever asks for one without a hint of what it holds means no key of the params.
ARGUMENTS: Mapping[str, str] = {
    "params_metadata": "nothing is told of files beside the params; give `files.download` their `size` and `sha256`",
    "priority": "the node gives out what is more urgent first, and no task tells its priority",
    "send_progress": "it is called `progress` here: `progress(percent, message)`",
    "task_files": "it is called `files` here: a folder of the task's own, and files by URLs",
    "tracing_context": "the span of the task is the current one of OpenTelemetry, where that is installed",
}
