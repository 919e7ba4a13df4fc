"""Certificates, keys and authorities of any bytes: noise, and good ones with damage at one place after another."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holon.clock import ManualClock, SystemClock
from holon.errors import ConfigError, Unauthenticated
from holon.security.certificates import issue_server, open_authority
from holon.security.identity import identify
from holon.security.tls import TlsPaths
from holon.security.tls_files import TlsFiles

DURING_MS = int(datetime(2026, 1, 2, tzinfo=UTC).timestamp() * 1000)


@given(st.binary(max_size=200))
@example(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
def test_bytes_that_are_no_certificate_are_refused_and_nothing_else_is_raised(noise: bytes) -> None:
    with pytest.raises(Unauthenticated) as caught:
        identify(noise).check(DURING_MS)
    assert caught.value.code in {"CERTIFICATE_INVALID", "NO_CERTIFICATE"}


@pytest.mark.parametrize("name", ["certificate", "key", "authorities"])
def test_a_damaged_file_is_refused_or_serves_and_nothing_else_is_raised(tmp_path: Path, name: str) -> None:
    authority = open_authority(tmp_path)
    pair = issue_server(authority, tmp_path)
    files = authority.files
    paths = TlsPaths(str(pair.certificate), str(pair.key), str(files.certificate))
    file = Path(getattr(paths, name))
    first, *middle, last = file.read_text().splitlines()
    good = base64.b64decode("".join(middle))
    refused = 0
    for position in range(0, len(good), 4):
        damaged = bytearray(good)
        damaged[position] ^= 0x41
        file.write_text("\n".join((first, base64.encodebytes(damaged).decode().strip(), last, "")))
        try:
            TlsFiles(paths, ManualClock(SystemClock().now_ms()))
        except ConfigError:
            refused += 1
    assert refused > len(good) / 20
