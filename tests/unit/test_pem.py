"""When a certificate expires, read without the libraries that the worker SDK does without."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from holon.security.certificates import open_authority
from holon.wire.pem import expiry_of
from tests.integration.worker_certificates import issue


@pytest.mark.parametrize("days", [-0.002, 1, 40 * 365])
def test_the_end_of_the_first_certificate_of_a_file_is_read(tmp_path: Path, days: float) -> None:
    authority = open_authority(tmp_path)
    # From 2050 on, certificates write times in another way.
    pair = issue(tmp_path, authority, lasts=timedelta(days=days), above=[authority.files.certificate])
    found = expiry_of(pair.certificate.read_bytes())
    assert found is not None
    assert abs(found - datetime.now(UTC) - timedelta(days=days)) < timedelta(minutes=1)


def test_of_what_is_no_certificate_nothing_is_said(tmp_path: Path) -> None:
    whole = open_authority(tmp_path).files.certificate.read_bytes()
    begin, end = b"-----BEGIN CERTIFICATE-----\n", b"-----END CERTIFICATE-----\n"
    for text in (b"", b"no certificate", whole[:200], begin + end, begin + b"MAA=\n" + end, begin + b"\xff" + end):
        assert expiry_of(text) is None
