"""Creates a job with the client of openapi-python-client, and reads it back."""

from __future__ import annotations

import json
import sys

from holon_api import AuthenticatedClient
from holon_api.api.create import create_ordering
from holon_api.api.jobs import get_job
from holon_api.models import (
    Accepted,
    CreateOrderingBody,
    Error,
    Job,
    OrderingInitialData,
    OrderingInitialDataExtra,
    OrderingInitialDataKind,
    OrderingInitialDataLine,
)


def main(url: str, token: str) -> None:
    """Print what became of the job, and the code of a refusal."""
    extra = OrderingInitialDataExtra.from_dict({"any": [1, None]})
    lines = [OrderingInitialDataLine("one", more=[OrderingInitialDataLine("two", amount=2)])]
    body = CreateOrderingBody(OrderingInitialData(OrderingInitialDataKind.NEW, lines, extra=extra))
    with AuthenticatedClient(url, token=token, prefix="", auth_header_name="X-Client-Token") as client:
        created = create_ordering.sync(client=client, body=body, idempotency_key="python")
        assert isinstance(created, Accepted), created
        job = get_job.sync(created.job_id, client=client)
        assert isinstance(job, Job), job
        refused = get_job.sync("none", client=client)
        assert isinstance(refused, Error), refused
    print(json.dumps({"id": job.id, "status": job.status, "terminal": job.terminal, "code": refused.code}))  # noqa: T201
    # A status that comes later is read like any other.
    assert Job.from_dict({"status": "waiting_for_rain"}).status == "waiting_for_rain"


if __name__ == "__main__":
    main(*sys.argv[1:])
