"""The table of errors in docs/http.md is the table of both doors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from holon import errors
from holon.errors import HolonError
from holon.transports.http.refusals import STATUSES, refusal
from holon.wire.grpc_status import code_of

PAGE = (Path(__file__).parents[2] / "docs/http.md").read_text()
ROWS = re.findall(r"^\| `(\w+)` \| (\d{3})(, with `Retry-After`)? \| `(\w+)` \| (.+) \|$", PAGE, re.MULTILINE)


def test_the_table_has_every_kind_that_clients_are_told_of() -> None:
    assert {row[0] for row in ROWS} == {kind.__name__ for kind, _ in STATUSES}


@pytest.mark.parametrize(("name", "status", "retried", "code", "codes"), ROWS)
def test_an_error_ends_a_call_on_both_doors_as_the_table_says(
    name: str, status: str, retried: str, code: str, codes: str
) -> None:
    error: HolonError = getattr(errors, name)("it is so")
    reply = refusal(error)
    assert reply is not None
    assert reply.status == int(status)
    assert (b"retry-after" in dict(reply.headers)) == bool(retried)
    assert code_of(error).name == code
    assert re.fullmatch(r"(`[A-Z_]+`(, )?)+", codes)


@pytest.mark.parametrize("kind", [HolonError, errors.ConfigError, errors.BlueprintError, errors.Unreachable])
def test_what_is_no_business_of_clients_is_not_told(kind: type[HolonError]) -> None:
    assert refusal(kind("the password is swordfish")) is None


def test_a_quota_that_is_used_up_is_told_over_http_with_the_time_of_the_next() -> None:
    reply = refusal(errors.QuotaExceeded("Quota exceeded or not configured: ann", subject="ann", retry_after=86_399.2))
    assert reply is not None
    assert (reply.status, dict(reply.headers)[b"retry-after"]) == (429, b"86400")
    assert b'"code":"QUOTA_EXCEEDED"' in reply.body
