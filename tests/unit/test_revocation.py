"""Lists of revoked certificates are taken only where an authority of ours signed them, and whole."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from holon.clock import SystemClock
from holon.errors import ConfigError
from holon.security.certificates import Authority, open_authority
from holon.security.revocation import RevocationList, load_lists
from tests.integration.worker_certificates import certificate_of, issue, revoke


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return open_authority(tmp_path / "ours")


def load(path: Path, *authorities: Authority) -> tuple[RevocationList, ...]:
    return load_lists(str(path), [one.certificate for one in authorities], SystemClock().now_ms())


def refusal(path: Path, *authorities: Authority) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, *authorities)
    assert {one.field for one in caught.value.details} == {"TLS_CRL_PATH"}
    return str(caught.value)


def test_lists_are_read_from_a_file_or_a_folder_in_either_form(authority: Authority, tmp_path: Path) -> None:
    other = open_authority(tmp_path / "other")
    files = [issue(tmp_path, authority), issue(tmp_path, other)]
    folder = tmp_path / "lists"
    folder.mkdir()
    first = revoke(folder / "a.pem", authority, files[0])
    second = revoke(folder / "b.crl", other, files[1])
    second.write_bytes(x509.load_pem_x509_crl(second.read_bytes()).public_bytes(Encoding.DER))
    found = load(folder, authority, other)
    assert [one.serials for one in found] == [{certificate_of(one).serial_number} for one in files]
    both = tmp_path / "both.pem"
    both.write_bytes(first.read_bytes() + revoke(folder / "b.crl", other).read_bytes())
    assert len(load(both, authority, other)) == 2


def test_of_several_lists_of_an_authority_the_newest_counts(authority: Authority, tmp_path: Path) -> None:
    files = issue(tmp_path, authority)
    (tmp_path / "lists").mkdir()
    revoke(tmp_path / "lists/a", authority, files, age=timedelta(minutes=5))
    revoke(tmp_path / "lists/b", authority, age=timedelta(days=2))
    assert [len(one.serials) for one in load(tmp_path / "lists", authority)] == [1]


def test_a_list_of_another_or_a_forged_one_is_refused(authority: Authority, tmp_path: Path) -> None:
    other = open_authority(tmp_path / "other")
    assert "not signed by an authority" in refusal(revoke(tmp_path / "crl.pem", other), authority)
    forged = Authority(other.files, authority.certificate, other.key)
    assert "not signed by an authority" in refusal(revoke(tmp_path / "crl.pem", forged), authority)


def test_a_list_of_changes_only_or_of_tomorrow_is_refused(authority: Authority, tmp_path: Path) -> None:
    delta = (x509.DeltaCRLIndicator(1), True)
    assert "unsupported" in refusal(revoke(tmp_path / "crl.pem", authority, extensions=[delta]), authority)
    early = revoke(tmp_path / "crl.pem", authority, age=timedelta(hours=-1))
    assert "compare the clocks" in refusal(early, authority)


@pytest.mark.parametrize("noise", [b"", b"noise", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_list_is_refused_and_named(authority: Authority, tmp_path: Path, noise: bytes) -> None:
    path = tmp_path / "crl.pem"
    path.write_bytes(noise)
    assert str(path) in refusal(path, authority)


def test_a_damaged_list_is_refused_and_nothing_else_is_raised(authority: Authority, tmp_path: Path) -> None:
    path = revoke(tmp_path / "crl.pem", authority, issue(tmp_path, authority))
    der = x509.load_pem_x509_crl(path.read_bytes()).public_bytes(Encoding.DER)
    for position in range(0, len(der), 3):
        damaged = bytearray(der)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        refusal(path, authority)


def test_a_list_that_every_user_can_change_or_that_is_no_file_is_refused(authority: Authority, tmp_path: Path) -> None:
    """Else anybody on the machine puts an older list there, which is signed as well, without what came since."""
    path = revoke(tmp_path / "crl.pem", authority)
    path.chmod(0o666)
    assert "chmod 644" in refusal(path, authority)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "not a regular file" in refusal(pipe, authority)


def test_nothing_there_is_refused(authority: Authority, tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path / "none", authority)
    (tmp_path / "empty").mkdir()
    assert "empty folder" in refusal(tmp_path / "empty", authority)
