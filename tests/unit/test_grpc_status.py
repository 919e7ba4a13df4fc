"""Errors on the wire: their status, their details, and the room that they may take."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2

from holon import errors
from holon.errors import HolonError, InvalidArgument, QuotaExceeded, StoreUnavailable, Violation
from holon.wire.grpc_status import code_of, error_of, status_of, told

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, HolonError)]


def detail(error: HolonError, kind: type[Message]) -> Message | None:
    for one in status_of(error).details:
        found = kind()
        if one.Unpack(found):
            return found
    return None


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_error_has_a_status_and_its_code(kind: type[HolonError]) -> None:
    error = kind("a sentence")
    assert code_of(error) is not grpc.StatusCode.OK
    info = detail(error, error_details_pb2.ErrorInfo)
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain) == (kind.code, "holon")


def test_fields_and_the_time_to_wait_are_told_in_both_shapes() -> None:
    error = StoreUnavailable("away", details=[Violation("a.b", "is odd")], retry_after=1.25)
    bad, retry = detail(error, error_details_pb2.BadRequest), detail(error, error_details_pb2.RetryInfo)
    assert isinstance(bad, error_details_pb2.BadRequest)
    assert [(one.field, one.description) for one in bad.field_violations] == [("a.b", "is odd")]
    assert isinstance(retry, error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() == 1250
    inside = error_of(error)
    assert (inside.code, inside.reason, inside.message) == (14, "STORE_UNAVAILABLE", "away")
    assert [(one.field, one.reason) for one in inside.field_violations] == [("a.b", "is odd")]
    assert inside.retry_after.ToMilliseconds() == 1250


def test_a_wait_of_no_time_is_still_a_wait_to_who_reads_no_empty_messages() -> None:
    assert error_of(StoreUnavailable("away", retry_after=0)).retry_after.ToMilliseconds() == 1


def test_a_quota_that_is_used_up_says_whose_and_when_there_is_more() -> None:
    error = QuotaExceeded("no more", subject="ann", retry_after=60)
    failure, retry = detail(error, error_details_pb2.QuotaFailure), detail(error, error_details_pb2.RetryInfo)
    assert isinstance(failure, error_details_pb2.QuotaFailure)
    assert [(one.subject, one.description) for one in failure.violations] == [("client:ann", "no more")]
    assert isinstance(retry, error_details_pb2.RetryInfo)
    assert retry.retry_delay.seconds == 60


def test_an_error_that_repeating_does_not_help_says_nothing_of_waiting() -> None:
    assert detail(InvalidArgument("no"), error_details_pb2.RetryInfo) is None
    assert not error_of(InvalidArgument("no")).HasField("retry_after")


@pytest.mark.parametrize("letter", ["x", "ы", "\N{PILE OF POO}", "\ud800"])
def test_a_long_error_in_any_alphabet_fits_into_what_clients_read_of_trailers(letter: str) -> None:
    error = InvalidArgument(letter * 100_000, details=[Violation(letter * 5_000, letter * 5_000)] * 1_000)
    status = status_of(error)
    in_trailers = 3 * len(status.message.encode()) + 4 * status.ByteSize() // 3
    assert in_trailers < 8 * 1024
    assert status.message


def test_an_unexpected_exception_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    error = told(RuntimeError("the secret"), "GetJob")
    assert code_of(error) is grpc.StatusCode.INTERNAL
    assert "secret" not in error.message
    assert "GetJob" in caplog.text
    assert "the secret" in caplog.text


def test_an_error_of_the_operators_is_not_the_callers_business(caplog: pytest.LogCaptureFixture) -> None:
    assert "file" not in told(errors.ConfigError("a file of the node"), "GetJob").message
    assert "a file of the node" in caplog.text


def test_an_expected_error_is_told_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    error = InvalidArgument("yours")
    assert told(error, "GetJob") is error
    assert not caplog.records
