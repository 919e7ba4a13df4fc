"""The HTTP door: the shapes of all that is answered, by the names that the OpenAPI document has for them."""

from __future__ import annotations

from holon.transports.http.contracts import COMPONENTS
from holon.transports.http.node_shapes import BLUEPRINT, FIGURES, SKILL, WORKER
from holon.transports.http.shapes import EVENT, JOB, Schema
from holon.transports.http.tree_shapes import NODE


def constant(value: str) -> Schema:
    """A text that is always this."""
    return {"type": "string", "const": value}


def object_of(**properties: Schema) -> Schema:
    """An object that has all of these."""
    return {"type": "object", "properties": properties, "required": list(properties)}


def _page(name: str, shape: str) -> Schema:
    items = {"type": "array", "items": {"$ref": f"{COMPONENTS}/{shape}"}}
    return object_of(**{name: items}, next_page_token=_TOKEN)


_TOKEN: Schema = {"type": "string", "description": "the `page_token` of the next page; empty on the last page"}
# No name is that of a field of it: generators of clients would give two things one name.
SHAPES: dict[str, Schema] = {
    "Job": JOB,
    "Event": EVENT,
    "Accepted": object_of(status=constant("accepted"), job_id={"type": "string", "description": "the id of the job"}),
    "JobPage": _page("jobs", "Job"),
    "EventPage": _page("events", "Event"),
    "Node": NODE,
    "NodePage": _page("nodes", "Node"),
    "Blueprint": BLUEPRINT,
    "BlueprintPage": _page("blueprints", "Blueprint"),
    "Worker": WORKER,
    "WorkerPage": _page("workers", "Worker"),
    "Skill": SKILL,
    "SkillPage": _page("skills", "Skill"),
    "Figures": FIGURES,
    "NodeReloaded": object_of(
        status=constant("reloaded"),
        reloaded={"type": "array", "items": {"type": "string"}, "description": "the reloaded targets"},
    ),
    "WorkersReloaded": object_of(status=constant("worker_configs_reloaded")),
    "ApprovalReceived": object_of(status=constant("approval_received"), job_id={"type": "string"}),
    "SignalReceived": object_of(status=constant("signal_received"), job_id={"type": "string"}),
    "File": object_of(name={"type": "string"}, size={"type": "integer", "minimum": 0, "description": "in bytes"}),
    "FilePage": _page("files", "File"),
    "UploadUrl": object_of(
        url={"type": "string", "description": "the URL to store the file at, by PUT; a secret"},
        expires_in={"type": "integer", "description": "how many seconds the URL is valid"},
        method=constant("PUT"),
    ),
    "Uploaded": object_of(
        status=constant("uploaded"), s3_uri={"type": "string", "description": "the name of the file for handlers"}
    ),
    "DownloadUrl": object_of(url={"type": "string", "description": "the URL in `Location`; a secret"}),
    "CancelAccepted": object_of(status=constant("cancellation_request_accepted")),
}
